"""The chapter of `analytics`: each year of each series described by a job of its own."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from contract.analytics import BasicStatisticsResult, basic_statistics
from gristmill.demo import pictures
from gristmill.demo.chapter import Chapter, Picture, Size, Table
from gristmill.demo.mill import Mill
from gristmill.demo.series import Data, Series, sources

OPERATION: Final = basic_statistics
QUESTION: Final = "What did each year look like, and how fast did CO2 grow?"

YearlyStatistics = dict[int, BasicStatisticsResult]


def tell(mill: Mill, data: Data, size: Size) -> Chapter:
    """Describe every year of the three series, each series as a whole, and CO2's decades."""
    series = (data.co2, data.nino, data.sunspots)
    years = [
        (each, year, values)
        for each in series
        for year, values in each.by_year().items()
        if year >= size.first_year
    ]
    whole = [(each, 0, each.values) for each in series]
    requests = [{"values": values, "nan_policy": "omit"} for _, _, values in (*whole, *years)]
    names = [f"{each.name} {year or ''}".strip() for each, year, _ in (*whole, *years)]
    results = mill.grind(basic_statistics, requests, "every year of three series", names)
    yearly: dict[str, YearlyStatistics] = {each.name: {} for each in series}
    for (each, year, _), result in zip(years, results[len(whole) :], strict=True):
        yearly[each.name][year] = result
    decades = growth_by_decade(mill, yearly[data.co2.name])
    picture = Picture(
        name="years",
        caption=(
            "Each year's percentiles 5 to 95 (light), 25 to 75 (dark) and median (line); below, "
            "the mean growth of CO2 by decade with its standard error."
        ),
        source=sources(*series),
        size=(10.0, 10.0),
        draw=partial(pictures.years, series=series, yearly=yearly, decades=decades),
    )
    return Chapter(
        operation=OPERATION.name,
        question=QUESTION,
        work=f"{len(requests)} jobs at once, one for each year; then one for each decade.",
        findings=findings(data, yearly, decades),
        table=table(series, results[: len(whole)]),
        pictures=(picture,),
    )


def growth_by_decade(mill: Mill, yearly: YearlyStatistics) -> YearlyStatistics:
    """Return the statistics of the growth from year to year, in ppm, by first year of the decade.

    The first year of the record began in March and is left out: its mean is not a year's.
    """
    years = sorted(yearly)[1:]
    means = np.array([yearly[year].mean for year in years])
    growth, ends = np.diff(means), np.array(years[1:])
    decade_of = ends // 10 * 10
    # Less than a whole decade is no decade: the record's first and last years stay out.
    decades = [decade for decade in np.unique(decade_of).tolist() if sum(decade_of == decade) > 8]
    requests = [{"values": growth[decade_of == decade]} for decade in decades]
    results = mill.grind(basic_statistics, requests, "growth of CO2 by decade")
    return dict(zip(decades, results, strict=True))


def findings(
    data: Data, yearly: dict[str, YearlyStatistics], decades: YearlyStatistics
) -> tuple[str, ...]:
    """Say what stands out."""
    co2, sun, nino = (yearly[each.name] for each in (data.co2, data.sunspots, data.nino))
    first, last = min(co2) + 1, max(co2)
    early, late = min(decades), max(decades)
    strongest = max(sun, key=lambda year: sun[year].mean)
    warmest, coldest = (pick(nino, key=lambda year: nino[year].mean) for pick in (max, min))
    missing = sum(result.missing for result in co2.values())
    rise = (
        f"CO2 rose from {co2[first].mean:.1f} ppm in {first} to {co2[last].mean:.1f} ppm in "
        f"{last}; its growth went from {_growth(decades[early])} in the {early}s to "
        f"{_growth(decades[late])} in the {late}s."
    )
    activity = (
        f"The Sun was most active in {strongest}, with {sun[strongest].mean:.0f} spots on average "
        f"and {sun[strongest].max:.0f} in its highest month."
    )
    warmth = (
        f"Niño 3.4 was warmest in {warmest} ({nino[warmest].mean:+.1f} °C) and coldest in "
        f"{coldest} ({nino[coldest].mean:+.1f} °C), as means of the year."
    )
    gaps = (
        f'{missing} weeks of CO2 have no value: nan_policy="omit" leaves them out and counts them.'
    )
    return rise, activity, warmth, gaps


def table(series: Sequence[Series], results: Sequence[BasicStatisticsResult]) -> Table:
    """Return one row for each whole series."""
    rows = tuple(
        (
            f"{each.name}, {each.unit}" if each.unit else each.name,
            f"{each.calendar_years[0]}-{each.calendar_years[-1]}",
            f"{result.count:,}",
            f"{result.mean:z.1f}",
            *(f"{value:.1f}" for value in result.percentiles[[0, 2, 4]]),
            f"{result.max:.1f}",
            f"{result.skewness:+.2f}",
        )
        for each, result in zip(series, results, strict=True)
    )
    columns = ("series", "years", "count", "mean", "5%", "median", "95%", "max", "skew")
    return Table(title="The whole series", columns=columns, rows=rows)


def _growth(result: BasicStatisticsResult) -> str:
    return f"{result.mean:.2f} ± {result.sem:.2f} ppm a year"
