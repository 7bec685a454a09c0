"""The pictures of the demo's report, each a function that fills an empty figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gristmill.demo.models import LEVELS, OPTIONS, Path, describe

# The functions import matplotlib when they draw: where it keeps its cache is settled by then.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from contract.analytics import BasicStatisticsResult
    from contract.fusion import ConnectionDiscoveryResult
    from gristmill.demo.forest import Tree
    from gristmill.demo.fusion import Ties
    from gristmill.demo.optimization import Outcomes, Replay
    from gristmill.demo.series import Series

#: One hue for each series wherever it appears: CO2, El Niño, the Sun.
CO2, NINO, SUN = "#0f766e", "#b91c1c", "#b45309"

_HUES: Final = (CO2, NINO, SUN)

#: Hues of the policies, in their order; the last is the yardstick's.
_POLICY_HUES: Final = ("#1d4ed8", "#0f766e", "#b45309", "#9333ea", "#6b7280")

#: What the series are, in full.
_TITLES: Final = {
    "CO2": "CO2 in the air at Mauna Loa, by week",
    "Niño 3.4": "Sea surface temperature in the region Niño 3.4, departure from the month's normal",
    "Sunspots": "Sunspot number, by month",
}

#: Scores between which the shades of the tree run: a constant's, and one that few choices reach.
LEAST_SCORE, MOST_SCORE = 0.5, 0.65

#: What every picture is drawn with, whatever the user's own settings say.
STYLE: Final[dict[str, Any]] = {
    "figure.facecolor": "white",
    "figure.dpi": 144,
    "savefig.dpi": 144,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def years(
    figure: "Figure",
    series: Sequence["Series"],
    yearly: Mapping[str, Mapping[int, "BasicStatisticsResult"]],
    decades: Mapping[int, "BasicStatisticsResult"],
) -> None:
    """Draw the percentiles of each year of each series, and the growth of CO2 by decade."""
    *above, below = figure.subplots(len(series) + 1)
    for axes, each, hue in zip(above, series, _HUES, strict=True):
        results = yearly[each.name]
        middle = np.array(list(results)) + 0.5
        low, quarter, median, three, high = np.array([r.percentiles for r in results.values()]).T
        axes.fill_between(middle, low, high, color=hue, alpha=0.2, lw=0, label="5 % to 95 %")
        axes.fill_between(middle, quarter, three, color=hue, alpha=0.45, lw=0, label="25 % to 75 %")
        axes.plot(middle, median, color=hue, lw=1.2, label="median of the year")
        axes.set(
            title=_TITLES[each.name], ylabel=each.unit or "spots", xlim=(middle[0], middle[-1])
        )
    above[0].legend(loc="upper left")
    above[-1].set(xlabel="year")
    _decades(below, decades)


def _decades(axes: "Axes", decades: Mapping[int, "BasicStatisticsResult"]) -> None:
    names = [f"{decade}s" for decade in decades]
    means = [result.mean for result in decades.values()]
    errors = [result.sem for result in decades.values()]
    axes.bar(names, means, yerr=errors, color=CO2, alpha=0.7, width=0.5, capsize=5)
    axes.grid(visible=False, axis="x")
    axes.set(title="Growth of CO2 by decade, mean and standard error", ylabel="ppm a year")


def delays(figure: "Figure", ties: Sequence["Ties"], delays: NDArray[np.int64]) -> None:
    """Draw how often windows are connected by delay, against what chance reaches."""
    panels = figure.subplots(1, len(ties), sharey=True)
    for axes, tie, hue in zip(panels, ties, _HUES[1:], strict=True):
        chance = np.quantile(tie.by_chance, 0.95, axis=0)
        axes.fill_between(delays, 0, 100 * chance, color="0.88", label="95 % of shifted copies")
        axes.plot(delays, 100 * tie.shares, color=hue, lw=2, label="the record")
        axes.axvline(0, color="0.4", lw=0.8)
        name = tie.name[0].upper() + tie.name[1:]
        axes.set(title=f"{name} and the growth of CO2 (p = {tie.chance:.2f})")
        axes.set(xlabel="months by which the growth comes later", xlim=(delays[0], delays[-1]))
        axes.legend(loc="upper left")
    panels[0].set(ylabel="connected windows, %", ylim=(0, None))


def connections(
    figure: "Figure", result: "ConnectionDiscoveryResult", starts: NDArray[np.datetime64]
) -> None:
    """Draw the matrix of windows, its blocks named by series and its ticks by year."""
    from gristmill.plots import plot

    axes = figure.subplots()
    plot(result, axes)
    names = ("El Niño", "the Sun", "the growth of CO2")
    decades = [index for index, month in enumerate(starts) if str(month).endswith("0-01")]
    ticks = [block * starts.size + index for block in range(3) for index in decades]
    labels = [str(starts[tick % starts.size])[:4] for tick in ticks]
    axes.set_xticks(ticks, labels, rotation=90, fontsize=8)
    axes.set_yticks(ticks, labels, fontsize=8)
    for edge in (starts.size, 2 * starts.size):
        axes.axhline(edge - 0.5, color="0.3", lw=0.8)
        axes.axvline(edge - 0.5, color="0.3", lw=0.8)
    axes.set(xlim=(starts.size - 0.5, None), ylim=(2 * starts.size - 0.5, -0.5))
    axes.set(xlabel="", ylabel="")
    for block in (0, 1):
        axes.annotate(
            f"windows of {names[block]}, by their first month",
            (-0.09, 1 - (block + 0.5) / 2),
            xycoords="axes fraction",
            rotation=90,
            va="center",
            ha="right",
        )
        axes.annotate(
            f"windows of {names[block + 1]}",
            ((block + 0.5) / 2, -0.08),
            xycoords="axes fraction",
            ha="center",
            va="top",
        )
    axes.set_title("Connections between windows of different series")


def regret(figure: "Figure", outcomes: "Outcomes", replays: Sequence["Replay"]) -> None:
    """Draw the regret of each policy over the months, and how often it trusted each rule."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for replay, hue in zip(replays, _POLICY_HUES, strict=True):
        mean, low, high = (
            replay.regret.mean(axis=0),
            replay.regret.min(axis=0),
            replay.regret.max(axis=0),
        )
        left.fill_between(outcomes.times, low, high, color=hue, alpha=0.15, lw=0)
        left.plot(outcomes.times, mean, color=hue, label=replay.name)
    left.legend(loc="upper left")
    left.set(
        title="Regret against the best rule in hindsight",
        ylabel="hits missed so far",
        xlabel="year",
    )
    _trust(right, outcomes, replays)


def _trust(axes: "Axes", outcomes: "Outcomes", replays: Sequence["Replay"]) -> None:
    trust = 100 * np.array([replay.trust for replay in replays]).T
    axes.imshow(trust, cmap="Blues", aspect="auto", vmin=0, vmax=100)
    for (rule, policy), share in np.ndenumerate(trust):
        axes.text(
            policy,
            rule,
            f"{share:.0f}",
            ha="center",
            va="center",
            color="white" if share > 55 else "black",
        )
    hits = 100 * outcomes.paid.mean(axis=0)
    rules = [
        f"{rule}\n(right in {hit:.0f} %)" for rule, hit in zip(outcomes.rules, hits, strict=True)
    ]
    axes.set_yticks(range(len(rules)), rules, fontsize=8)
    axes.set_xticks(
        range(len(replays)),
        [replay.name.replace("_", "_\n").replace(" ", "\n") for replay in replays],
        fontsize=8,
    )
    axes.grid(visible=False)
    axes.set(title="Months in which a rule was trusted, %")


def tree(
    figure: "Figure", tree: "Tree", choice: Path, best_scores: Sequence[Sequence[float]]
) -> None:
    """Draw the merged search tree as layers of cells, and the best score with each option."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.5, 1))[:, 0]
    axes = above.subplots()
    shades = ScalarMappable(Normalize(LEAST_SCORE, MOST_SCORE), colormaps["YlGnBu"])
    _layer(_Layers(axes, tree, choice, shades), (), 0.0, 100.0)
    axes.set(xlim=(0, 100), ylim=(len(LEVELS), 0), xlabel="share of all descents, %")
    axes.set_yticks(np.arange(len(LEVELS)) + 0.5, _level_labels())
    axes.grid(visible=False)
    axes.set_title("Where the trees went")
    above.colorbar(shades, ax=axes, label="mean score (0.5: a constant's)", extend="both")
    panels = below.subplots(1, len(LEVELS), sharey=True, width_ratios=(13, 6, 6, 7))
    for level, panel in enumerate(panels):
        _by_option(panel, level, best_scores[level])
    panels[0].set(ylabel="mean score", title="Checked afterwards: the best model with each option")


def _level_labels() -> list[str]:
    return [level if level == "trend" else f"{level}\n(months)" for level in LEVELS]


@dataclass(frozen=True)
class _Layers:
    """What the cells of a tree are drawn with."""

    axes: "Axes"
    tree: "Tree"
    choice: Path
    shades: "ScalarMappable"


def _layer(layers: _Layers, path: Path, left: float, width: float) -> None:
    """Draw the choices below `path` side by side, and what is below each of them."""
    node = layers.tree.nodes.get(path)
    if node is None or not node.visits.any() or width < 0.2:
        return
    shares = width * node.visits / node.visits.sum()
    for child in np.flatnonzero(node.visits).tolist():
        score = node.value_sums[child] / node.visits[child]
        start = left + float(shares[:child].sum())
        _cell(layers, (*path, child), start, float(shares[child]), float(score))
        _layer(layers, (*path, child), start, float(shares[child]))


def _cell(layers: _Layers, path: Path, left: float, width: float, score: float) -> None:
    red, green, blue, _ = layers.shades.cmap((score - LEAST_SCORE) / (MOST_SCORE - LEAST_SCORE))
    middle, center = len(path) - 0.5, left + width / 2
    chosen = layers.choice[: len(path)] == path
    cell = layers.axes.barh(middle, width, 0.94, left, color=(red, green, blue))
    cell.patches[0].set(edgecolor="black" if chosen else "white", lw=1.6 if chosen else 0.4)
    cell.patches[0].set_zorder(3 if chosen else 2)
    words = describe(path)[-1]
    if width > 0.9 * len(words):
        ink = "white" if red + green + blue < 1.5 else "black"
        place = {"ha": "center", "va": "center"}
        layers.axes.text(center, middle, words, place, color=ink, fontsize=8, zorder=4)


def _by_option(axes: "Axes", level: int, scores: Sequence[float]) -> None:
    """Draw the best score that a model reaches with each option of a level."""
    options = ["none" if option is None else str(option) for option in OPTIONS[level]]
    axes.plot(options, scores, "o", ms=5, color=CO2)
    axes.axhline(LEAST_SCORE, color="0.4", lw=0.8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set(xlabel=_level_labels()[level].replace("\n", " "))


def growth(
    figure: "Figure", growth: "Series", chosen: NDArray[np.float64], without: NDArray[np.float64]
) -> None:
    """Draw the measured growth of CO2 and what two models say of it."""
    axes = figure.subplots()
    axes.plot(growth.times, growth.values, color="0.55", lw=1, label="measured")
    axes.plot(
        growth.times,
        without,
        color="0.25",
        lw=1.5,
        ls="--",
        label="the chosen model without El Niño",
    )
    axes.plot(growth.times, chosen, color=NINO, lw=2, label="the chosen model")
    axes.set(
        title="Growth of CO2 over the year around each month", ylabel=growth.unit, xlabel="year"
    )
    axes.legend(loc="upper left")
