"""Benchmarks of the analytics kernels: each case checks its answer, then times it beside a peer.

`python -m benchmarks.analytics` prints the records; every figure is the least of many runs, on one
thread, of the kernel's facade alone: no queue.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import native_c
from native_c import analytics

Series = NDArray[np.float64]

PERCENTILES: Final = (5.0, 25.0, 50.0, 75.0, 95.0)

#: Seconds that one figure may take, and runs it has at most.
_SECONDS: Final = 1.0
_RUNS: Final = 200


def series() -> dict[str, Series]:
    """Return the series by the name of their case."""
    rng = np.random.default_rng(7)
    return {
        "1,000 normal": rng.normal(size=1_000),
        "100,000 normal": rng.normal(size=100_000),
        "100,000 heavy tails": rng.standard_t(1.5, size=100_000),
        "100,000 with ties": rng.integers(0, 1_000, 100_000).astype(float),
        "100,000 normal + 1e9": 1e9 + rng.normal(size=100_000),
        "10,000,000 normal": rng.normal(size=10_000_000),
    }


def by_scipy(values: Series) -> dict[str, Any]:
    """Compute every field by NumPy and SciPy, each function called once."""
    described = stats.describe(values)
    percentiles = np.percentile(values, PERCENTILES)
    return {
        "sum": values.sum(),
        "mean": described.mean,
        "variance": described.variance,
        "std": values.std(ddof=1),
        "sem": stats.sem(values),
        "min": described.minmax[0],
        "max": described.minmax[1],
        "range": np.ptp(values),
        "median": np.median(values),
        "percentiles": percentiles,
        "iqr": percentiles[3] - percentiles[1],
        "mad": stats.median_abs_deviation(values),
        "skewness": described.skewness,
        "kurtosis": described.kurtosis,
    }


def by_polars(values: Series) -> Callable[[], object] | None:
    """Return a call of one lazy select of all fields but the MAD; None where polars is missing."""
    try:
        polars = import_module("polars")
    except ImportError:
        return None
    column, frame = polars.col("x"), polars.DataFrame({"x": values})
    expressions = [
        *(column.sum().alias("sum"), column.mean().alias("mean"), column.var().alias("variance")),
        *(column.min().alias("min"), column.max().alias("max"), column.median().alias("median")),
        *(column.skew().alias("skewness"), column.kurtosis().alias("kurtosis")),
        *(column.quantile(q / 100, "linear").alias(f"percentile {q}") for q in PERCENTILES),
    ]
    return lambda: frame.lazy().select(expressions).collect()


def verify(values: Series) -> None:
    """Raise AssertionError unless ours agrees with NumPy and SciPy.

    Their third and fourth moments lose digits to an offset, as ours do not; so those are compared
    on the centred series.
    """
    ours = analytics.basic_statistics(values, PERCENTILES)
    expected, centred = by_scipy(values), by_scipy(values - np.median(values))
    for name in ("min", "max", "range", "median", "percentiles", "iqr", "mad"):
        np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)
    for name in ("sum", "mean"):
        np.testing.assert_allclose(ours[name], expected[name], rtol=1e-12, atol=1e-8, err_msg=name)
    for name in ("variance", "std", "sem", "skewness", "kurtosis"):
        np.testing.assert_allclose(ours[name], centred[name], rtol=1e-9, atol=1e-9, err_msg=name)


def least_milliseconds(call: Callable[[], object]) -> float:
    """Return the least time of a call, in milliseconds."""
    call()
    best, start = float("inf"), time.perf_counter()
    for _ in range(_RUNS):
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended - start > _SECONDS:
            break
    return best * 1e3


def peers(values: Series) -> dict[str, Callable[[], object]]:
    """Return the peers' calls by how they are called."""
    found: dict[str, Callable[[], object]] = {
        "NumPy and SciPy, one call a field": partial(by_scipy, values)
    }
    select = by_polars(values)
    if select is not None:
        found["polars, one lazy select, 5 linear quantiles, no MAD"] = select
    return found


def records() -> Iterator[dict[str, Any]]:
    """Yield a record for each case and peer; a ratio above 1 means that ours is better."""
    native_c.set_threads(1)
    for case, values in series().items():
        verify(values)
        ours = least_milliseconds(partial(analytics.basic_statistics, values))
        for peer, call in peers(values).items():
            theirs = least_milliseconds(call)
            yield {
                "operation": "analytics.basic_statistics",
                "case": case,
                "metric": "time",
                "unit": "ms",
                "ours": ours,
                "peer": peer,
                "peer_value": theirs,
                "threads": 1,
                "better": "lower",
                "ratio": theirs / ours,
                "bar": 5.0,
            }


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's, on the series with an offset
        for record in records():
            print(json.dumps(record))
