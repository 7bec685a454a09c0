"""Draws a case: time against size on logarithmic axes, ours against each peer."""

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.record import Record

OURS_COLOR = "#c2410c"

#: Told apart by eyes that see red and green alike, and by their markers.
PEER_STYLES = (("#1f77b4", "s"), ("#4b5563", "^"), ("#7e57c2", "D"), ("#0f766e", "v"))

#: The same figures give the same bytes: no date, no random identifiers; text stays text.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})


def draw(records: list[Record], unit: str, path: Path) -> None:
    """Write the plot of one case, a panel for each number of threads, as SVG."""
    threads = sorted({record.threads for record in records})
    figure, panels = pyplot.subplots(
        1, len(threads), figsize=(4.2 * len(threads), 3.2), sharey=True, squeeze=False
    )
    for axes, count in zip(panels[0], threads, strict=True):
        _draw_panel(axes, [record for record in records if record.threads == count])
        axes.set_title(f"{count} thread{'s' * (count > 1)}", fontsize=9)
        axes.set_xlabel(unit)
    panels[0][0].set_ylabel("milliseconds")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.set_layout_engine("constrained")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_panel(axes: Axes, records: list[Record]) -> None:
    peers = dict.fromkeys(record.peer for record in records)
    ours = {record.size: record.ours for record in records}
    axes.loglog(*_line(ours.items()), color=OURS_COLOR, marker="o", linewidth=2.4, label="ours")
    for peer, (color, marker) in zip(peers, cycle(PEER_STYLES)):
        points = [(record.size, record.peer_value) for record in records if record.peer == peer]
        style = {"color": color, "marker": marker, "linewidth": 1.2, "markersize": 4.0}
        axes.loglog(*_line(points), **style, label=peer)
    axes.set_xticks(sorted(ours), labels=[f"{size:,}" for size in sorted(ours)])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(which="major", color="#e5e7eb", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _line(points: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    sizes = sorted((size, value) for size, value in points if value is not None)
    return [size for size, _ in sizes], [value for _, value in sizes]
