"""Facade of the analytics kernels: checks and prepares arguments, allocates results."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from native_c import backend
from native_c.arrays import as_array, require_between
from native_c.errors import InvalidArgument
from native_c.scalars import as_choice, as_whole

_NAN_POLICIES: Final = ("raise", "omit", "propagate")


def basic_statistics(
    values: object,
    percentiles: object | None = (5.0, 25.0, 50.0, 75.0, 95.0),
    ddof: int = 1,
    nan_policy: str = "raise",
) -> dict[str, Any]:
    """Describe a series of n numbers: size, location, spread, shape and percentiles.

    `values` [n] are at least one number, `percentiles` [p] in [0, 100], in any order, or None for
    no order statistics: no percentiles, and `median`, `iqr` and `mad` NaN. `ddof` is zero or more.
    `nan_policy` is "raise" (refuse NaN and infinities), "omit" (leave NaN out) or "propagate"
    (answer NaN where there is any). include/analytics.h has the formulas.

    Returns `count`, `missing`, `sum`, `mean`, `variance`, `std`, `sem`, `min`, `max`, `range`,
    `median`, `percentiles` [p], `iqr`, `mad`, `skewness`, `kurtosis`, and `warnings` for what is
    NaN though no input is. Raises InvalidArgument where a shape or a range is not kept.
    """
    series = as_array("values", values, np.float64, 1)
    if series.size == 0:
        raise InvalidArgument("values: 0 elements, expected at least 1")
    asked = None
    if percentiles is not None:
        asked = as_array("percentiles", percentiles, np.float64, 1)
        require_between("percentiles", asked, 0, 100)
    ddof = as_whole("ddof", ddof, 0, 2**63 - 1, "a whole number, zero or more")
    nan_policy = as_choice("nan_policy", nan_policy, _NAN_POLICIES)
    found = _describe(series, asked, ddof)
    if nan_policy == "raise" and (found["missing"] or found["infinite"]):
        raise InvalidArgument(_where_not_finite(series))
    if nan_policy == "omit" and found["missing"]:
        found = _describe(series[~np.isnan(series)], asked, int(ddof))
        found["missing"] = series.size - found["count"]
    found["warnings"] = _warnings(found, ddof, found.pop("infinite"))
    return found


def _describe(
    series: NDArray[np.float64], percentiles: NDArray[np.float64] | None, ddof: int
) -> dict[str, Any]:
    at_percentiles = np.empty(0 if percentiles is None else percentiles.size)
    found: dict[str, Any] = backend.current().analytics.basic_statistics(
        series, percentiles, ddof, at_percentiles
    )
    found["percentiles"] = at_percentiles
    return found


def _where_not_finite(series: NDArray[np.float64]) -> str:
    special = ~np.isfinite(series)
    count, first = np.count_nonzero(special), int(np.argmax(special))
    return f"values: {count} of {series.size} not finite (first at {first}), expected finite values"


def _warnings(found: dict[str, Any], ddof: int, infinite: int) -> tuple[str, ...]:
    """Say which fields are NaN though no value is NaN or infinite, and why."""
    count = found["count"]
    if count == 0:
        return ("Every value is missing: all statistics but the counts and the sum are NaN.",)
    if found["mean"] != found["mean"] or infinite:
        return ()
    said = []
    if ddof >= count:
        said.append(f"ddof is {ddof} and count {count}: variance, std and sem are NaN.")
    if found["skewness"] != found["skewness"]:
        said.append("The values are constant up to rounding: skewness and kurtosis are NaN.")
    return tuple(said)


#: Small cases on which the C kernels must agree with NumPy before they are used.
SELF_TEST = (
    (basic_statistics, {"values": [4.0, 1e9, -3.5, 0.25, 0.25, 7.0], "percentiles": [90.0, 0.0]}),
    (basic_statistics, {"values": [float("nan"), 2.0, 2.0], "nan_policy": "omit"}),
    (basic_statistics, {"values": [i * i % 1013 / 7 for i in range(1300)], "ddof": 0}),
    (basic_statistics, {"values": [4.0, 1e9, -3.5], "percentiles": None}),
)
