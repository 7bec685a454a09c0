"""The real series of the demo: read from the files in `data`, on one calendar of months."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

DATA: Final = Path(__file__).parent / "data"

#: Half the span of a growth, in months: a full year cancels the seasons.
HALF_YEAR: Final = 6


@dataclass(frozen=True)
class Series:
    """Numbers of which each belongs to a day or a month."""

    #: What it is, for titles and tables.
    name: str
    #: Who measured it.
    source: str
    #: Unit of the values; "" for none.
    unit: str
    #: When each value was measured, [n], datetime64 of days or of months, ascending.
    times: NDArray[np.datetime64]
    #: The values, [n], NaN where nothing was measured.
    values: NDArray[np.float64]

    @property
    def calendar_years(self) -> NDArray[np.int64]:
        """The calendar year of each value, [n]."""
        years: NDArray[np.int64] = self.times.astype("M8[Y]").astype(np.int64) + 1970
        return years

    def by_year(self) -> dict[int, NDArray[np.float64]]:
        """Return the values of each calendar year, by year."""
        years, starts = np.unique(self.calendar_years, return_index=True)
        parts = np.split(self.values, starts[1:])
        return dict(zip(years.tolist(), parts, strict=True))

    def at(self, times: NDArray[np.datetime64]) -> Self:
        """Return the part at `times`, [m], all of which it must have."""
        where = np.searchsorted(self.times, times)
        found = self.times[np.minimum(where, self.times.size - 1)]
        if not np.array_equal(found, times):
            raise ValueError(f"times: not all in {self.name}, expected times that it has")
        return replace(self, times=times, values=self.values[where])


@dataclass(frozen=True)
class Data:
    """All series that the demo works on."""

    #: CO2 at Mauna Loa by week, as measured: with gaps.
    co2: Series
    #: Sunspot number by month, 1749 to 2008.
    sunspots: Series
    #: Niño 3.4: departure of the sea's temperature from the month's normal, by month.
    nino: Series
    #: Growth of CO2 over the twelve months around each month.
    growth: Series


def load() -> Data:
    """Read the committed files and derive the growth of CO2."""
    co2 = Series("CO2", "Scripps/CDIAC", "ppm", *_read("co2_weekly.csv", "ppm", "D"))
    sunspots = _read("sunspots_monthly.csv", "number", "M")
    nino = _read("nino34_monthly.csv", "anomaly", "M")
    return Data(
        co2=co2,
        sunspots=Series("Sunspots", "NOAA/NGDC", "", *sunspots),
        nino=Series("Niño 3.4", "NOAA/CPC", "°C", *nino),
        growth=growth(monthly_means(co2)),
    )


def monthly_means(weekly: Series) -> Series:
    """Average a weekly series by month; a month without a value lies on the line between others."""
    months = weekly.times.astype("M8[M]")
    calendar = np.arange(months[0], months[-1] + 1)
    known = np.isfinite(weekly.values)
    index = (months[known] - months[0]).astype(int)
    counts = np.bincount(index, minlength=calendar.size)
    sums = np.bincount(index, weekly.values[known], minlength=calendar.size)
    filled = np.flatnonzero(counts)
    values = np.interp(np.arange(calendar.size), filled, sums[filled] / counts[filled])
    return replace(weekly, times=calendar, values=values)


def growth(monthly: Series) -> Series:
    """Return, for each month, the value half a year later less the value half a year before."""
    span = 2 * HALF_YEAR
    values = monthly.values[span:] - monthly.values[:-span]
    times = monthly.times[HALF_YEAR:-HALF_YEAR]
    name, unit = f"Growth of {monthly.name}", f"{monthly.unit} a year"
    return Series(name, monthly.source, unit, times, values)


def without_trend(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values [n] less the straight line that fits them best."""
    x = np.linspace(-1.0, 1.0, values.size)
    x -= x.mean()
    centred = values - values.mean()
    result: NDArray[np.float64] = centred - x * (x @ centred) / (x @ x)
    return result


def sources(*series: Series) -> str:
    """Say whose numbers the series are."""
    return "Data: " + "; ".join(f"{each.name}: {each.source}" for each in series)


def _read(file: str, column: str, step: str) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return the times, in the first column of a file, and the values in `column`."""
    with (DATA / file).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    times = np.array([next(iter(row.values())) for row in rows], f"M8[{step}]")
    return times, np.array([float(row[column] or "nan") for row in rows])
