"""Reads a msgpack value as docs/wire.md says, apart from our codec: what the fuzzer compares with.

It shares nothing with `contract.codec` but the library that splits bytes into values, whose own
strictness it does not use; messages are so short that no limit but that of nesting can bind.
"""

import math
import struct
from typing import Any, Final

import msgpack
import numpy as np

#: By the page: the number of an element type.
TYPES: Final = ("<f4", "<f8", "<i4", "<i8", "|u1", "|b1")
MOST_DIMENSIONS: Final = 8
MOST_LEVELS: Final = 16
ARRAY: Final = 1

#: An array as the page describes it: element type, shape and bytes.
Array = tuple[str, tuple[int, ...], bytes]


class UnreadableError(Exception):
    """Raised when bytes are no message by the page."""


class Pairs(list[tuple[Any, Any]]):
    """A map in the order of its bytes, keys that come twice included."""


def read(data: bytes) -> Any:
    """Return a message's value, arrays as `Array`, maps as dicts; or raise `UnreadableError`."""
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=Pairs,
            ext_hook=msgpack.ExtType,
        )
    except Exception as error:
        raise UnreadableError(f"msgpack: {error}") from None
    return _plain(value, 1)


def _plain(value: Any, level: int) -> Any:
    if isinstance(value, list) and level > MOST_LEVELS:
        raise UnreadableError(f"level {level}")
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise UnreadableError(f"keys {keys}")
        return {key: _plain(part, level + 1) for key, part in value}
    if isinstance(value, list):
        return [_plain(part, level + 1) for part in value]
    if isinstance(value, msgpack.ExtType) and value.code == ARRAY:
        return _array(value.data)
    if isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        raise UnreadableError("another extension")
    return value


def _array(data: bytes) -> Array:
    head, rank = data[:8], data[1] if len(data) > 1 else 0
    if len(data) < 8 + 8 * rank or head[0] >= len(TYPES) or rank > MOST_DIMENSIONS:
        raise UnreadableError(f"array {head!r}")
    shape, elements = struct.unpack(f"<{rank}Q", data[8 : 8 + 8 * rank]), data[8 + 8 * rank :]
    name = TYPES[head[0]]
    if math.prod(shape) * int(name[2]) != len(elements):
        raise UnreadableError(f"{len(elements)} bytes for {shape} of {name}")
    if name == "|b1" and max(elements, default=0) > 1:
        raise UnreadableError("a bool above 1")
    return name, shape, elements


def agrees(read_value: Any, decoded: Any) -> bool:
    """Say whether what the codec made is what was read here, down to bits and types."""
    if isinstance(decoded, np.ndarray):
        return bool(read_value == (decoded.dtype.str, decoded.shape, decoded.tobytes()))
    if type(read_value) is not type(decoded):
        return False
    if isinstance(decoded, list):
        return len(read_value) == len(decoded) and all(map(agrees, read_value, decoded))
    if isinstance(decoded, dict):
        return list(read_value) == list(decoded) and all(
            agrees(read_value[key], part) for key, part in decoded.items()
        )
    if isinstance(decoded, float):
        return struct.pack("<d", read_value) == struct.pack("<d", decoded)
    return bool(read_value == decoded)
