"""log and exp with the same bits as src/elementary.h: the same operations, in the same order.

The formulas and the source of the constants stand there. Change both or none.
"""

import numpy as np
from numpy.typing import NDArray

_LN2_HIGH = float.fromhex("0x1.62e42fefa3000p-1")
_LN2_LOW = float.fromhex("0x1.3de6af278ece6p-42")
_ONE = np.uint64(0x3FF0000000000000)
_SQRT_HALF = np.uint64(0x3FE6A09E667F3BCD)
_TO_INTEGER = 1.5 * 2.0**52

_LOG = tuple(
    float.fromhex(digits)
    for digits in (
        "0x1.2b584aae78a57p-3",
        "0x1.39fe606542ddep-3",
        "0x1.7462b4ab2ef6bp-3",
        "0x1.c71c62e5800a1p-3",
        "0x1.2492492df148dp-2",
        "0x1.99999999952e2p-2",
        "0x1.5555555555558p-1",
    )
)
_EXP = tuple(
    float.fromhex(digits)
    for digits in (
        "0x1.af389ecfc4b9cp-26",
        "0x1.28917c89a43a7p-22",
        "0x1.71de0db2f6b19p-19",
        "0x1.a019b9149a41cp-16",
        "0x1.a01a01a7c2efep-13",
        "0x1.6c16c17889ef1p-10",
        "0x1.11111111109b5p-7",
        "0x1.5555555553d68p-5",
        "0x1.5555555555556p-3",
        "0x1.0000000000001p-1",
    )
)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of each value, within 2 ulp; of 0 -inf, of less nan."""
    with np.errstate(all="ignore"):
        subnormal = x < 2.0**-1022
        bits = np.where(subnormal, x * 2.0**54, x).view(np.uint64)
        exponent = (bits + (_ONE - _SQRT_HALF)) >> np.uint64(52)
        f = (bits - (exponent << np.uint64(52)) + _ONE).view(np.float64) - 1.0
        k = exponent.astype(np.float64) - 1023.0 - 54.0 * subnormal
        s = f / (2.0 + f)
        z = s * s
        r = _polynomial(_LOG, z) * z
        half = 0.5 * f * f
        y = k * _LN2_HIGH - ((half - (s * (half + r) + k * _LN2_LOW)) - f)
    y = np.where(x < np.inf, y, x)
    return np.where(x < 0.0, np.nan, np.where(x == 0.0, -np.inf, y))


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return e to the power of each value, within 2 ulp; inf above 709.78, 0 below -745.13."""
    with np.errstate(all="ignore"):
        bounded = np.where(x < -746.0, -746.0, x)
        bounded = np.where(bounded > 710.0, 710.0, bounded)
        shifted = bounded * float.fromhex("0x1.71547652b82fep+0") + _TO_INTEGER
        k = shifted - _TO_INTEGER
        r = (bounded - k * _LN2_HIGH) - k * _LN2_LOW
        y = 1.0 + (r + (r * r) * _polynomial(_EXP, r))
        whole = np.where(np.isnan(k), 0.0, k)
        first = np.floor(whole * 0.5)
        scaled: NDArray[np.float64] = y * np.exp2(first) * np.exp2(whole - first)
    return scaled
