"""Requests and results of the `analytics` family: what a series of numbers says."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from contract.arrays import Array, refuse_unless
from contract.operation import Operation, Result, request, result

__all__ = ["BasicStatisticsRequest", "BasicStatisticsResult", "basic_statistics"]


@request
class BasicStatisticsRequest:
    """Describe a series of n numbers: size, location, spread, shape and percentiles.

    Every field is what NumPy or SciPy computes (the page of the operation names the function), at
    their precision or better: an offset of 1e9 costs no digits, and neither do numbers near the
    ends of float64's range.
    """

    #: The series, [n], at least one number, in any unit; NaN and infinities as `nan_policy` says.
    values: Annotated[ArrayLike, Array("f8", ndim=1, min_size=1)]
    #: Which percentiles to compute, [p], each in [0, 100], in any order; may be empty. None leaves
    #: out all that needs an order of the values, and most of the time: `percentiles` is empty then,
    #: and `median`, `iqr` and `mad` are NaN. Defaults to 5, 25, 50, 75 and 95.
    percentiles: Annotated[
        ArrayLike | None,
        Array("f8", ndim=1, ge=0, le=100, finite=True),
        Field(validate_default=True),
    ] = (5.0, 25.0, 50.0, 75.0, 95.0)
    #: Delta degrees of freedom: the variance divides by count - ddof. Zero or more; defaults to 1.
    ddof: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 1
    #: "raise" refuses NaN and infinities; "omit" leaves NaN out and counts it as missing;
    #: "propagate" answers NaN wherever a NaN enters. Under the latter two infinities are values,
    #: with NumPy's arithmetic. Defaults to "raise".
    nan_policy: Literal["raise", "omit", "propagate"] = "raise"

    def __post_init__(self) -> None:
        """Check what the arguments must be for one another."""
        if self.nan_policy != "raise":
            return
        special = ~np.isfinite(np.asarray(self.values))
        first = int(np.argmax(special))
        was = f"{int(special.sum())} of {special.size} not finite (first at {first})"
        expected = 'finite numbers, or nan_policy "omit" or "propagate"'
        refuse_unless(not special[first], "values", was, expected)


@result
class BasicStatisticsResult(Result):
    """Size, location, spread, shape and percentiles of a series; the unit is that of its values."""

    #: Number of values that are not NaN.
    count: int
    #: Number of values that are NaN; count + missing is n.
    missing: int
    #: Sum of the values.
    sum: float
    #: Arithmetic mean.
    mean: float
    #: Sum of the squared distances from the mean over count - ddof, in the unit squared.
    variance: float
    #: Square root of the variance.
    std: float
    #: Standard error of the mean: std over the square root of count.
    sem: float
    #: Smallest value.
    min: float
    #: Largest value.
    max: float
    #: Largest less smallest value.
    range: float
    #: Middle value, or the mean of the two middle values; NaN where `percentiles` was None.
    median: float
    #: The percentiles asked for, [p], in the order asked for, interpolated linearly; none for None.
    percentiles: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: Interquartile range: percentile 75 less percentile 25; NaN where `percentiles` was None.
    iqr: float
    #: Median absolute deviation about the median, not scaled; NaN where `percentiles` was None.
    mad: float
    #: Fisher-Pearson coefficient of skewness, biased; no unit.
    skewness: float
    #: Excess kurtosis (a normal distribution's is 0), biased; no unit.
    kurtosis: float


basic_statistics = Operation(
    "analytics.basic_statistics", BasicStatisticsRequest, BasicStatisticsResult
)
