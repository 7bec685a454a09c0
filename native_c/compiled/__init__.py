"""The twins in C: each module calls one family's kernels through cffi.

Importing this package loads the extension; where it is missing that is an ImportError.
"""

from typing import Any

from numpy.typing import NDArray

from native_c._kernels import ffi, lib

__all__ = ["NULL", "f64", "ffi", "i64", "lib", "pointer", "u64"]

NULL = ffi.NULL


def pointer(ctype: str, array: NDArray[Any]) -> Any:
    """Return a pointer to `array` as `ctype`, such as "float[]"; the array must outlive its use."""
    return ffi.from_buffer(ctype, array)


def f64(array: NDArray[Any]) -> Any:
    """Return a `double *` to `array`, prepared by the facade, which must outlive its use."""
    return ffi.from_buffer("double[]", array)


def i64(array: NDArray[Any]) -> Any:
    """Return an `int64_t *` to `array`, prepared by the facade, which must outlive its use."""
    return ffi.from_buffer("int64_t[]", array)


def u64(array: NDArray[Any]) -> Any:
    """Return a `uint64_t *` to `array`, prepared by the facade, which must outlive its use."""
    return ffi.from_buffer("uint64_t[]", array)
