"""Turns what callers pass into the arrays that kernels take, or refuses it by name.

Kernels take arrays in C order, aligned, in native byte order and of exactly one dtype; neither C
nor cffi can check that. A caller's array is never written to, and is used as it is where it fits.
"""

import math
from typing import Any, Final

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike, NDArray

from native_c.errors import InvalidArgument, OutOfMemory
from native_c.scalars import bounds

#: Kinds of dtype (NumPy's letters) that become each kind without a change of meaning.
_ACCEPTED: Final = {"f": "biuf", "i": "biu", "u": "biu", "b": "b"}
_NUMBERS: Final = {"f": "real numbers", "i": "whole numbers", "u": "whole numbers", "b": "booleans"}
_RANKS: Final = ("a single number", "one dimension", "two dimensions", "three dimensions")

#: The dtypes of kernels. To compare an array's with one of these is to compare two objects, where
#: NumPy first makes a dtype of `np.float64`: small jobs are made of such steps.
FLOAT32: Final = np.dtype(np.float32)
FLOAT64: Final = np.dtype(np.float64)
INT32: Final = np.dtype(np.int32)
INT64: Final = np.dtype(np.int64)


def as_array(name: str, value: object, dtype: DTypeLike, ndim: int) -> NDArray[Any]:
    """Return `value` as an aligned native array of `dtype` in C order, with `ndim` dimensions.

    Takes anything NumPy reads as numbers: lists, views, any byte order. Booleans and integers
    become floats; floats never become integers. Raises InvalidArgument, which begins with `name`,
    for anything else, and OutOfMemory where the result does not fit.
    """
    if type(value) is ndarray and value.ndim == ndim:
        found = value.dtype
        if found is dtype or found == dtype:
            flags = value.flags
            if flags.c_contiguous and flags.aligned:
                return value
    return _coerce(name, value, np.dtype(dtype), ndim)


def _coerce(name: str, value: object, dtype: np.dtype[Any], ndim: int) -> NDArray[Any]:
    array = _read(name, value)
    if array.dtype.kind not in _ACCEPTED[dtype.kind]:
        raise InvalidArgument(f"{name}: dtype {array.dtype}, expected {_NUMBERS[dtype.kind]}")
    if array.ndim != ndim:
        raise InvalidArgument(f"{name}: shape {list(array.shape)}, expected {_RANKS[ndim]}")
    try:
        exact = _convert(array, dtype)
    except (MemoryError, ValueError) as error:  # NumPy's "array is too big" is a ValueError
        message = f"{name}: shape {list(array.shape)}, expected an array that fits in memory"
        raise OutOfMemory(message) from error
    # Only now: a broadcast view may have more elements than anyone can look at.
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        _refuse_overflow(name, array, dtype)
    return exact


def _convert(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.itemsize < array.dtype.itemsize:
        with np.errstate(over="ignore"):  # a float too large for float32 becomes inf, and is one
            return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])
    exact = np.asarray(array, dtype, order="C")
    return exact if exact.flags.aligned else exact.copy()


def _read(name: str, value: object) -> NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InvalidArgument(f"{name}: masked values, expected an array without a mask")
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(
            f"{name}: a ragged sequence, expected rows of equal length"
        ) from error
    except Exception as error:  # an object's own __array__ may raise anything
        was = f"unreadable ({type(error).__name__}: {error})"
        raise InvalidArgument(f"{name}: {was}, expected an array of numbers") from error


def _refuse_overflow(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    if np.can_cast(array.dtype, dtype) or array.size == 0:
        return
    bounds = np.iinfo(dtype)
    for extreme in (int(array.min()), int(array.max())):
        if not bounds.min <= extreme <= bounds.max:
            raise InvalidArgument(f"{name}: {extreme}, expected values that fit {dtype}")


def require_shape(name: str, array: NDArray[Any], shape: tuple[int, ...], like: str) -> None:
    """Raise InvalidArgument unless `array` has `shape`, the shape that follows from `like`."""
    if array.shape != shape:
        message = f"{name}: shape {list(array.shape)}, expected shape {list(shape)} as {like}"
        raise InvalidArgument(message)


def require_finite(name: str, array: NDArray[Any]) -> None:
    """Raise InvalidArgument at the first NaN or infinity of `array`."""
    _require(name, array, np.isfinite(array), "finite values")


def require_between(
    name: str, array: NDArray[Any], low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise InvalidArgument at the first element of `array` that is not in [low, high]."""
    _require(name, array, (array >= low) & (array <= high), bounds(low, high))


def _require(name: str, array: NDArray[Any], holds: NDArray[np.bool_], expected: str) -> None:
    if not holds.all():
        where = np.unravel_index(int(np.argmin(holds)), array.shape)
        position = ", ".join(str(int(index)) for index in where)
        raise InvalidArgument(f"{name}: {array[where]} at [{position}], expected {expected}")
