"""The codec: what travels and comes back, and bytes of every kind of malice."""

import contextlib
import dataclasses
import math
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from kombu import serialization
from kombu.exceptions import DecodeError
from numpy.typing import NDArray

from contract import codec
from contract.arrays import DTYPES, MAX_ARRAY_BYTES
from contract.codec import CONTROL, INLINE, Limits, decode, encode
from contract.errors import MessageError
from tests import hostile

SMALL = dataclasses.replace(
    INLINE, max_bytes=200, max_items=20, max_length=10, max_text=15, max_depth=3
)


def same(left: Any, right: Any) -> bool:
    """Say whether two values are the same in type, shape and every bit."""
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, float):
        return type(right) is float and struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, list | tuple):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and list(left) == list(right)
            and all(same(value, right[key]) for key, value in left.items())
        )
    return type(left) is type(right) and bool(left == right)


# --- There and back ---

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | arrays
)
messages = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(messages)
def test_what_travels_comes_back_bit_for_bit(value: Any) -> None:
    assert same(value, decode(encode(value)))


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
def test_an_array_of_any_layout_travels_as_its_values(dtype: str, kind: str) -> None:
    good = np.arange(12).reshape(3, 4).astype(dtype)
    passed = hostile.SAME[kind](good)
    if not isinstance(passed, np.ndarray) or kind == "narrower":
        return
    found = decode(encode(passed))
    assert same(good, found)
    assert np.array_equal(passed, good)


def test_the_wire_form_of_an_array_is_as_documented() -> None:
    array = np.array([[1.5, -2.0, 0.25]], ">f8")
    outer = msgpack.unpackb(encode({"a": array}))["a"]
    assert outer.code == 1
    dtype, rank, padding = struct.unpack_from("<BB6s", outer.data)
    assert (("f4", "f8", "i4", "i8", "u1", "b1")[dtype], rank, padding) == ("f8", 2, b"\0" * 6)
    assert struct.unpack_from("<2Q", outer.data, 8) == (1, 3)
    assert struct.unpack_from("<3d", outer.data, 24) == (1.5, -2.0, 0.25)
    assert len(outer.data) == 24 + 24


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0,)),
        np.zeros((0, 0), np.int32),
        np.zeros((3, 0, 2**40), bool),
        np.zeros((0, 2**30, 2**30), np.uint8),
        np.array(1.5),
        np.array(True),
        np.zeros((1,) * 8),
        np.broadcast_to(np.float32(2.0), (3, 4)),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array([math.nan, -math.nan, -0.0, math.inf, 5e-324]),
        np.array([0x7FF0000000000001], np.int64).view(np.float64),  # a signalling NaN
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_unusual_arrays_keep_shape_and_bits(array: NDArray[Any]) -> None:
    found = decode(encode(array))
    assert same(np.ascontiguousarray(array).reshape(array.shape), found)


def test_the_elements_lie_aligned_within_the_extension() -> None:
    for rank in range(9):
        data = msgpack.unpackb(encode(np.zeros((1,) * rank))).data
        assert (len(data) - 8) % 8 == 0


def test_a_decoded_array_shares_the_message_and_cannot_be_written() -> None:
    found = decode(encode(np.arange(3)))
    assert not found.flags.writeable
    assert not found.flags.owndata


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.float16(1.5), 1.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        ((1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict(a=np.float32(2)), {"a": 2.0}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        ("ä\0\U0001f33e", "ä\0\U0001f33e"),
    ],
)
def test_what_stands_for_a_plain_value_travels_as_it(value: Any, expected: Any) -> None:
    assert same(expected, decode(encode(value)))


class Surprise:
    def __reduce__(self) -> Any:
        raise AssertionError("pickled")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Surprise(),
        {1, 2},
        range(3),
        1j,
        np.complex128(1),
        2**64,
        -(2**63) - 1,
        len,
        "\ud800",
        {"a": [Surprise()]},
        np.array([1j]),
        np.array(["a"]),
        np.array([b"a"]),
        np.array([None]),
        np.array(["2026-01-01"], "M8[s]"),
        np.zeros(2, "i4,f8"),
        np.zeros(2, np.float16),
        np.zeros(2, np.longdouble),
        np.zeros(2, np.int16),
        np.zeros(2, np.uint64),
        np.zeros((1,) * 9),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.array(["a"], np.dtypes.StringDType()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_travel_is_refused_by_the_sender(value: Any) -> None:
    with pytest.raises(MessageError, match=r"^message: not encodable .*, expected plain values"):
        encode(value)


def test_a_value_nested_in_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(MessageError, match="not encodable"):
        encode(cycle)


def test_more_than_the_other_side_reads_is_refused_by_the_sender(monkeypatch) -> None:
    monkeypatch.setattr(codec, "INLINE", dataclasses.replace(INLINE, max_bytes=100))
    encode(b"x" * 90)
    with pytest.raises(MessageError, match=r"^message: 103 bytes, expected at most 100$"):
        encode(b"x" * 101)


def test_encoding_changes_nothing_of_what_it_is_given() -> None:
    array = np.arange(6.0).reshape(2, 3)[:, ::-1]
    before = array.copy()
    value = {"a": array, "b": [1, {"c": array}]}
    encode(value)
    assert value["a"] is array
    assert np.array_equal(array, before)


# --- Bytes of every kind of malice ---


def extension(data: bytes, code: int = 1) -> bytes:
    packed = msgpack.packb(msgpack.ExtType(code, data))
    assert isinstance(packed, bytes)
    return packed


def array(dtype: int, rank: int, shape: tuple[int, ...], data: bytes, pad: bytes = b"\0" * 6):
    header = struct.pack("<BB", dtype, rank) + pad
    return extension(header + struct.pack(f"<{len(shape)}Q", *shape) + data)


VALID = encode(
    [
        [np.arange(3.0)],
        {
            "values": np.array([[1, 2], [3, 4]]),
            "name": "x" * 40,
            "flag": True,
            "none": None,
            "big": 2**40,
            "small": -3,
            "wide": [1.5] * 20,
            "raw": b"y" * 300,
            "text": "ü" * 200,
        },
        {},
    ]
)

HOSTILE = {
    "empty": b"",
    "the byte that msgpack never uses": b"\xc1",
    "that byte in a list": b"\x92\x01\xc1",
    "trailing byte": b"\x01\x01",
    "trailing message": encode([1]) + encode([2]),
    "trailing zeroes": VALID + b"\0" * 4,
    "list that ends early": b"\x92\x01",
    "map without its value": b"\x81\xa1a",
    "text that ends early": b"\xa5abc",
    "number that ends early": b"\xcf\0\0",
    "length that ends early": b"\xdd\0\0",
    "extension without a type": b"\xd4",
    "extension that ends early": b"\xc7\x08\x01\0",
    "list of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "text of 2**32 - 1": b"\xdb\xff\xff\xff\xff",
    "bytes of 2**32 - 1": b"\xc6\xff\xff\xff\xff",
    "extension of 2**32 - 1": b"\xc9\xff\xff\xff\xff\x01",
    "lists in lists": b"\x91" * 1000 + b"\x90",
    "lists in lists without end": b"\x91" * 100_000,
    "maps in maps": b"\x81\xa1a" * 1000 + b"\x80",
    "lists of many in lists of many": b"\xdd\x00\x03\xff\xff" * 1000,
    "a million empty lists": b"\xdd\x00\x03\xff\xff" + b"\x94\x90\x90\x90\x90" * 0x3FFFF,
    "seventeen levels": b"\x91" * 17 + b"\x01",
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "a key twice in a map inside": b"\x91\x82\xa0\x01\xa0\x01",
    "a number as a key": b"\x81\x01\x02",
    "bytes as a key": b"\x81\xc4\x01a\x02",
    "a list as a key": b"\x81\x90\x02",
    "none as a key": b"\x81\xc0\x02",
    "an array as a key": b"\x81" + encode(np.zeros(1)) + b"\x01",
    "text that is no UTF-8": b"\xa2\xff\xfe",
    "half a surrogate": b"\xa3\xed\xa0\x80",
    "a key that is no UTF-8": b"\x81\xa1\xff\x01",
    "unknown extension": extension(b"", 2),
    "extension of a negative type": extension(b"12345678", 127).replace(b"\x7f", b"\x80"),
    "timestamp of 32 bits": b"\xd6\xff\0\0\0\x01",
    "timestamp of 64 bits": b"\xd7\xff\0\0\0\0\0\0\0\x01",
    "timestamp of 96 bits": b"\xc7\x0c\xff" + b"\0" * 12,
    "timestamp out of range": b"\xc7\x0c\xff" + b"\xff" * 12,
    "array without a header": extension(b""),
    "array with half a header": extension(b"\x01\x01\0\0"),
    "array without its shape": extension(b"\x01\x02" + b"\0" * 6 + b"\0" * 8),
    "array of an unknown type": array(6, 1, (1,), b"\0" * 8),
    "array of type 255": array(255, 1, (1,), b"\0" * 8),
    "array of nine dimensions": array(1, 9, (1,) * 9, b"\0" * 8),
    "array of 255 dimensions": array(1, 255, (1,) * 9, b"\0" * 8),
    "fewer elements than the shape": array(1, 1, (2,), b"\0" * 8),
    "more elements than the shape": array(1, 1, (1,), b"\0" * 16),
    "part of an element": array(1, 1, (1,), b"\0" * 7),
    "elements of an empty shape": array(1, 1, (0,), b"\0" * 8),
    "a shape without elements": array(1, 1, (1,), b""),
    "a product that overflows to the right size": array(1, 2, (2**63, 2), b""),
    "a product that overflows to one": array(4, 2, (2**32 + 1, 2**32 - 1), b"\0"),
    "a shape beyond memory": array(1, 2, (2**40, 2**20), b"\0" * 8),
    "a negative dimension": array(1, 1, (2**64 - 1,), b"\0" * 8),
    "an empty shape that overflows": array(1, 3, (0, 2**63, 2**63), b""),
    "an empty dimension beyond a C integer": array(1, 2, (0, 2**63), b""),
    "rank zero without its element": array(1, 0, (), b""),
    "rank zero with two elements": array(1, 0, (), b"\0" * 16),
    "bool of two": array(5, 1, (3,), b"\0\1\2"),
    "bool of 255": array(5, 1, (1,), b"\xff"),
    "json": b'{"a": 1}',
    "pickle": pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_a_message_error(name: str) -> None:
    with pytest.raises(MessageError, match=r"^message: .*expected ") as caught:
        decode(HOSTILE[name])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "name", sorted(HOSTILE.keys() - {"a million empty lists"})
)  # slow to trace
def test_hostile_bytes_cost_little_memory_and_time(name: str) -> None:
    body = HOSTILE[name]
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(MessageError):
            decode(body)
        seconds = time.perf_counter() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20 + 4 * len(body)
    assert seconds < 5


def test_every_beginning_of_a_message_is_truncated() -> None:
    for end in range(len(VALID)):
        with pytest.raises(MessageError, match="expected "):
            decode(VALID[:end])


@pytest.mark.parametrize("body", ["text", "", None, 5, [], {}, object()])
def test_what_is_no_bytes_is_a_message_error(body: Any) -> None:
    with pytest.raises(MessageError, match=r"^message: \w+, expected msgpack bytes$"):
        decode(body)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_read(kind: Any) -> None:
    assert decode(kind(encode([1, "a"]))) == [1, "a"]


@given(st.binary(max_size=60))
@example(b"\xdc\xff\xff")
@example(b"\xc9\0\0\0\0\1")
def test_noise_is_decoded_or_a_message_error(body: bytes) -> None:
    try:
        value = decode(body)
    except MessageError:
        return
    assert same(value, decode(encode(value)))


@given(st.data())
def test_a_damaged_message_is_decoded_or_a_message_error(data: st.DataObject) -> None:
    body = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MessageError):
        decode(bytes(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=20,
    )
)
def test_any_plain_message_of_another_msgpack_library_is_read(value: Any) -> None:
    assert same(value, decode(msgpack.packb(value)))


@given(st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 255)), st.binary(max_size=40))
def test_the_data_of_an_array_decodes_or_is_refused(header: dict[str, int], data: bytes) -> None:
    head = bytes([header.get("k", 1), header.get("l", 1)]) + b"\0" * 6
    try:
        found = decode(extension(head + data))
    except MessageError:
        return
    assert isinstance(found, np.ndarray)
    assert found.nbytes <= len(data)


# --- Limits ---


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"x" * 200, "202 bytes, expected at most 200"),
        ([0] * 11, "11 elements in a list or map, expected at most 10"),
        ({str(k): 0 for k in range(11)}, "11 elements in a list or map, expected at most 10"),
        ([[0] * 9, [0] * 9], "23 elements, expected at most 20"),
        ([[]] * 9, None),
        ([[[]] * 5] * 2, "elements, expected at most 20"),
        ("x" * 16, "16 bytes of text, expected at most 15"),
        ("ü" * 8, "16 bytes of text, expected at most 15"),
        ({"x" * 16: 1}, "16 bytes of text, expected at most 15"),
        ([[[[]]]], "4 levels, expected at most 3"),
        ([[{"a": []}]], "4 levels, expected at most 3"),
        ([[{"a": 1}]], None),
        ("x" * 15, None),
        (b"x" * 150, None),
        ([0] * 10, None),
    ],
    ids=repr,
)
def test_each_limit_is_held_to_the_last_element(value: Any, what: str | None) -> None:
    if what is None:
        assert decode(encode(value), SMALL) == value
        return
    with pytest.raises(MessageError) as caught:
        decode(encode(value), SMALL)
    assert str(caught.value).endswith(what)


def test_arrays_are_limited_by_the_bytes_of_the_message_alone() -> None:
    assert decode(encode(np.zeros(20)), SMALL).shape == (20,)
    with pytest.raises(MessageError, match="expected at most 200"):
        decode(encode(np.zeros(25)), SMALL)


@pytest.mark.parametrize("limits", [CONTROL, dataclasses.replace(INLINE, max_items=2**16)])
def test_a_message_at_its_limits_costs_a_bounded_amount_of_memory(limits: Limits) -> None:
    # The dearest message by the byte: as many empty lists as may be.
    inner = min(limits.max_length, limits.max_items // 2 - 1)
    body = b"\xdd" + struct.pack(">I", inner) + b"\x90" * inner
    tracemalloc.start()
    try:
        assert len(decode(body, limits)) == inner
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * limits.max_items


def test_an_array_of_the_largest_size_fits_into_a_message() -> None:
    assert INLINE.max_bytes > MAX_ARRAY_BYTES + 2**20
    assert INLINE.max_bytes * 4 / 3 < 2**29  # what Redis takes, after a stock transport's base64


# --- As kombu sees it ---


def test_kombu_knows_the_codec_by_name_and_never_pickles() -> None:
    content_type, encoding, body = serialization.dumps({"a": np.arange(3)}, serializer="gristmill")
    assert (content_type, encoding) == ("application/x-gristmill", "binary")
    found = serialization.loads(body, content_type, encoding, accept={content_type})
    assert found["a"].tolist() == [0, 1, 2]
    with pytest.raises(DecodeError, match="message: "):
        serialization.loads(b"\xc1", content_type, encoding, accept={content_type})
