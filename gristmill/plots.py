"""Plots of results: `plot(result, axes)` draws what an operation answered.

Drawing is registered here by the type of the result, so that what travels needs no matplotlib. A
figure without pyplot will do:

    figure = Figure()
    plot(analytics.basic_statistics(values), figure.subplots())
    figure.savefig("values.png")
"""

import math
from functools import singledispatch

import numpy as np
from matplotlib.axes import Axes

from contract.analytics import BasicStatisticsResult
from contract.fusion import ConnectionDiscoveryResult
from contract.mcts import Ucb1SelectionResult
from contract.operation import Result
from contract.optimization import MultiArmedBanditResult


@singledispatch
def plot(result: Result, axes: Axes) -> None:
    """Draw a result into `axes`, with labels. Raises TypeError for a result that has no plot."""
    kinds = ", ".join(kind.__name__ for kind in plot.registry if kind is not object)
    raise TypeError(f"result: {type(result).__name__}, expected one of {kinds}")


@plot.register
def _(result: BasicStatisticsResult, axes: Axes) -> None:
    """Draw range, standard deviation, percentiles, median and mean on one axis, as far as known."""
    axes.hlines(0, result.min, result.max, color="0.6", label="range")
    axes.hlines(
        0, result.mean - result.std, result.mean + result.std, lw=8, alpha=0.3, label="mean ± std"
    )
    if not math.isnan(result.median):  # else there are no order statistics
        axes.plot(
            result.percentiles, np.zeros(result.percentiles.size), "|", ms=18, label="percentiles"
        )
        axes.plot(result.median, 0, "d", label="median")
    axes.plot(result.mean, 0, "o", label="mean")
    axes.set(xlabel=f"value ({result.count:,} values)", yticks=[])
    axes.legend(frameon=False)


@plot.register
def _(result: ConnectionDiscoveryResult, axes: Axes) -> None:
    """Draw each kept pair as a dot in the matrix of windows, darker where it is stronger."""
    dots = axes.scatter(result.j, result.i, s=1, c=result.strength, cmap="YlGnBu", marker="s", lw=0)
    axes.set(xlabel="window j", ylabel="window i", aspect="equal")
    axes.set(xlim=(-0.5, result.num_windows - 0.5), ylim=(result.num_windows - 0.5, -0.5))
    if result.strength.size:
        axes.figure.colorbar(dots, ax=axes, label="strength")


@plot.register
def _(result: MultiArmedBanditResult, axes: Axes) -> None:
    """Draw how often each arm was pulled, with its mean reward written on it."""
    arms = np.arange(result.counts.size)
    bars = axes.bar(arms, result.counts)
    axes.bar_label(bars, [f"{mean:.3g}" for mean in result.means])
    axes.set(xlabel="arm (its mean reward above the bar)", ylabel="pulls", xticks=arms)


@plot.register
def _(result: Ucb1SelectionResult, axes: Axes) -> None:
    """Draw the scores as a matrix of nodes and children, with a mark on each chosen child."""
    finite = np.ma.masked_invalid(result.scores)
    picture = axes.imshow(finite, aspect="auto", cmap="viridis")
    nodes = np.flatnonzero(result.chosen >= 0)
    axes.plot(result.chosen[nodes], nodes, "r.", label="chosen")
    axes.set(xlabel="child", ylabel="node")
    axes.legend()
    if finite.count():
        axes.figure.colorbar(picture, ax=axes, label="score (white: never visited, or no child)")
