"""The wire form of job messages: msgpack with NumPy arrays, decoded under limits.

An array is extension type 1: one byte of dtype (index into `contract.arrays.DTYPES`), one of rank,
six of padding, the shape as little-endian unsigned 64-bit integers, then the raw elements in C
order. The header is a multiple of eight long: elements are aligned where the extension's bytes are.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np
from kombu import serialization
from kombu.exceptions import EncodeError
from numpy.typing import NDArray

from contract.arrays import DTYPES, MAX_ARRAY_BYTES
from contract.errors import MessageError

__all__ = [
    "ARRAY_EXTENSION",
    "BATCH",
    "CONTENT_TYPE",
    "CONTROL",
    "INLINE",
    "SERIALIZER",
    "EncodeError",
    "Limits",
    "decode",
    "encode",
]

#: Name of the serializer in kombu, and the content type of its messages.
SERIALIZER: Final = "gristmill"
CONTENT_TYPE: Final = "application/x-gristmill"

ARRAY_EXTENSION: Final = 1
_HEADER = struct.Struct("<BB6x")
_MAX_RANK: Final = 8

#: One array of the largest size, and a quarter of that for what comes with it.
_INLINE_BYTES: Final = MAX_ARRAY_BYTES + MAX_ARRAY_BYTES // 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a message may hold; what is beyond is refused before it costs memory."""

    #: Largest message, in bytes.
    max_bytes: int
    #: Most elements of all its lists and maps together: a byte of msgpack may cost 65 of heap.
    max_items: int
    #: Most elements of one list or map.
    max_length: int
    #: Longest text, in bytes of UTF-8.
    max_text: int
    #: Deepest nesting of lists and maps.
    max_depth: int


#: A message without arrays: headers, journal events, control.
CONTROL: Final = Limits(
    max_bytes=2**18, max_items=2**14, max_length=2**12, max_text=2**16, max_depth=16
)
#: A job or a result with its arrays inside.
INLINE: Final = Limits(
    max_bytes=MAX_ARRAY_BYTES + 2**26,
    max_items=2**20,
    max_length=2**18,
    max_text=2**20,
    max_depth=16,
)
#: Many requests in one message.
BATCH: Final = Limits(
    max_bytes=MAX_ARRAY_BYTES + 2**26,
    max_items=2**22,
    max_length=2**18,
    max_text=2**20,
    max_depth=16,
)


def encode(value: Any) -> bytes:
    """Return `value` as bytes: arrays, NumPy scalars, plain values, lists and maps of them.

    Raises `MessageError` for what cannot travel, and for more than the other side would read.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_pack, strict_types=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MessageError(
            f"message: not encodable ({error}), expected plain values and arrays"
        ) from None
    if len(packed) > INLINE.max_bytes:
        raise MessageError(f"message: {len(packed)} bytes, expected at most {INLINE.max_bytes}")
    return packed


def decode(body: bytes | bytearray | memoryview | str, limits: Limits = INLINE) -> Any:
    """Return the value that `encode` was given, or raise `MessageError`."""
    if isinstance(body, str):
        raise MessageError("message: text, expected msgpack bytes")
    if len(body) > limits.max_bytes:
        raise MessageError(f"message: {len(body)} bytes, expected at most {limits.max_bytes}")
    count = _Count(limits)
    try:
        value = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            ext_hook=_unpack,
            list_hook=count.count_list,
            object_pairs_hook=count.count_map,
            max_array_len=limits.max_length,
            max_map_len=limits.max_length,
            max_str_len=limits.max_text,
            max_bin_len=limits.max_bytes,
            max_ext_len=limits.max_bytes,
        )
    except MessageError:
        raise
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
        raise MessageError(f"message: undecodable ({_reason(error)}), expected msgpack") from None
    _check_depth(value, limits.max_depth)
    return value


class _Count:
    """Counts the elements of a message while it is decoded, so that a small bomb stays small."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.max_items
        self._limits = limits

    def count_list(self, items: list[Any]) -> list[Any]:
        self._take(len(items))
        return items

    def count_map(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._take(len(pairs))
        found = dict(pairs)
        if len(found) != len(pairs):
            raise MessageError("message: duplicate keys in a map, expected each key once")
        return found

    def _take(self, length: int) -> None:
        # An empty list costs heap as well.
        self._left -= length + 1
        if self._left < 0:
            limit = self._limits.max_items
            raise MessageError(f"message: over {limit} elements, expected at most {limit}")


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        if left == 0:
            raise MessageError("message: nested too deeply, expected at most 16 levels")
        for item in value:
            _check_depth(item, left - 1)


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(ARRAY_EXTENSION, _pack_array(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot travel")


def _pack_array(array: NDArray[Any]) -> bytes:
    name = f"{array.dtype.kind}{array.dtype.itemsize}"
    if name not in DTYPES:
        raise TypeError(f"dtype {array.dtype} cannot travel, only {', '.join(DTYPES)}")
    elements = np.require(array, f"<{name}", ["C_CONTIGUOUS"])
    header = _HEADER.pack(DTYPES.index(name), array.ndim)
    shape = struct.pack(f"<{array.ndim}Q", *array.shape)
    return b"".join((header, shape, elements.data if elements.size else b""))


def _unpack(code: int, data: bytes) -> NDArray[Any]:
    if code != ARRAY_EXTENSION:
        raise MessageError(f"message: extension type {code}, expected {ARRAY_EXTENSION} (array)")
    if len(data) < _HEADER.size:
        raise MessageError("message: array without header, expected dtype, rank and shape")
    index, rank = _HEADER.unpack_from(data)
    if index >= len(DTYPES) or rank > _MAX_RANK or len(data) < _HEADER.size + 8 * rank:
        raise MessageError(f"message: array of dtype {index} and rank {rank}, expected a known one")
    shape = struct.unpack_from(f"<{rank}Q", data, _HEADER.size)
    dtype = np.dtype(f"<{DTYPES[index]}")
    start = _HEADER.size + 8 * rank
    # Python's integers do not overflow: a product beyond 2**64 is unequal, not small.
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise MessageError(
            f"message: array of shape {list(shape)} with {len(data) - start} bytes, "
            f"expected {math.prod(shape) * dtype.itemsize}"
        )
    array = np.frombuffer(data, dtype, offset=start)
    if dtype.kind == "b" and array.size and array.view("u1").max() > 1:
        raise MessageError("message: bool array with bytes above 1, expected 0 and 1")
    try:
        return array.reshape(shape)
    except ValueError as error:  # an empty array whose other dimensions overflow
        raise MessageError(f"message: array of shape {list(shape)} ({error})") from None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


serialization.register(SERIALIZER, encode, decode, CONTENT_TYPE, "binary")
