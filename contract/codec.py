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
    "BATCH_CONTENT_TYPE",
    "BATCH_SERIALIZER",
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

#: The same for a message of many requests.
BATCH_SERIALIZER: Final = "gristmill-batch"
BATCH_CONTENT_TYPE: Final = "application/x-gristmill-batch"

ARRAY_EXTENSION: Final = 1
_HEADER = struct.Struct("<BB6x")
_MAX_RANK: Final = 8

#: One array of the largest size, and a quarter of that for what comes with it.
_INLINE_BYTES: Final = MAX_ARRAY_BYTES + MAX_ARRAY_BYTES // 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a message may hold; what is beyond is refused before anything is made of it."""

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


def decode(body: object, limits: Limits = INLINE) -> Any:
    """Return the value that `encode` was given, or raise `MessageError`."""
    if not isinstance(body, bytes | bytearray | memoryview):
        raise MessageError(f"message: {type(body).__name__}, expected msgpack bytes")
    if len(body) > limits.max_bytes:
        raise MessageError(f"message: {len(body)} bytes, expected at most {limits.max_bytes}")
    body = bytes(body)
    _survey(body, limits)
    try:
        return msgpack.unpackb(
            body, raw=False, strict_map_key=True, ext_hook=_unpack, object_pairs_hook=_unpack_map
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise MessageError(f"message: undecodable ({_reason(error)}), expected msgpack") from None


def _survey(body: bytes, limits: Limits) -> None:
    """Read the heads of a message alone, and refuse what would cost more than `limits` allow.

    msgpack itself makes room for a list before it has seen the elements: a few bytes of nested
    heads would take megabytes.
    """
    at, items, unread = 0, 0, [1]
    while unread:
        if not unread[-1]:
            unread.pop()
            continue
        unread[-1] -= 1
        if at >= len(body):
            raise MessageError(f"message: {len(body)} bytes, expected more: it is truncated")
        kind, width, length = _HEADS[body[at]]
        at += 1
        if width:
            length = int.from_bytes(body[at : at + width])
            at += width
        if kind in _NESTED:
            items += length + 1  # an empty list costs heap as well
            _check(length, limits.max_length, "elements in a list or map")
            _check(items, limits.max_items, "elements")
            _check(len(unread), limits.max_depth, "levels")
            unread.append(2 * length if kind == "map" else length)
            continue
        if kind == "extension":
            _check_extension(body[at : at + 1])
            at += 1
        elif kind == "text":
            _check(length, limits.max_text, "bytes of text")
        elif kind == "nothing":
            raise MessageError(f"message: byte 0xc1 at {at - 1}, expected msgpack")
        at += length
    if at != len(body):
        what = "more: it is truncated" if at > len(body) else f"{at}"
        raise MessageError(f"message: {len(body)} bytes, expected {what}")


def _check(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise MessageError(f"message: {number} {what}, expected at most {limit}")


def _check_extension(code: bytes) -> None:
    if code and code[0] != ARRAY_EXTENSION:
        said = int.from_bytes(code, signed=True)
        raise MessageError(f"message: extension type {said}, expected {ARRAY_EXTENSION} (array)")


def _heads() -> list[tuple[str, int, int]]:
    """Return for each first byte the kind, the bytes of a length that follows, or the length."""
    scalars = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8)  # from 0xc0 to 0xd3
    heads = [("scalar", 0, 0)] * 128
    heads += [("map", 0, n) for n in range(16)]
    heads += [("list", 0, n) for n in range(16)]
    heads += [("text", 0, n) for n in range(32)]
    heads += [("scalar", 0, n) for n in scalars]
    heads += [("extension", 0, n) for n in (1, 2, 4, 8, 16)]
    heads += [("text", n, 0) for n in (1, 2, 4)]
    heads += [(kind, n, 0) for kind in ("list", "map") for n in (2, 4)]
    heads += [("scalar", 0, 0)] * 32
    heads[0xC1] = ("nothing", 0, 0)
    for first, kind in ((0xC4, "bytes"), (0xC7, "extension")):
        heads[first : first + 3] = [(kind, n, 0) for n in (1, 2, 4)]
    return heads


_HEADS: Final = _heads()
_NESTED: Final = ("list", "map")


def _unpack_map(pairs: list[tuple[object, Any]]) -> dict[str, Any]:
    found = {key: value for key, value in pairs if isinstance(key, str)}
    if len(found) != len(pairs):
        raise MessageError("message: a key twice, or one that is no text, expected each key once")
    return found


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
    if array.ndim > _MAX_RANK or np.ma.is_masked(array):
        raise TypeError(
            f"a masked array, or one of more than {_MAX_RANK} dimensions, cannot travel"
        )
    elements = np.require(array, f"<{name}", ["C_CONTIGUOUS"])
    header = _HEADER.pack(DTYPES.index(name), array.ndim)
    shape = struct.pack(f"<{array.ndim}Q", *array.shape)
    return b"".join((header, shape, elements.data if elements.size else b""))


def _unpack(code: int, data: bytes) -> NDArray[Any]:
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
        was = f"array of shape {list(shape)} ({error})"
        raise MessageError(f"message: {was}, expected one that NumPy holds") from None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _decode_batch(body: object) -> Any:
    return decode(body, BATCH)


serialization.register(SERIALIZER, encode, decode, CONTENT_TYPE, "binary")
serialization.register(BATCH_SERIALIZER, encode, _decode_batch, BATCH_CONTENT_TYPE, "binary")
