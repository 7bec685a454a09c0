"""Arrays as callers really pass them: unusual ones that must work, and wrong ones that must not.

Each entry makes a hostile object of a good array, named by what is unusual about it:

    @pytest.mark.parametrize("kind", hostile.SAME)
    def test_any_layout_gives_the_same_answer(kind): f(hostile.SAME[kind](array)) ...

`SAME` must give the bits that the good array gives, `REFUSED` must raise the error that names the
argument, and `NOT_FINITE` (of float arrays) must be treated as the operation's documentation says.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Make = Callable[[NDArray[Any]], Any]


def _strided(array: NDArray[Any]) -> Any:
    doubled = np.repeat(array, 2, axis=-1)
    return doubled[..., ::2]


def _inside(array: NDArray[Any]) -> Any:
    """Make a window of a larger array, whose rows therefore do not touch."""
    padded = np.pad(array, 3, mode="edge")
    return padded[(slice(3, -3),) * array.ndim]


def _unaligned(array: NDArray[Any]) -> Any:
    """As decoded from a message: at an odd address, and read-only."""
    raw = b"?" + array.tobytes()
    return np.frombuffer(raw, array.dtype, array.size, offset=1).reshape(array.shape)


def _read_only(array: NDArray[Any]) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _narrower(array: NDArray[Any]) -> Any:
    """In a smaller type where that keeps the values."""
    narrow = array.astype(array.dtype.str.replace("8", "4"))
    return narrow if np.array_equal(narrow, array) else array


class _Exposing:
    """No array, but something that turns into one when asked."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype)


def _masked(array: NDArray[Any]) -> Any:
    mask = np.zeros(array.shape, bool)
    mask.flat[0] = True
    return np.ma.masked_array(array, mask)


def _ragged(array: NDArray[Any]) -> Any:
    return [[1, 2], [3]]


def _huge(array: NDArray[Any]) -> Any:
    """2^58 elements in eight bytes of memory."""
    side = 2 ** (58 // array.ndim)
    return np.broadcast_to(array.flat[0], (side,) * array.ndim)


def _with(value: float) -> Make:
    def make(array: NDArray[Any]) -> Any:
        copy = array.copy()
        copy.flat[copy.size // 2] = value
        return copy

    return make


#: Must give the same answer as the array itself, and leave what was passed untouched.
SAME: dict[str, Make] = {
    "list": lambda array: array.tolist(),
    "tuple": lambda array: tuple(array.tolist()),
    "strided": _strided,
    "reversed": lambda array: array[::-1].copy()[::-1],
    "inside": _inside,
    "big_endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "fortran": np.asfortranarray,
    "read_only": _read_only,
    "unaligned": _unaligned,
    "unaligned_strided": lambda array: _strided(_unaligned(array)),
    "narrower": _narrower,
    "masked_nowhere": lambda array: np.ma.masked_array(array),
    "exposing": _Exposing,
}

#: Must raise, whatever dtype and rank the argument has.
REFUSED: dict[str, Make] = {
    "zero_dimensions": lambda array: array.flat[0],
    "one_dimension_more": lambda array: array[None],
    "none_at_all": lambda array: None,
    "objects": lambda array: array.astype(object),
    "complex": lambda array: array.astype(complex),
    "strings": lambda array: array.astype(str),
    "bytes": lambda array: array.astype(bytes),
    "dates": lambda array: array.astype("i8").astype("M8[s]"),
    "durations": lambda array: array.astype("i8").astype("m8[s]"),
    "records": lambda array: array.astype([("a", array.dtype), ("b", array.dtype)]),
    "masked": _masked,
    "ragged": _ragged,
    "text": lambda array: "1, 2, 3",
    "dict": lambda array: {"values": array},
    "generator": lambda array: (value for value in array.flat),
    "huge": _huge,
}

#: Values that are no numbers, in one place of a float array.
NOT_FINITE: dict[str, Make] = {
    "nan": _with(float("nan")),
    "inf": _with(float("inf")),
    "minus_inf": _with(float("-inf")),
}
