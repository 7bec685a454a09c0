"""The pictures of the demo's report, each a function that fills an empty figure."""

from collections.abc import Mapping, Sequence
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
        axes.fill_between(middle, low, high, color=hue, alpha=0.2, lw=0, label="5% to 95%")
        axes.fill_between(middle, quarter, three, color=hue, alpha=0.45, lw=0, label="25% to 75%")
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
        axes.fill_between(delays, 0, 100 * chance, color="0.88", label="95% of shifted copies")
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
        middle = (block + 0.5) / 2
        down, right = (f"windows of {name},\nby their first month" for name in names[block:][:2])
        style: Any = {"xycoords": "axes fraction", "multialignment": "center"}
        axes.annotate(down, (-0.09, 1 - middle), rotation=90, va="center", ha="right", **style)
        axes.annotate(right, (middle, -0.08), va="top", ha="center", **style)
    # Below the diagonal of blocks nothing is left to show.
    said = "the Sun is not compared\nwith itself"
    axes.annotate(said, (0.25, 0.25), ha="center", va="center", color="0.45", **style)
    axes.set_title("Connections between windows of different series")


def regret(figure: "Figure", outcomes: "Outcomes", replays: Sequence["Replay"]) -> None:
    """Draw the regret of each policy over the months, and how often it trusted each rule."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for number, (replay, hue) in enumerate(zip(replays, _POLICY_HUES, strict=True)):
        median = np.median(replay.regret, axis=0)
        left.plot(outcomes.times, median, color=hue, label=replay.name)
        # Beside each other behind the last month, where no range hides another.
        place = outcomes.times[-1] + np.timedelta64(12 * (6 + 6 * number), "M")
        ends = replay.regret[:, -1]
        left.plot([place], median[-1:], "o", ms=4, color=hue)
        if ends.size > 1:
            left.vlines([place], ends.min(), ends.max(), color=hue, lw=2.5)
    halves = [time for time in outcomes.times if str(time).endswith(("00-01", "50-01"))]
    left.set_xticks(halves, [str(time)[:4] for time in halves])  # none for years to come
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
        f"{rule}\n(right in {hit:.0f}%)" for rule, hit in zip(outcomes.rules, hits, strict=True)
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
    """Draw the merged search tree along the chosen path, and the best score with each option."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 1))[:, 0]
    axes = above.subplots()
    shades = ScalarMappable(Normalize(LEAST_SCORE, MOST_SCORE), colormaps["YlGnBu"])
    for level in range(len(LEVELS)):
        _opened(axes, tree, choice[: level + 1], shades)
    axes.set(xlim=(0, 100), ylim=(len(LEVELS), 0))
    axes.set(xlabel="share of the descents through the outlined choice above, %")
    axes.set_yticks(np.arange(len(LEVELS)) + 0.5, _level_labels())
    axes.grid(visible=False)
    axes.set_title("Where the trees went: each row opens the outlined choice of the row above")
    above.colorbar(shades, ax=axes, label="mean score (0.5: a constant's)", extend="both")
    panels = below.subplots(1, len(LEVELS), sharey=True, width_ratios=(13, 6, 8, 7))
    for level, panel in enumerate(panels):
        _by_option(panel, level, best_scores[level])
    panels[0].set(ylabel="mean score", title="Checked afterwards: the best model with each option")


def _level_labels() -> list[str]:
    return [level if level == "trend" else f"{level}\n(months)" for level in LEVELS]


#: Height of a row of cells, in levels; the rest leads from the outlined cell to the next row.
_ROW: Final = 0.66


def _opened(axes: "Axes", tree: "Tree", chosen: Path, shades: "ScalarMappable") -> None:
    """Draw the choices beside the last one of `chosen`, and lead from it to the row below."""
    node, level = tree.nodes[chosen[:-1]], len(chosen) - 1
    shares = 100 * node.visits / max(1, node.visits.sum())  # few descents may not come this far
    starts = np.cumsum(shares) - shares
    bottom = level + (1 + _ROW) / 2
    for child in np.flatnonzero(node.visits).tolist():
        score = float(node.value_sums[child] / node.visits[child])
        red, green, blue, _ = shades.cmap((score - LEAST_SCORE) / (MOST_SCORE - LEAST_SCORE))
        start, width, outlined = float(starts[child]), float(shares[child]), child == chosen[-1]
        cell = axes.barh(level + 0.5, width, _ROW, start, color=(red, green, blue))
        cell.patches[0].set(edgecolor="black" if outlined else "white", lw=2 if outlined else 0.8)
        cell.patches[0].set_zorder(3 if outlined else 2)
        words = f"{describe((*chosen[:-1], child))[-1]}\n{width:.0f}%"
        ink = "white" if red + green + blue < 1.5 else "black"
        place: Any = {"ha": "center", "va": "center", "clip_on": True}
        axes.text(start + width / 2, level + 0.5, words, place, color=ink, fontsize=8, zorder=4)
        if outlined and level + 1 < len(LEVELS):
            corners = [start, start + width, 100.0, 0.0]
            below = bottom + 1 - _ROW
            axes.fill(corners, [bottom, bottom, below, below], color="0.93", zorder=1, lw=0)


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
