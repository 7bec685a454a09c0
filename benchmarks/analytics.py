"""Cases of the analytics kernels."""

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.case import Call, Case, Peer
from native_c import analytics

Series = NDArray[np.float64]
Answer = dict[str, Any]

PERCENTILES: Final = (5.0, 25.0, 50.0, 75.0, 95.0)


def normal(size: int) -> tuple[Series]:
    """Return a normal series."""
    return (np.random.default_rng(7).normal(size=size),)


def heavy_tails(size: int) -> tuple[Series]:
    """Return Student's t with 1.5 degrees of freedom: no variance, and outliers by the thousand."""
    return (np.random.default_rng(7).standard_t(1.5, size=size),)


def with_ties(size: int) -> tuple[Series]:
    """Return whole numbers below 1,000: each of them many times."""
    return (np.random.default_rng(7).integers(0, 1_000, size).astype(float),)


def far_from_zero(size: int) -> tuple[Series]:
    """Return a normal series around 1e9, in which naive sums of powers lose all digits."""
    return (1e9 + np.random.default_rng(7).normal(size=size),)


def ours(values: Series) -> Call:
    """Compute all statistics, five percentiles among them."""
    return lambda: analytics.basic_statistics(values)


def ours_without_order(values: Series) -> Call:
    """Ask for no order statistics: as little as a caller can."""
    return lambda: analytics.basic_statistics(values, percentiles=None)


def verify(answer: Answer, values: Series) -> None:
    """Compare with NumPy and SciPy: selected values exactly, sums within rounding.

    Their higher moments lose digits to an offset, as ours do not, so those are compared on the
    centred series.
    """
    median = np.median(values)
    exact = {
        "min": values.min(),
        "max": values.max(),
        "range": np.ptp(values),
    }
    if answer["percentiles"].size:
        exact |= {
            "median": median,
            "mad": np.median(np.abs(values - median)),
            "iqr": np.subtract(*np.percentile(values, (75, 25))),
            "percentiles": np.percentile(values, PERCENTILES),
        }
    for name, expected in exact.items():
        np.testing.assert_array_equal(answer[name], expected, err_msg=name)
    for name, expected in (("sum", math.fsum(values)), ("mean", math.fsum(values) / values.size)):
        np.testing.assert_allclose(answer[name], expected, rtol=1e-12, atol=1e-8, err_msg=name)
    centred = values - median
    rounded = {
        "variance": centred.var(ddof=1),
        "std": centred.std(ddof=1),
        "sem": stats.sem(centred),
        "skewness": stats.skew(centred),
        "kurtosis": stats.kurtosis(centred),
    }
    for name, expected in rounded.items():
        np.testing.assert_allclose(answer[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


def polars(values: Series) -> Call:
    """Compute the same but the MAD, each number by its expression, all in one select."""
    import polars as pl

    x, frame = pl.col("x"), pl.DataFrame({"x": values})
    expressions = [
        *(x.sum().alias("sum"), x.mean().alias("mean"), x.var().alias("variance")),
        *(x.min().alias("min"), x.max().alias("max"), x.median().alias("median")),
        *(x.skew().alias("skewness"), x.kurtosis().alias("kurtosis")),
        *(x.quantile(q / 100, "linear").alias(f"{q}") for q in PERCENTILES),
    ]
    return lambda: frame.select(expressions)


def polars_four(values: Series) -> Call:
    """Compute minimum, maximum, mean and standard deviation."""
    import polars as pl

    x, frame = pl.col("x"), pl.DataFrame({"x": values})
    expressions = [
        *(x.min().alias("min"), x.max().alias("max")),
        *(x.mean().alias("mean"), x.std().alias("std")),
    ]
    return lambda: frame.select(expressions)


def polars_moments(values: Series) -> Call:
    """Compute the same with skewness and kurtosis."""
    import polars as pl

    x, frame = pl.col("x"), pl.DataFrame({"x": values})
    expressions = [
        *(x.min().alias("min"), x.max().alias("max"), x.mean().alias("mean")),
        *(x.var().alias("variance"), x.skew().alias("skewness"), x.kurtosis().alias("kurtosis")),
    ]
    return lambda: frame.select(expressions)


def pandas(values: Series) -> Call:
    """Describe with the same percentiles: no skewness, no kurtosis, no MAD."""
    import pandas as pd

    series, percentiles = pd.Series(values), [q / 100 for q in PERCENTILES]
    return lambda: series.describe(percentiles=percentiles)


def scipy(values: Series) -> Call:
    """Describe: minimum, maximum and four moments, no percentiles."""
    return lambda: stats.describe(values)


def agrees(theirs: Answer, ours: Answer) -> None:
    """Compare what the peer computes; its rounding may cost it digits far from zero."""
    assert len(theirs) >= 4
    for name, value in theirs.items():
        near_zero = 1e-6 if name in ("skewness", "kurtosis") else 1e-12
        np.testing.assert_allclose(value, ours[name], rtol=1e-6, atol=near_zero, err_msg=name)


def polars_agrees(theirs: Any, ours: Answer) -> None:
    """Compare the one row of a select."""
    row = theirs.row(0, named=True)
    found = {name: value for name, value in row.items() if name in ours}
    if str(PERCENTILES[0]) in row:
        found["percentiles"] = [row[str(q)] for q in PERCENTILES]
    agrees(found, ours)


def pandas_agrees(theirs: Any, ours: Answer) -> None:
    """Compare a description."""
    found = {name: theirs[name] for name in ("mean", "std", "min", "max")}
    agrees(found | {"percentiles": [theirs[f"{q:g}%"] for q in PERCENTILES]}, ours)


def scipy_agrees(theirs: Any, ours: Answer) -> None:
    """Compare a description."""
    found = {name: getattr(theirs, name) for name in ("mean", "variance", "skewness", "kurtosis")}
    agrees(found | dict(zip(("min", "max"), theirs.minmax, strict=True)), ours)


POLARS: Final = Peer(
    "polars, one select", "polars", polars, polars_agrees, bars={100_000: 8.0, 10_000_000: 4.0}
)
POLARS_100_000: Final = replace(POLARS, bars={100_000: 8.0})
PANDAS: Final = Peer("pandas, describe", "pandas", pandas, pandas_agrees, bars={10_000_000: 4.0})
SCIPY: Final = Peer("SciPy, describe", "scipy", scipy, scipy_agrees, bars={10_000_000: 4.0})


def _statistics(name: str, data: Any, sizes: tuple[int, ...], *peers: Peer) -> Case:
    return Case(
        operation="analytics.basic_statistics",
        name=name,
        data=data,
        sizes=sizes,
        unit="values",
        ours=ours,
        verify=verify,
        peers=peers,
        element="value",
        note="Ours finds the median absolute deviation too, which no peer's call does; pandas "
        "leaves out skewness and kurtosis, SciPy the percentiles.",
    )


CASES: Final = (
    _statistics("normal", normal, (1_000, 100_000, 10_000_000), POLARS, PANDAS, SCIPY),
    _statistics("heavy tails", heavy_tails, (100_000,), POLARS_100_000),
    _statistics("with ties", with_ties, (100_000,), POLARS_100_000),
    _statistics("normal + 1e9", far_from_zero, (100_000,), POLARS_100_000),
    Case(
        operation="analytics.basic_statistics",
        name="moments alone",
        data=normal,
        sizes=(100_000,),
        unit="values",
        ours=ours_without_order,
        verify=verify,
        peers=(
            Peer("polars, four numbers", "polars", polars_four, polars_agrees, bars={100_000: 5.0}),
            Peer(
                "polars, four moments", "polars", polars_moments, polars_agrees, bars={100_000: 5.0}
            ),
        ),
        element="value",
        note="Ours is asked for no order statistics, and computes the count, sum, mean, variance, "
        "standard deviation and error, extremes, skewness and kurtosis.",
    ),
)
