"""Changes messages at random: their bytes, and what these stand for."""

import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

#: Numbers at which something begins or ends, for lengths, counts and values.
EDGES: Final = (
    *(0, 1, 2, 3, 15, 16, 31, 32, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -32, -33, -128, -(2**31), -(2**63)),
)
FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, 5e-324, *map(float, ("inf", "nan")))
#: Longest input: enough for every head and limit, short enough for thousands of tries a second.
MOST_BYTES: Final = 4096


def change(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Return `data` changed in one to four places, now and then mixed with one of `others`."""
    for _ in range(draw.randint(1, 4)):
        data = draw.choice(CHANGES)(data, others, draw)[:MOST_BYTES]
    return data


def _flip(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    if not data:
        return bytes([draw.randrange(256)])
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def _overwrite(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    new = bytes(draw.randrange(256) for _ in range(draw.randint(1, 4)))
    return data[:at] + new + data[at + len(new) :]


def _insert(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    edge = draw.choice(EDGES) % 2**64
    width = draw.choice((1, 2, 4, 8))
    return data[:at] + edge.to_bytes(8)[8 - width :] + data[at:]


def _cut(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    first, last = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def _repeat(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    first, last = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:last] * draw.randint(1, 8) + data[last:]


def _splice(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    other = draw.choice(others)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def _restructure(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Change a value inside a message that stays one; its first byte may be a selector."""
    head = draw.randrange(2)
    try:
        value = msgpack.unpackb(data[head:], strict_map_key=False, raw=False)
        if isinstance(value, dict) and value and draw.random() < 0.1:
            pairs = [*value.items(), draw.choice(list(value.items()))]  # a key that comes twice
            return data[:head] + msgpack.Packer().pack_map_pairs(pairs)
        return data[:head] + msgpack.packb(_vary(value, draw))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException, RecursionError):
        return _flip(data, others, draw)


def _reword(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Change a value inside a JSON text that stays one; its first byte may be a selector."""
    head = draw.randrange(2)
    try:
        return data[:head] + json.dumps(_vary(json.loads(data[head:]), draw)).encode()
    except (ValueError, TypeError, RecursionError):
        return _restructure(data, others, draw)


def _vary(value: Any, draw: random.Random) -> Any:
    """Return `value` with one of its parts changed, or replaced by something of another kind."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(list(value))
        if draw.random() < 0.1:
            return {key: part for key, part in value.items() if key != name}
        return value | {name: _vary(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.2:
            return value[:at] + value[at:] * 2
        return [*value[:at], _vary(value[at], draw), *value[at + 1 :]]
    if isinstance(value, msgpack.ExtType) and draw.random() < 0.9:
        return msgpack.ExtType(value.code, _vary_array(value.data, draw))
    if draw.random() < 0.3:
        return _disguise(value, draw)
    return draw.choice(_REPLACEMENTS)(draw)


def _disguise(value: Any, draw: random.Random) -> Any:
    """Return what looks like `value`: another type that may equal it, or a nest around it."""
    if isinstance(value, int | float) and math.isfinite(value) and draw.random() < 0.7:
        return draw.choice((float(value), bool(value), int(value), str(value), -value))
    if isinstance(value, str) and draw.random() < 0.7:
        return draw.choice((value.encode(), list(value), value.upper()))
    for _ in range(draw.choice((1, 1, 1, 14, 15, 16, 17, 40))):
        value = {"": value} if draw.random() < 0.3 else [value]
    return value


def _vary_array(data: bytes, draw: random.Random) -> bytes:
    """Change the elements of an array, its type, or its shape, of which the first may fit."""
    if draw.random() < 0.25:
        head = bytes([draw.randrange(8), draw.randrange(10)])
        return head[:1] + data[1:] if draw.random() < 0.5 else data[:1] + head[1:] + data[2:]
    if len(data) < 16:
        return data + b"\0"
    if draw.random() < 0.5:
        at = draw.randrange(0, len(data) - 7, 8)
        packed = struct.pack("<d", draw.choice(FLOATS))
        if draw.random() < 0.5:
            packed = struct.pack("<Q", draw.choice(EDGES) % 2**64)
        return data[:at] + packed + data[at + 8 :]
    shape, rest = int.from_bytes(data[8:16], "little"), data[16:]
    kept = max(0, shape - 1)
    size = len(rest) // max(1, shape)
    return data[:8] + struct.pack("<Q", kept) + rest[: kept * size]


_REPLACEMENTS: Final[tuple[Callable[[random.Random], Any], ...]] = (
    lambda draw: draw.choice([edge for edge in EDGES if -(2**63) <= edge < 2**64]),
    lambda draw: draw.choice(FLOATS),
    lambda draw: draw.choice((None, True, False, [], {}, "", b"", "ucb1", "omit", "nan")),
    lambda draw: [draw.choice(FLOATS) for _ in range(draw.randrange(6))],
    lambda draw: [[draw.choice((0, 1, 2, -1)) for _ in range(2)] for _ in range(draw.randrange(4))],
    lambda draw: "x" * draw.choice((1, 40, 300)),
)

CHANGES: Final[tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...]] = (
    *(_flip, _overwrite, _insert, _cut, _repeat, _splice),
    *((_restructure,) * 3),
    *((_reword,) * 3),
)
