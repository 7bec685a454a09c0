"""The pictures of the demo's report, each a function that fills an empty figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from contract.analytics import BasicStatisticsResult
    from contract.fusion import ConnectionDiscoveryResult
    from gristmill.demo.forest import Tree
    from gristmill.demo.fusion import Ties
    from gristmill.demo.models import Path
    from gristmill.demo.optimization import Outcomes, Replay
    from gristmill.demo.series import Series

#: One hue for each series wherever it appears: CO2, El Niño, the Sun. Told apart by the colour-blind too.
CO2, NINO, SUN = "#0f766e", "#b91c1c", "#b45309"

_HUES: Final = (CO2, NINO, SUN)

#: Hues of the policies, in their order; the last is the yardstick's.
_POLICY_HUES: Final = ("#1d4ed8", "#0f766e", "#b45309", "#9333ea", "#6b7280")

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
        axes.set(title=each.name, ylabel=each.unit or "spots", xlim=(middle[0], middle[-1]))
    above[0].legend(loc="upper left")
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
        axes.fill_between(delays, 0, 100 * chance, color="0.88", label="95 % of the shifted copies")
        axes.plot(delays, 100 * tie.shares, color=hue, lw=2, label="the record")
        axes.axvline(0, color="0.4", lw=0.8)
        axes.set(title=f"{tie.name} and the growth of CO2 (p = {tie.chance:.2f})")
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
    names = ("El Niño", "the Sun", "growth of CO2")
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
            (-0.09, 1 - (block + 0.5) / 2), xycoords="axes fraction", rotation=90, va="center", ha="right",
        )
        axes.annotate(
            f"windows of {names[block + 1]}", ((block + 0.5) / 2, -0.08), xycoords="axes fraction", ha="center", va="top",
        )
    axes.set_title("Connections between windows of different series")


def regret(figure: "Figure", outcomes: "Outcomes", replays: Sequence["Replay"]) -> None:
    """Draw the regret of each policy over the months, and how often it trusted each rule."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for replay, hue in zip(replays, _POLICY_HUES, strict=True):
        mean, low, high = replay.regret.mean(axis=0), replay.regret.min(axis=0), replay.regret.max(axis=0)
        left.fill_between(outcomes.times, low, high, color=hue, alpha=0.15, lw=0)
        left.plot(outcomes.times, mean, color=hue, label=replay.name)
    left.legend(loc="upper left")
    left.set(title="Regret against the best rule in hindsight", ylabel="hits missed so far", xlabel="month of the replay")
    _trust(right, outcomes, replays)


def _trust(axes: "Axes", outcomes: "Outcomes", replays: Sequence["Replay"]) -> None:
    trust = 100 * np.array([replay.trust for replay in replays]).T
    axes.imshow(trust, cmap="Blues", aspect="auto", vmin=0, vmax=100)
    for (rule, policy), share in np.ndenumerate(trust):
        axes.text(policy, rule, f"{share:.0f}", ha="center", va="center", color="white" if share > 55 else "black")
    hits = 100 * outcomes.paid.mean(axis=0)
    rules = [f"{rule}\n(right in {hit:.0f} %)" for rule, hit in zip(outcomes.rules, hits, strict=True)]
    axes.set_yticks(range(len(rules)), rules, fontsize=8)
    axes.set_xticks(range(len(replays)), [replay.name.replace("_", "_\n").replace(" ", "\n") for replay in replays], fontsize=8)
    axes.grid(visible=False)
    axes.set(title="Months in which a rule was trusted, %")


def tree(figure: "Figure", tree: "Tree", choice: "Path") -> None:
    """Draw the merged search tree as layers of cells, as wide as their visits."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    from gristmill.demo.models import LEVELS

    axes = figure.subplots()
    shades = ScalarMappable(Normalize(0.5, 0.65), colormaps["YlGnBu"])
    _layer(axes, tree, (), 0.0, 1.0, choice, shades)
    axes.set(xlim=(0, 1), ylim=(len(LEVELS), 0), xlabel="share of all descents")
    axes.set_yticks(np.arange(len(LEVELS)) + 0.5, LEVELS)
    axes.grid(visible=False)
    axes.set_title("Where the trees went; the chosen path is outlined")
    figure.colorbar(shades, ax=axes, label="mean score (0.5: no better than a constant)", extend="both")


def _layer(
    axes: "Axes", tree: "Tree", path: "Path", left: float, width: float, choice: "Path", shades: Any
) -> None:
    from gristmill.demo.models import describe

    node = tree.nodes.get(path)
    if node is None or width < 0.002:
        return
    visits = node.visits / max(1, node.visits.sum())
    for child, share in enumerate(visits * width):
        below = (*path, child)
        if node.visits[child]:
            shade = shades.to_rgba(node.value_sums[child] / node.visits[child])
            chosen = choice[: len(below)] == below
            edge, line, order = ("black", 2.0, 3) if chosen else ("white", 0.5, 2)
            axes.barh(len(path) + 0.5, share, 0.96, left, color=shade, edgecolor=edge, lw=line, zorder=order)
            dark = sum(shade[:3]) < 1.5
            if share > 0.035:
                words = describe(below)[-1].replace(" ", "\n")
                axes.text(
                    left + share / 2, len(path) + 0.5, words, ha="center", va="center", fontsize=7,
                    color="white" if dark else "black", zorder=4, clip_on=True,
                )
            _layer(axes, tree, below, left, share, choice, shades)
        left += share


def growth(
    figure: "Figure", growth: "Series", chosen: NDArray[np.float64], without: NDArray[np.float64]
) -> None:
    """Draw the measured growth of CO2 and what two models say of it."""
    axes = figure.subplots()
    axes.plot(growth.times, growth.values, color="0.55", lw=1, label="measured")
    axes.plot(growth.times, without, color="0.25", lw=1.5, ls="--", label="the chosen model without El Niño")
    axes.plot(growth.times, chosen, color=NINO, lw=2, label="the chosen model")
    axes.set(title=growth.name, ylabel=growth.unit)
    axes.legend(loc="upper left")
