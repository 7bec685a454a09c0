"""The models of CO2's growth that the demo's trees choose from, judged on years they never saw."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gristmill.demo.series import Data, Series

#: What may be chosen at each level of the tree, in order.
LEVELS: Final = ("El Niño before", "mean of", "trend", "Sun before")

#: How much later than El Niño the growth follows, in months; None leaves El Niño out.
DELAYS: Final = (None, *range(12))

#: Over how many months El Niño is averaged.
SPANS: Final = (1, 3, 6, 12)

#: The polynomial in time, by its degree.
TRENDS: Final = ("constant", "line", "parabola", "cubic")

#: How much later than the Sun the growth follows, in months; None leaves the Sun out.
SUN_DELAYS: Final = (None, 0, 12, 24, 36, 48)

#: The options at each level; times are in months.
OPTIONS: Final[tuple[tuple[int | str | None, ...], ...]] = (DELAYS, SPANS, TRENDS, SUN_DELAYS)

#: Months left out on either side of the year that is judged: growths share what they span.
MARGIN: Final = 12

#: The choices of a model, as indices level by level.
Path = tuple[int, ...]

#: The model that explains nothing.
CONSTANT: Final[Path] = (0, 0, 0, 0)


def num_choices(path: Path) -> int:
    """Return the number of choices after those of `path`; there is no averaging without El Niño."""
    return 1 if len(path) == 1 and DELAYS[path[0]] is None else len(OPTIONS[len(path)])


def all_paths() -> list[Path]:
    """Return every model: the indices of its choices at each level."""
    paths: list[Path] = [()]
    for _ in LEVELS:
        paths = [(*path, choice) for path in paths for choice in range(num_choices(path))]
    return paths


def describe(path: Path) -> tuple[str, ...]:
    """Say in a word or two what was chosen at each level of `path`, which may end early."""
    words = []
    for level, choice in enumerate(path):
        option = OPTIONS[level][choice]
        absent = level == 1 and DELAYS[path[0]] is None
        words.append("-" if absent else "none" if option is None else str(option))
    return tuple(words)


def in_words(path: Path) -> str:
    """Say what a whole model is, for a sentence."""
    delay, span, trend, sun = (OPTIONS[level][choice] for level, choice in enumerate(path))
    parts = [f"a {trend} in time"]
    if delay is not None:
        parts.append(f"El Niño {_before(delay)} (mean of {_months(span)})")
    parts.append("no Sun" if sun is None else f"the Sun {_before(sun)}")
    return ", ".join(parts)


def _before(months: int | str) -> str:
    return f"{_months(months)} before" if months else "at the same time"


def _months(number: int | str | None) -> str:
    return f"{number} month{'s' * (number != 1)}"


@dataclass(frozen=True)
class Models:
    """The models, and the score of each on any year."""

    data: Data
    # What was computed before.
    _scores: dict[Path, NDArray[np.float64]] = field(default_factory=dict)
    _columns: dict[tuple[str, int, int], NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def years(self) -> NDArray[np.int64]:
        """The calendar years with all twelve months of growth."""
        years, counts = np.unique(self.data.growth.calendar_years, return_counts=True)
        whole: NDArray[np.int64] = years[counts == 12]
        return whole

    def scores(self, path: Path) -> NDArray[np.float64]:
        """Return how well a model predicts each of `years`, fitted without it, [y], in (0, 1).

        One half is no better than the constant model, one is perfect: e0 / (e0 + e) of the mean
        squared errors of the two.
        """
        if path not in self._scores:
            self._scores[path] = self._plain_errors / (self._plain_errors + self.errors(path))
        return self._scores[path]

    def errors(self, path: Path) -> NDArray[np.float64]:
        """Return a model's mean squared error in each of `years`, fitted without it, [y]."""
        columns, growth = self.columns(path), self.data.growth.values
        first = np.searchsorted(self.data.growth.calendar_years, self.years)
        left, right = np.maximum(first - MARGIN, 0), np.minimum(first + 12 + MARGIN, growth.size)
        # Least squares without a block: the sums over all months less the sums over the block.
        joint = np.hstack([columns, growth[:, None]])
        sums = np.cumsum(joint[:, :, None] * columns[:, None, :], axis=0)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        kept = sums[-1] - (sums[right] - sums[left])
        weights = np.linalg.solve(kept[:, :-1], kept[:, -1, :, None])[..., 0]
        judged = first[:, None] + np.arange(12)
        misses = growth[judged] - np.einsum("ymp,yp->ym", columns[judged], weights)
        squared: NDArray[np.float64] = np.mean(misses**2, axis=1)
        return squared

    @cached_property
    def _plain_errors(self) -> NDArray[np.float64]:
        return self.errors(CONSTANT)

    def predictions(self, path: Path) -> NDArray[np.float64]:
        """Return what a model that is fitted to all months says of each, [n]."""
        columns = self.columns(path)
        weights = np.linalg.lstsq(columns, self.data.growth.values, rcond=None)[0]
        fitted: NDArray[np.float64] = columns @ weights
        return fitted

    def columns(self, path: Path) -> NDArray[np.float64]:
        """Return what a model explains the growth by, [n, p]: powers of time, El Niño, the Sun."""
        delay, span, sun = DELAYS[path[0]], SPANS[path[1]], SUN_DELAYS[path[3]]
        columns = [self._powers[:, : path[2] + 1]]
        if delay is not None:
            columns.append(self._delayed(self.data.nino, delay, span))
        if sun is not None:
            columns.append(self._delayed(self.data.sunspots, sun, 12))
        return np.hstack(columns)

    @cached_property
    def _powers(self) -> NDArray[np.float64]:
        """The powers of time, [n, len(TRENDS)]."""
        time = np.linspace(-1.0, 1.0, self.data.growth.values.size)
        return np.vander(time, len(TRENDS), increasing=True)

    def _delayed(self, series: Series, delay: int, span: int) -> NDArray[np.float64]:
        """Return the mean of `span` months that end `delay` months ago, standardized, [n, 1]."""
        key = series.name, delay, span
        if key not in self._columns:
            times = self.data.growth.times - np.timedelta64(delay, "M")
            months = [series.at(times - np.timedelta64(back, "M")).values for back in range(span)]
            mean = np.mean(months, axis=0)
            self._columns[key] = ((mean - mean.mean()) / mean.std())[:, None]
        return self._columns[key]
