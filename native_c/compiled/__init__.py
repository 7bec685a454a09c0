"""The twins in C: each module calls one family's kernels through cffi.

Importing this package loads the extension; where it is missing that is an ImportError.
"""

from typing import Any

from numpy.typing import NDArray

from native_c._kernels import ffi, lib

__all__ = ["F64", "I64", "NULL", "f64", "ffi", "from_buffer", "i64", "lib", "pointer", "u64"]

NULL = ffi.NULL

#: Looked up once, and with types that need no parsing: small jobs are made of such calls.
from_buffer = ffi.from_buffer
F64, I64, _U64 = map(ffi.typeof, ("double[]", "int64_t[]", "uint64_t[]"))


def pointer(ctype: str, array: NDArray[Any]) -> Any:
    """Return a pointer to `array` as `ctype`, such as "float[]"; the array must outlive its use."""
    return from_buffer(ctype, array)


def f64(array: NDArray[Any]) -> Any:
    """Return a `double *` to `array`, prepared by the facade, which must outlive its use."""
    return from_buffer(F64, array)


def i64(array: NDArray[Any]) -> Any:
    """Return an `int64_t *` to `array`, prepared by the facade, which must outlive its use."""
    return from_buffer(I64, array)


def u64(array: NDArray[Any]) -> Any:
    """Return a `uint64_t *` to `array`, prepared by the facade, which must outlive its use."""
    return from_buffer(_U64, array)
