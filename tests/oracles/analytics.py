"""What Polars, pandas, statsmodels and NIST answer for the `analytics` family."""

import json
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.oracles.table import Table

Series = np.ndarray[Any, np.dtype[np.float64]]


def series(*, seed: int, num_values: int, kind: str, **arguments: Any) -> dict[str, Any]:
    """Make a request for basic_statistics of a random series of the given kind."""
    rng = np.random.Generator(np.random.PCG64(seed))
    u = rng.random(num_values)
    values = {
        "even": lambda: u,
        "skewed": lambda: u * u * u - 0.25,
        "heavy tail": lambda: 1.0 / (u + 2.0**-20),
        "ties": lambda: np.floor(9.0 * u),
        "offset": lambda: 1e3 + u,
        "gaps": lambda: np.where(rng.random(num_values) < 0.2, np.nan, u),
    }[kind]()
    return {"values": values} | arguments


def describe_by_polars(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by Polars' Series."""
    import polars

    given = polars.Series(request["values"]).fill_nan(None)
    values = given.drop_nulls()
    ddof = request.get("ddof", 1)

    def at(percentile: float) -> float | None:
        return values.quantile(percentile / 100.0, "linear")

    low, high = at(25.0), at(75.0)
    assert low is not None
    assert high is not None
    return {
        "count": given.count(),
        "missing": given.null_count(),
        "sum": values.sum(),
        "mean": values.mean(),
        "variance": values.var(ddof),
        "std": values.std(ddof),
        "min": values.min(),
        "max": values.max(),
        "median": values.median(),
        "percentiles": [at(percentile) for percentile in request["percentiles"]],
        "iqr": high - low,
        "skewness": values.skew(bias=True),
        "kurtosis": values.kurtosis(fisher=True, bias=True),
    }


def describe_by_pandas(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by pandas' describe, std and sem, which leave NaN out."""
    import pandas

    values = pandas.Series(request["values"])
    ddof = request.get("ddof", 1)
    fractions = [percentile / 100.0 for percentile in request["percentiles"]]
    found = values.describe(percentiles=fractions)
    return {
        "count": int(found["count"]),
        "mean": found["mean"],
        "std": values.std(ddof=ddof),
        "min": found["min"],
        "max": found["max"],
        "percentiles": values.quantile(fractions),
        "median": found["50%"],
        "sem": values.sem(ddof=ddof),
    }


def describe_by_statsmodels(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by statsmodels: the deviation from the median, weighted moments, Jarque and Bera's."""
    from statsmodels.robust import mad
    from statsmodels.stats.stattools import jarque_bera
    from statsmodels.stats.weightstats import DescrStatsW

    values = request["values"][~np.isnan(request["values"])]
    found = DescrStatsW(values, ddof=0)
    _, _, skewness, kurtosis = jarque_bera(values)
    return {
        # Not scaled to a normal distribution's standard deviation.
        "mad": mad(values, c=1.0),
        "mean": found.mean,
        "variance": found.var_ddof(request.get("ddof", 1)),
        "skewness": skewness,
        "kurtosis": kurtosis - 3.0,
    }


def certified(*, name: str) -> dict[str, Any]:
    """Make a request for basic_statistics of a data set of NIST."""
    return {"values": np.array([float(value) for value in _data_sets()[name]["values"]])}


def look_up_at_nist(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with the values that NIST certifies, once exact arithmetic has confirmed the data.

    Raises ValueError where a mean or standard deviation of the decimals as printed differs from the
    15 digits that are certified: the data were then copied wrong.
    """
    name, data = next(
        (name, data)
        for name, data in _data_sets().items()
        if np.array_equal(certified(name=name)["values"], request["values"])
    )
    with localcontext() as context:
        context.prec = 60
        values = [Decimal(value) for value in data["values"]]
        mean = sum(values, Decimal(0)) / len(values)
        squares = sum(((value - mean) ** 2 for value in values), Decimal(0))
        exact = {"mean": mean, "std": (squares / (len(values) - 1)).sqrt()}
        for field, value in exact.items():
            printed = Decimal(data[field])
            if abs(value - printed) > abs(printed) * Decimal("5e-15"):
                raise ValueError(f"{name}: {field} is {value}, expected {printed} as certified")
    return {"count": len(values), "mean": float(data["mean"]), "std": float(data["std"])}


@cache
def _data_sets() -> dict[str, dict[str, Any]]:
    """Return values and certified results of NIST's data sets for univariate statistics.

    From the Statistical Reference Datasets of the National Institute of Standards and Technology,
    https://www.itl.nist.gov/div898/strd/univ/homepage.html, a work of the United States government
    and so in the public domain. nist.json holds what was observed; the others follow a rule.
    PiDigits is left out: the digits of pi have a mean of 4.5358, and 4.5348 is certified.
    """
    data: dict[str, dict[str, Any]] = json.loads(
        Path(__file__).with_name("nist.json").read_text(), parse_float=Decimal
    )
    return data | {
        "NumAcc1": {"values": [10000001, 10000003, 10000002], "mean": "10000002", "std": "1"},
        "NumAcc2": _alternating("1.2", "1.1", "1.3"),
        "NumAcc3": _alternating("1000000.2", "1000000.1", "1000000.3"),
        "NumAcc4": _alternating("10000000.2", "10000000.1", "10000000.3"),
    }


def _alternating(first: str, low: str, high: str) -> dict[str, Any]:
    values = [Decimal(first), *[Decimal(low), Decimal(high)] * 500]
    return {"values": values, "mean": first, "std": "0.1"}


_PERCENTILES: Final = [0.0, 2.5, 25.0, 50.0, 75.0, 99.0, 100.0]
_CASES: Final = {
    f"{kind}, {num_values}": {
        "seed": seed,
        "num_values": num_values,
        "kind": kind,
        "percentiles": _PERCENTILES,
        "nan_policy": "omit" if kind == "gaps" else "raise",
    }
    for seed, (kind, num_values) in enumerate(
        (kind, num_values)
        for kind in ("even", "skewed", "heavy tail", "ties", "offset", "gaps")
        for num_values in (7, 100, 5001)
    )
}
_WITHOUT_DDOF: Final = {
    "no ddof": _CASES["skewed, 100"] | {"ddof": 0},
    "ddof 3": _CASES["skewed, 100"] | {"ddof": 3},
}

#: Peers sum in another order and, of 1e3 + u, lose some digits in powers of the distances.
_MOMENTS: Final = {
    "sum": (1e-14, 0.0),
    "mean": (1e-14, 0.0),
    "variance": (1e-12, 0.0),
    "std": (1e-12, 0.0),
    "sem": (1e-12, 0.0),
    "skewness": (1e-11, 1e-11),
    "kurtosis": (1e-11, 1e-11),
}
#: Interpolation in another order of rounding.
_ORDER: Final = {
    "median": (1e-15, 0.0),
    "percentiles": (1e-15, 0.0),
    "iqr": (1e-13, 1e-13),
    "mad": (1e-13, 1e-13),
}
_RERUN: Final = (1e-12, 1e-11)

TABLES: Final = (
    Table(
        name="analytics_polars_describe",
        operation="analytics.basic_statistics",
        oracle=("polars",),
        cases=_CASES | _WITHOUT_DDOF,
        request=series,
        answer=describe_by_polars,
        within=_MOMENTS | _ORDER,
        rerun_within=_RERUN,
    ),
    Table(
        name="analytics_pandas_describe",
        operation="analytics.basic_statistics",
        oracle=("pandas",),
        cases=_CASES | _WITHOUT_DDOF,
        request=series,
        answer=describe_by_pandas,
        within=_MOMENTS | _ORDER,
        rerun_within=_RERUN,
    ),
    Table(
        name="analytics_statsmodels_moments",
        operation="analytics.basic_statistics",
        oracle=("statsmodels",),
        cases=_CASES | _WITHOUT_DDOF,
        request=series,
        answer=describe_by_statsmodels,
        within=_MOMENTS | _ORDER,
        rerun_within=_RERUN,
    ),
    Table(
        name="analytics_nist_certified",
        operation="analytics.basic_statistics",
        oracle=(),
        cases={
            name: {"name": name}
            for name in ("Lew", "Lottery", "Mavro", "Michelso", "NumAcc1", "NumAcc2")
        },
        request=certified,
        answer=look_up_at_nist,
        # 15 digits are certified; the decimals of Mavro and Michelso round to doubles 4e-16 and
        # 6e-14 away, which is 1e-12 of their standard deviations.
        within={"mean": (5e-15, 0.0), "std": (1e-12, 0.0)},
    ),
    Table(
        name="analytics_nist_offsets",
        operation="analytics.basic_statistics",
        oracle=(),
        cases={name: {"name": name} for name in ("NumAcc3", "NumAcc4")},
        request=certified,
        answer=look_up_at_nist,
        # The doubles nearest to these decimals are up to 1e-9 away from them.
        within={"mean": (5e-15, 0.0), "std": (0.0, 1e-9)},
    ),
)
