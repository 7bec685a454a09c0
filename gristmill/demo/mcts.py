"""The chapter of `mcts`: search trees choose a model of CO2's growth, and every step is a job.

A model is a path through four choices. A descent leaves the known part of a tree with one new
choice and fills up the rest at random; the model then predicts one year, drawn at random, that its
fit has not seen. The score goes back up the tree.
"""

from functools import partial
from typing import Final

import numpy as np

from contract.mcts import ucb1_selection
from gristmill.demo import pictures
from gristmill.demo.chapter import Chapter, Picture, Size, Table
from gristmill.demo.forest import Tree, descend, merged, most_visited
from gristmill.demo.mill import Mill
from gristmill.demo.models import (
    CONSTANT,
    LEVELS,
    OPTIONS,
    SUN_DELAYS,
    Models,
    Path,
    all_paths,
    describe,
    in_words,
)
from gristmill.demo.series import Data, sources

OPERATION: Final = ucb1_selection
QUESTION: Final = "What explains the growth of CO2 in years that a model has not seen?"

#: Key of the random numbers of the search.
SEED: Final = 1958


def tell(mill: Mill, data: Data, size: Size) -> Chapter:
    """Search, then compute every model's score to see how near the search came."""
    models = Models(data)
    trees = search(mill, models, size)
    whole = merged(trees)
    choice = most_visited(whole)
    means = {path: float(models.scores(path).mean()) for path in all_paths()}
    ranked = sorted(means, key=lambda path: -means[path])
    source = sources(data.co2, data.nino, data.sunspots)
    num_jobs = mill.accounts[ucb1_selection.name].num_jobs
    num_scores = size.num_trees * size.num_descents
    return Chapter(
        operation=OPERATION.name,
        question=QUESTION,
        work=(
            f"{num_jobs:,} jobs, each a batch of trees that asks for its next step: "
            f"{size.num_trees} trees descended {size.num_descents} times."
        ),
        findings=findings(models, means, ranked, choice, num_scores),
        table=table(models, ranked, choice),
        pictures=(
            Picture(
                name="tree",
                caption=(
                    "Above, the merged tree along the chosen path, which is outlined: the wider a "
                    "choice, the more often it was made; the darker, the higher the mean score "
                    "that came back through it. Below, from all models: the best mean score with "
                    "each option."
                ),
                source=source,
                size=(10.0, 7.0),
                draw=partial(
                    pictures.tree, tree=whole, choice=choice, best_scores=best_by_option(means)
                ),
            ),
            Picture(
                name="growth",
                caption=(
                    "Measured growth of CO2, the chosen model, and the same model without El "
                    "Niño. None of the models knows of volcanoes: the low growth after "
                    "Pinatubo's eruption in June 1991 is beyond them."
                ),
                source=source,
                size=(10.0, 4.4),
                draw=partial(
                    pictures.growth,
                    growth=data.growth,
                    chosen=models.predictions(choice),
                    without=models.predictions(without_nino(choice)),
                ),
            ),
        ),
    )


def search(mill: Mill, models: Models, size: Size) -> list[Tree]:
    """Descend every tree `num_descents` times; return the trees."""
    trees = [Tree(np.random.default_rng([SEED, number])) for number in range(size.num_trees)]
    # As many batches as workers, so that each has something to do.
    batches = [trees[first :: mill.num_workers] for first in range(mill.num_workers)]
    fetch = partial(mill.fetch, ucb1_selection)
    label = f"{size.num_trees} trees search"
    with mill.watched(ucb1_selection, label, size.num_descents, "descents") as advance:
        for _ in range(size.num_descents):
            for batch, paths in zip(batches, descend(batches, fetch), strict=True):
                for tree, path in zip(batch, paths, strict=True):
                    model = tree.filled_up(path)
                    tree.back_up(model, len(path), float(tree.rng.choice(models.scores(model))))
            advance(1)
    return trees


def best_by_option(means: dict[Path, float]) -> list[list[float]]:
    """Return the best mean score of the models that have each option, level by level."""
    return [
        [max(means[path] for path in means if path[level] == option) for option in range(len(each))]
        for level, each in enumerate(OPTIONS)
    ]


def without_nino(path: Path) -> Path:
    """Return the same model without El Niño."""
    return (0, 0, *path[2:])


def findings(
    models: Models, means: dict[Path, float], ranked: list[Path], choice: Path, num_scores: int
) -> tuple[str, ...]:
    """Say what was chosen, what its parts are worth, and how near to the best it came."""
    found, bare, plain = (_error(models, path) for path in (choice, without_nino(choice), CONSTANT))
    best = models.scores(ranked[0])
    spread = float(best.std(ddof=1) / np.sqrt(best.size))
    near = sum(mean >= best.mean() - spread for mean in means.values())
    chosen = (
        f"Chosen: {in_words(choice)}. Its error in an unseen year is {found:.2f} ppm a year (root "
        f"mean square); without El Niño {bare:.2f}, for a constant {plain:.2f}."
    )
    check = (
        f"The search saw {num_scores:,} scores of one year, "
        f"{num_scores / len(means) / best.size:.0%} of all there are. Among all {len(means):,} "
        f"models, computed afterwards, its choice has rank {ranked.index(choice) + 1} with a "
        f"score of {means[choice]:.3f}; the best has {best.mean():.3f} ± {spread:.3f}, and "
        f"{near} models are as good within that error."
    )
    return chosen, _worth_of_the_sun(means, choice), check


def _worth_of_the_sun(means: dict[Path, float], choice: Path) -> str:
    without, *others = (means[*choice[:3], sun] for sun in range(len(SUN_DELAYS)))
    worth = "adds something" if max(others) > without else "adds nothing"
    return (
        f"The Sun {worth}: the chosen model scores {without:.3f} without it and {max(others):.3f} "
        f"with it, at the best of {len(others)} delays (0.5 is a constant's score)."
    )


def _error(models: Models, path: Path) -> float:
    return float(np.sqrt(models.errors(path).mean()))


def table(models: Models, ranked: list[Path], choice: Path) -> Table:
    """Return the best models, the chosen one and the constant."""
    shown = [*ranked[:3], choice, without_nino(choice), CONSTANT]
    rows = []
    for path in sorted(dict.fromkeys(shown), key=ranked.index):
        marks = {choice: "chosen", CONSTANT: "constant"}
        scores = models.scores(path)
        rows.append(
            (
                f"{ranked.index(path) + 1} {marks.get(path, '')}".strip(),
                *describe(path),
                f"{scores.mean():.3f}",
                f"{_error(models, path):.2f}",
            )
        )
    columns = ("rank", *LEVELS, "score", "error")
    return Table(title="Models by mean score in unseen years", columns=columns, rows=tuple(rows))
