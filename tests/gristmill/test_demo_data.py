"""The demo's data against published figures, and what is derived from them."""

import numpy as np
import pytest
import scipy.signal

from gristmill.demo import series
from gristmill.demo.series import Data, Series


@pytest.fixture(scope="module")
def data() -> Data:
    return series.load()


# --- The data ---


def test_the_co2_record_has_the_weeks_and_gaps_that_its_source_states(data: Data) -> None:
    assert data.co2.times.size == 2284
    assert np.isnan(data.co2.values).sum() == 59
    assert (str(data.co2.times[0]), str(data.co2.times[-1])) == ("1958-03-29", "2001-12-29")
    assert set(np.diff(data.co2.times).astype(int)) == {7}


def test_co2_begins_with_the_316_ppm_that_keeling_measured_in_march_1958(data: Data) -> None:
    assert data.co2.values[0] == pytest.approx(316, abs=0.5)
    assert np.nanmin(data.co2.values) > 312
    assert np.nanmax(data.co2.values) < 375


@pytest.mark.parametrize(
    ("year", "ppm"),
    [(1959, 315.98), (1970, 325.68), (1980, 338.76), (1990, 354.45), (2000, 369.71)],
)
def test_yearly_means_of_co2_are_those_that_noaa_publishes(
    data: Data, year: int, ppm: float
) -> None:
    assert np.nanmean(data.co2.by_year()[year]) == pytest.approx(ppm, abs=0.5)


@pytest.mark.parametrize(
    ("year", "number"), [(1749, 80.9), (1778, 154.4), (1810, 0.0), (1947, 151.6), (1957, 190.2)]
)
def test_yearly_means_of_the_sunspots_are_the_classical_ones(
    data: Data, year: int, number: float
) -> None:
    # The published ones are means of days, not of months.
    assert data.sunspots.by_year()[year].mean() == pytest.approx(number, abs=0.4)


def test_the_sunspot_record_is_whole_and_highest_in_october_1957(data: Data) -> None:
    numbers = data.sunspots
    assert numbers.values.size == 260 * 12
    assert (str(numbers.times[0]), str(numbers.times[-1])) == ("1749-01", "2008-12")
    assert str(numbers.times[np.argmax(numbers.values)]) == "1957-10"
    assert numbers.values.max() == 253.8
    assert numbers.values.min() >= 0


def test_the_strongest_el_ninos_of_the_record_are_those_of_1982_and_1997(data: Data) -> None:
    assert data.nino.values.size == 61 * 12
    assert np.abs(data.nino.values).max() < 3
    peaks = {year for year, values in data.nino.by_year().items() if values.max() > 2.3}
    assert peaks >= {1997}
    assert data.nino.by_year()[1982].max() > 2


def test_every_file_of_numbers_has_its_source_stated_and_all_are_small() -> None:
    sources = (series.DATA / "SOURCES.md").read_text()
    files = sorted(series.DATA.glob("*.csv"))
    assert len(files) == 3
    assert all(f"## {file.name}" in sources for file in files)
    assert sources.count("SHA-256") == 3
    assert sum(file.stat().st_size for file in files) < 300_000


# --- The series ---


def test_monthly_means_are_plain_means_and_a_month_without_weeks_lies_between() -> None:
    days = np.array(["2000-01-03", "2000-01-10", "2000-02-07", "2000-03-06"], "M8[D]")
    weekly = Series("x", "nobody", "", days, np.array([1.0, 3.0, np.nan, 8.0]))
    monthly = series.monthly_means(weekly)
    assert list(monthly.times.astype(str)) == ["2000-01", "2000-02", "2000-03"]
    assert monthly.values == pytest.approx([2.0, 5.0, 8.0])


def test_growth_of_a_line_with_seasons_is_the_slope_of_the_line() -> None:
    months = np.arange(np.datetime64("2000-01"), np.datetime64("2004-01"))
    index = np.arange(months.size)
    values = 300 + 0.1 * index + 3 * np.sin(2 * np.pi * index / 12)
    grown = series.growth(Series("x", "nobody", "ppm", months, values))
    assert grown.values == pytest.approx(np.full(months.size - 12, 1.2))
    assert str(grown.times[0]) == "2000-07"


def test_without_trend_agrees_with_scipy(data: Data) -> None:
    values = data.growth.values
    assert series.without_trend(values) == pytest.approx(scipy.signal.detrend(values))


def test_a_part_of_a_series_that_it_does_not_have_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="not all in Niño"):
        data.nino.at(data.sunspots.times)
