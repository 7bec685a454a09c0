"""The analytics kernels in NumPy."""

import math
from typing import Any, Final

import numpy as np
from numpy import float64, int64
from numpy.typing import NDArray

Floats = NDArray[float64]

_NAN: Final = math.nan
#: Where the range of a series is outside, its powers are summed after scaling, as in C.
_SMALL_RANGE: Final = 1e-60
_LARGE_RANGE: Final = 1e60
_EPSILON: Final = 2.0**-52


def basic_statistics(
    values: Floats, percentiles: Floats | None, ddof: int, at_percentiles: Floats
) -> dict[str, Any]:
    """Return the fields of nc_basic_statistics and fill `at_percentiles` [p]."""
    at_percentiles[:] = _NAN
    missing = int(np.count_nonzero(np.isnan(values)))
    infinite = int(np.count_nonzero(np.isinf(values)))
    counts = {"count": values.size - missing, "missing": missing, "infinite": infinite}
    found: dict[str, Any] = (
        counts | {"sum": _NAN if values.size else 0.0} | dict.fromkeys(_OTHERS, _NAN)
    )
    if missing or not values.size:
        return found
    with np.errstate(all="ignore"):
        found["min"], found["max"] = values.min(), values.max()
        found["range"] = found["max"] - found["min"]
        if infinite:
            found["sum"] = found["mean"] = values.sum()
        elif found["range"] == 0:
            found |= _of_a_constant(values, ddof)
        else:
            found |= _moments(values, ddof, found["range"])
        if percentiles is not None:
            found |= _orders(values, percentiles, at_percentiles)
            at_percentiles += 0.0
    # Adding zero makes zeros of both signs one: which of equal values is found is nobody's choice.
    return {name: float(value) + 0.0 for name, value in found.items()} | counts


_OTHERS: Final = (
    *("mean", "variance", "std", "sem", "min", "max", "range"),
    *("median", "iqr", "mad", "skewness", "kurtosis"),
)


def _of_a_constant(values: Floats, ddof: int) -> dict[str, Any]:
    found = {"sum": values[0] * float(values.size), "mean": values[0]}
    return found | dict.fromkeys(("variance", "std", "sem"), 0.0 if ddof < values.size else _NAN)


def _moments(values: Floats, ddof: int, spread: float) -> dict[str, Any]:
    """Sum to kurtosis of a finite series that is not constant, in two passes."""
    exponent = 0
    if not _SMALL_RANGE < spread < _LARGE_RANGE:
        exponent = min(max(math.frexp(min(spread, _MAX))[1] - 1, -1000), 1000)
    scaled = np.ldexp(values, -exponent) if exponent else values
    n = values.size
    centre = scaled.sum() / n
    powers = scaled - centre
    shift = powers.sum() / n
    powers -= shift
    squares = powers * powers
    m2, m3, m4 = squares.sum(), (squares * powers).sum(), (squares * squares).sum()
    total = values.sum()
    found = {
        "sum": total if np.isfinite(total) else np.ldexp(scaled.sum(), exponent),
        "mean": np.ldexp(centre + shift, exponent),
    }
    if ddof < n:
        variance = m2 / (n - ddof)
        found["variance"] = np.ldexp(variance, 2 * exponent)
        found["std"] = np.ldexp(np.sqrt(variance), exponent)
        found["sem"] = found["std"] / math.sqrt(n)
    m2 /= n
    if m2 > (_EPSILON * centre) ** 2:
        found["skewness"] = m3 / n / (m2 * np.sqrt(m2))
        found["kurtosis"] = m4 / n / (m2 * m2) - 3.0
    return found


_MAX: Final = float(np.finfo(float64).max)


def _orders(values: Floats, percentiles: Floats, at_percentiles: Floats) -> dict[str, Any]:
    """Median, interquartile range and median absolute deviation; fills `at_percentiles`."""
    n = values.size
    wanted = np.append(percentiles, (25.0, 75.0))
    places = (n - 1) * (wanted / 100)
    lower = np.minimum(np.floor(places), n - 1).astype(int64)
    upper = np.minimum(lower + 1, n - 1)
    weights = places - lower
    middle = np.array([(n - 1) // 2, n // 2])
    ordered = _ordered_at(values.copy(), np.concatenate((lower, upper, middle)))
    low, high = ordered[lower], ordered[upper]
    step = high - low
    at_wanted = np.where(weights >= 0.5, high - step * (1 - weights), low + step * weights)
    at_percentiles[:] = at_wanted[:-2]
    median = _middle(*ordered[middle])
    found = {"iqr": at_wanted[-1] - at_wanted[-2], "median": median}
    if np.isfinite(median):
        found["mad"] = _middle(*_ordered_at(np.abs(values - median), middle)[middle])
    return found


def _ordered_at(values: Floats, ranks: NDArray[int64]) -> Floats:
    """Permute `values` in place so that a sort would leave the value of each rank of `ranks`.

    One rank at a time, for NumPy vectorizes only that; each in what the others left of the series.
    """
    open_parts = [(0, values.size, np.unique(ranks))]
    while open_parts:
        first, end, inside = open_parts.pop()
        if inside.size:
            half = inside.size // 2
            rank = int(inside[half])
            values[first:end].partition(rank - first)
            open_parts += [(first, rank, inside[:half]), (rank + 1, end, inside[half + 1 :])]
    return values


def _middle(a: float64, b: float64) -> float64:
    """Return the mean of two values; of their halves where their sum overflows."""
    total = a + b
    overflows = np.isinf(total) and np.isfinite(a) and np.isfinite(b)
    return a / 2 + b / 2 if overflows else total / 2
