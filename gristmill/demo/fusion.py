"""The chapter of `fusion`: which windows of El Niño and the Sun resemble those of CO2's growth.

A window is three years of one series, its embedding the 36 monthly values less their mean: so the
cosine of two embeddings is their correlation. Copies of the growth that are shifted along the
record keep its rhythm but lose its place in time: what they reach is what chance can do.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.fusion import ConnectionDiscoveryResult, connection_discovery
from gristmill.demo import pictures
from gristmill.demo.chapter import Chapter, Picture, Size, Table
from gristmill.demo.mill import Mill
from gristmill.demo.series import Data, sources, without_trend

OPERATION: Final = connection_discovery
QUESTION: Final = "Does the growth of CO2 follow El Niño, the Sun, or neither?"

#: Length of a window, in months: longer than an El Niño, shorter than a solar cycle.
WINDOW: Final = 36

#: Correlation from which two windows count as connected.
THRESHOLD: Final = 0.7

#: Delays that are looked at, in months; positive when the growth comes later.
DELAYS: Final = np.arange(-24, 25)

#: Time in which the strength of a connection falls to 1/e, in milliseconds: five years.
TIME_SCALE_MS: Final = 5 * 365.2425 * 86_400_000


@dataclass(frozen=True)
class Ties:
    """How often windows of one series and of CO2's growth are connected, by delay."""

    #: Name of the series.
    name: str
    #: Share of the pairs at each of `DELAYS` that are connected, [l].
    shares: NDArray[np.float64]
    #: The same for the shifted copies, [s, l].
    by_chance: NDArray[np.float64]

    @property
    def delay(self) -> int:
        """Delay with the highest share, in months."""
        return int(DELAYS[np.argmax(self.shares)])

    @property
    def chance(self) -> float:
        """Probability to reach that share at any delay by chance, from the shifted copies."""
        peaks = self.by_chance.max(axis=1)
        return float((1 + np.sum(peaks >= self.shares.max())) / (1 + peaks.size))


@dataclass(frozen=True)
class Windows:
    """All windows of the three series: Niño's first, then the Sun's, then those of the growth."""

    #: First month of each window of one series, [w].
    starts: NDArray[np.datetime64]
    #: The embeddings, [3 w, WINDOW].
    embeddings: NDArray[np.float64]

    @property
    def request(self) -> dict[str, Any]:
        """Return the request that finds the connections between them."""
        times = self.starts.astype("M8[ms]").astype(np.int64)
        return {
            "embeddings": self.embeddings,
            "modalities": np.repeat(np.arange(3), self.starts.size),
            "timestamps_ms": np.tile(times, 3),
            "threshold": THRESHOLD,
            "cross_modal_only": True,
            "time_scale_ms": TIME_SCALE_MS,
        }


def tell(mill: Mill, data: Data, size: Size) -> Chapter:
    """Find the connections of the real windows, and of shifted copies of the growth."""
    shifts = [0, *_shifts(data.growth.values.size, size.num_shifts)]
    batches = [windows(data, shift) for shift in shifts]
    requests = [batch.request for batch in batches]
    results = mill.grind(connection_discovery, requests, "the record and shifted copies")
    num_starts = batches[0].starts.size
    shares = np.array([_shares(result, num_starts) for result in results])
    nino, sun = (
        Ties(name, shares[0, row], shares[1:, row])
        for row, name in enumerate(("El Niño", "the Sun"))
    )
    found = results[0]
    source = sources(data.co2, data.nino, data.sunspots)
    return Chapter(
        operation=OPERATION.name,
        question=QUESTION,
        work=(
            f"{len(requests)} jobs at once, each with {found.num_windows:,} windows of {WINDOW} "
            f"months and {found.num_pairs_considered:,} pairs: one for the record, the others "
            "for shifted copies."
        ),
        findings=(_finding(nino, size), _finding(sun, size)),
        table=table(found, batches[0].starts),
        pictures=(
            Picture(
                name="delays",
                caption=(
                    "Share of window pairs that are connected, by how much later the window of "
                    "CO2's growth begins. The band is what 95% of the shifted copies stay "
                    "below."
                ),
                source=source,
                size=(10.0, 4.6),
                draw=partial(pictures.delays, ties=(nino, sun), delays=DELAYS),
            ),
            Picture(
                name="connections",
                caption=(
                    "The connections of the record: one dot for each pair of windows whose "
                    f"correlation is {THRESHOLD} or more, none (white) for the others. Dots near "
                    "the diagonal of a block are windows of about the same months."
                ),
                source=source,
                size=(8.6, 7.4),
                draw=partial(pictures.connections, result=found, starts=batches[0].starts),
            ),
        ),
    )


def windows(data: Data, shift: int) -> Windows:
    """Cut the three series into windows, one a month, the growth moved on by `shift` months."""
    times = data.growth.times
    moved = np.roll(without_trend(data.growth.values), shift)
    others = (without_trend(each.at(times).values) for each in (data.nino, data.sunspots))
    cut = [np.lib.stride_tricks.sliding_window_view(each, WINDOW) for each in (*others, moved)]
    embeddings = np.concatenate([each - each.mean(axis=1, keepdims=True) for each in cut])
    return Windows(times[: len(cut[0])], embeddings)


def _shifts(num_months: int, num_shifts: int) -> list[int]:
    # Shorter ones would leave the growth near its true place.
    least = 2 * int(DELAYS.max())
    return [int(shift) for shift in np.linspace(least, num_months - least, num_shifts)]


def _shares(result: ConnectionDiscoveryResult, num_starts: int) -> NDArray[np.float64]:
    """Return the share of connected pairs by delay, of Niño and of the Sun with the growth."""
    series, start = np.divmod(result.i, num_starts)
    to_growth = result.j >= 2 * num_starts
    delay = result.j - 2 * num_starts - start
    possible = num_starts - np.abs(DELAYS)
    return np.array(
        [
            [np.count_nonzero((delay == late) & to_growth & (series == row)) for late in DELAYS]
            / possible
            for row in (0, 1)
        ]
    )


def _finding(ties: Ties, size: Size) -> str:
    share, chance = (
        f"{ties.shares.max():.0%}",
        f"p = {ties.chance:.2f}, {size.num_shifts} shifted copies",
    )
    when = f"{abs(ties.delay)} months {'earlier' if ties.delay < 0 else 'later'}"
    if ties.chance <= 0.05:
        verb = "leads" if ties.delay < 0 else "follows"
        return (
            f"The growth of CO2 {verb} {ties.name}: {share} of its windows resemble those of "
            f"{ties.name} when they begin {when}; chance does not reach that ({chance})."
        )
    return (
        f"The growth of CO2 shows no tie to {ties.name}: at best {share} of its windows resemble "
        f"those of {ties.name}, {when}, and chance reaches that too ({chance})."
    )


def table(result: ConnectionDiscoveryResult, starts: NDArray[np.datetime64]) -> Table:
    """Return the strongest connections of El Niño and CO2's growth whose windows do not overlap."""
    num_starts = starts.size
    ours = (result.i < num_starts) & (result.j >= 2 * num_starts)
    i, j = result.i[ours], result.j[ours] - 2 * num_starts
    similarity, strength = result.similarity[ours], result.strength[ours]
    rows: list[tuple[str, ...]] = []
    taken: list[int] = []
    for pair in np.argsort(-strength, kind="stable"):
        if all(abs(int(i[pair]) - other) >= WINDOW for other in taken) and len(taken) < 5:
            taken.append(int(i[pair]))
            late = f"{j[pair] - i[pair]:+d} months"
            cells = (_span(starts[i[pair]]), _span(starts[j[pair]]), late)
            rows.append((*cells, f"{similarity[pair]:.2f}", f"{strength[pair]:.2f}"))
    columns = ("window of El Niño", "window of CO2's growth", "delay", "similarity", "strength")
    return Table(title="The strongest connections", columns=columns, rows=tuple(rows))


def _span(start: np.datetime64) -> str:
    return f"{start} to {start + (WINDOW - 1)}"
