"""The analytics kernels in C: see include/analytics.h."""

from typing import Any

import numpy as np
from numpy import float64
from numpy.typing import NDArray

from native_c.compiled import NULL, f64, ffi, lib
from native_c.errors import check

_FIELDS = tuple(name for name, _ in ffi.typeof("nc_basic_statistics").fields)


def basic_statistics(
    values: NDArray[float64],
    percentiles: NDArray[float64] | None,
    ddof: int,
    at_percentiles: NDArray[float64],
) -> dict[str, Any]:
    """Return the fields of nc_basic_statistics and fill `at_percentiles` [p]."""
    asked, scratch = NULL, NULL
    if percentiles is not None:
        asked = f64(percentiles)
        sizes = values.size, percentiles.size
        scratch = f64(np.empty(lib.nc_analytics_basic_statistics_scratch(*sizes)))
    found = ffi.new("nc_basic_statistics *")
    check(
        lib.nc_analytics_basic_statistics(
            values.size,
            f64(values),
            at_percentiles.size,
            asked,
            ddof,
            scratch,
            found,
            f64(at_percentiles),
        )
    )
    return {name: getattr(found, name) for name in _FIELDS}
