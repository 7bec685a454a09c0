"""The chapter of `mcts`: search trees choose a model of CO2's growth, and every step is a job.

A model is a path through four choices. A descent ends in a whole model, filled up at random below the known part of the tree,
which predicts one year drawn at random, unseen by its fit. The score goes back up the tree.
"""

from functools import partial
from typing import Final

import numpy as np

from contract.mcts import ucb1_selection
from gristmill.demo import pictures
from gristmill.demo.chapter import Chapter, Picture, Size, Table
from gristmill.demo.forest import Tree, descend, merged, most_visited
from gristmill.demo.mill import Mill
from gristmill.demo.models import CONSTANT, LEVELS, Models, Path, all_paths, describe
from gristmill.demo.series import Data

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
    num_jobs = mill.accounts[ucb1_selection.name].num_jobs
    num_scores = size.num_trees * size.num_descents
    return Chapter(
        operation=ucb1_selection.name,
        question=QUESTION,
        work=(
            f"{num_jobs:,} jobs, each a batch of trees that asks for its next step: {size.num_trees} "
                f"trees descended {size.num_descents} times."
        ),
        findings=findings(models, means, ranked, choice, num_scores),
        table=table(models, ranked, choice),
        pictures=(
            Picture(
                name="tree",
                caption=(
                    "The merged tree: the wider a choice, the more often it was made; the darker, the higher the mean score "
                    "that came back through it."
                ),
                size=(10.0, 5.6),
                draw=partial(pictures.tree, tree=whole, choice=choice),
            ),
            Picture(
                name="growth",
                caption="Measured growth of CO2, the chosen model, and the same model without El Niño.",
                size=(10.0, 4.2),
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


def without_nino(path: Path) -> Path:
    """Return the same model without El Niño."""
    return (0, 0, *path[2:])


def without_sun(path: Path) -> Path:
    """Return the same model without the Sun."""
    return (*path[:3], 0)


def findings(
    models: Models, means: dict[Path, float], ranked: list[Path], choice: Path, num_scores: int
) -> tuple[str, ...]:
    """Say what was chosen, what its parts are worth, and how near to the best it came."""
    num_models = len(means)
    constant, best, bare, found = (
        _error(models, path) for path in (CONSTANT, ranked[0], without_nino(choice), choice)
    )
    sunless = means[without_sun(choice)]
    sun = "gains nothing by the Sun" if sunless >= means[choice] else "gains by the Sun"
    return (
        f"Chosen: {', '.join(word for word in describe(choice) if word != '—')}. Its typical error in an unseen year is {found:.2f} ppm a year; without "
        f"El Niño {bare:.2f}, for a constant {constant:.2f}.",
        f"The model {sun}: {means[choice]:.3f} with its choice, {sunless:.3f} without the Sun "
        "(mean score; 0.5 is a constant's).",
        f"The trees saw {num_scores:,} scores of one year, {num_scores / (num_models * models.years.size):.0%} of all. Checked "
        f"afterwards against all {num_models:,} models in all {models.years.size} years, their choice ranks "
        f"{ranked.index(choice) + 1}: {means[choice]:.3f} against {means[ranked[0]]:.3f} for the best ({best:.2f} ppm a year).",
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
