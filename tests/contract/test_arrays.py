"""Array fields: what is coerced, what is refused and in which words, and JSON's spelling."""

import datetime
import decimal
import fractions
import functools
import json
import math
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter

from contract.arrays import DTYPES, NON_FINITE, Array, describe, refuse_unless, summary, to_json
from contract.errors import InvalidRequest
from contract.operation import Operation, Result, request, result
from tests import hostile


@functools.cache
def operation_with(field: Array, optional: bool = False) -> Operation[Any, Any]:
    """Declare an operation with one array field called `values`."""

    @request
    class OneArray:
        values: Annotated[ArrayLike | None if optional else ArrayLike, field]  # type: ignore[valid-type]

    return Operation("tests.one_array", OneArray, Result)


def read(field: Array, value: object) -> NDArray[Any]:
    found = operation_with(field).build(value).values
    assert isinstance(found, np.ndarray)
    return found


def words_of_refusal(field: Array, value: object) -> str:
    with pytest.raises(InvalidRequest, match=r"^values: .+, expected .+") as caught:
        read(field, value)
    return str(caught.value)


GOOD = {
    "f8": np.array([[1.5, -0.0, 2.25], [1e300, 5e-324, -7.0]]),
    "f4": np.array([[1.5, -0.0, 2.25], [1e30, 1e-45, -7.0]], np.float32),
    "i8": np.array([[1, 0, 2**62], [-(2**63), 2**63 - 1, 7]]),
    "i4": np.array([[1, 0, 2**31 - 1], [-(2**31), 5, 7]], np.int32),
    "u1": np.array([[1, 0, 255], [128, 5, 7]], np.uint8),
    "b1": np.array([[True, False, True], [False, False, True]]),
}


def made(kind: str, catalogue: dict[str, Any], good: NDArray[Any]) -> Any:
    with np.errstate(all="ignore"):  # a catalogue may convert what does not fit
        return catalogue[kind](good)


# --- Coerced ---


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_becomes_what_kernels_take(dtype: str, kind: str) -> None:
    good = GOOD[dtype]
    passed = made(kind, hostile.SAME, good)
    found = read(Array(dtype, ndim=2), passed)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.aligned
    assert found.tobytes() == good.tobytes()  # the sign of a zero included


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_callers_array_stays_as_it_was(dtype: str, kind: str) -> None:
    passed = made(kind, hostile.SAME, GOOD[dtype])
    if not isinstance(passed, np.ndarray):
        return
    before = passed.tobytes(), passed.flags.writeable, passed.dtype, passed.strides, passed.shape
    read(Array(dtype, ndim=2), passed)
    after = passed.tobytes(), passed.flags.writeable, passed.dtype, passed.strides, passed.shape
    assert after == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_that_already_fits_is_not_copied(dtype: str) -> None:
    good = GOOD[dtype]
    assert read(Array(dtype), good) is good or np.shares_memory(read(Array(dtype), good), good)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("f8", [True, False], [1.0, 0.0]),
        ("f8", np.array([True, False]), [1.0, 0.0]),
        ("f8", [1, 2], [1.0, 2.0]),
        ("f8", np.array([1.5, -2], np.float16), [1.5, -2.0]),
        ("f8", np.array([0.1], np.float32), [0.10000000149011612]),
        ("f8", np.array([1.5], np.longdouble), [1.5]),
        ("f8", np.array([2**64 - 1], np.uint64), [18446744073709551616.0]),
        ("f8", range(3), [0.0, 1.0, 2.0]),
        ("f8", np.array([1.5, 2.5]).data, [1.5, 2.5]),
        ("f8", bytearray(b"\1\2"), [1.0, 2.0]),
        ("f8", (np.float32(1.5), np.int8(2), 3), [1.5, 2.0, 3.0]),
        ("f8", [1, "NaN", "Infinity", "-Infinity"], [1.0, math.nan, math.inf, -math.inf]),
        ("f8", ["NaN"], [math.nan]),
        ("f4", [1e-60], [0.0]),
        ("f4", np.array([math.inf, math.nan]), [math.inf, math.nan]),
        ("i8", [1.0, -2.0], [1, -2]),
        ("i8", np.array([2**63 - 1], np.uint64), [2**63 - 1]),
        ("i8", np.array([-(2.0**63)]), [-(2**63)]),
        ("i8", [True], [1]),
        ("i4", np.array([2.0**31 - 1]), [2**31 - 1]),
        ("u1", [0, 255.0], [0, 255]),
        ("f8", [], []),
        ("b1", [True, False], [True, False]),
    ],
)
def test_numbers_of_other_types_keep_their_value(dtype: str, value: Any, expected: Any) -> None:
    found = read(Array(dtype, ndim=1), value)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, np.array(expected, dtype))


@pytest.mark.parametrize("shape", [(0,), (0, 0), (2, 0), (0, 3, 5), (2, 0, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_arrays_keep_their_shape(dtype: str, shape: tuple[int, ...]) -> None:
    assert read(Array(dtype, ndim=len(shape)), np.zeros(shape)[...].astype(dtype)).shape == shape


def test_a_single_number_is_an_array_of_rank_zero() -> None:
    for value in (3, 3.0, np.float32(3), np.array(3), np.array(3, ">i4")):
        found = read(Array("f8", ndim=0), value)
        assert (found.shape, found.item()) == ((), 3.0)


def test_any_rank_passes_where_none_is_asked_for() -> None:
    for rank in range(9):
        assert read(Array("f8"), np.zeros((1,) * rank)).ndim == rank


def test_none_passes_only_where_the_field_may_be_none() -> None:
    assert operation_with(Array("f8"), optional=True).build(None).values is None
    assert words_of_refusal(Array("f8", ndim=1), None).startswith("values: dtype object")


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_of_arrays_become_plain_arrays() -> None:
    class Tagged(np.ndarray):
        pass

    for passed in (np.zeros((2, 2)).view(Tagged), np.asmatrix(np.eye(2)), np.ma.array(np.eye(2))):
        assert type(read(Array("f8", ndim=2), passed)) is np.ndarray


def test_a_memory_map_is_read(tmp_path) -> None:
    mapped = np.memmap(tmp_path / "data", np.float64, "w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    assert read(Array("f8", ndim=1), mapped).tolist() == [1, 2, 3, 4]


def test_series_and_frames_are_read_through_their_array() -> None:
    class Series:
        """As pandas does it: an `__array__` with or without the arguments of NumPy 2."""

        def __init__(self, values: list[float]) -> None:
            self.values = np.array(values)

        def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
            return self.values if dtype is None else self.values.astype(dtype)

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, label: object) -> float:
            raise KeyError(label)

    assert read(Array("f8", ndim=1), Series([1.5, 2.5])).tolist() == [1.5, 2.5]


class Struct:
    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (2,), "typestr": "<f8", "data": b"\0" * 16, "version": 3}


def test_the_array_interface_is_read() -> None:
    assert read(Array("f8", ndim=1), Struct()).tolist() == [0.0, 0.0]


# --- Refused ---


@pytest.mark.parametrize("kind", hostile.REFUSED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_array_of_numbers_is_refused(dtype: str, kind: str) -> None:
    words_of_refusal(Array(dtype, ndim=2), made(kind, hostile.REFUSED, GOOD[dtype]))


class Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise self.error


class Lying:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return "no array"


class Quoting:
    def __repr__(self) -> str:
        raise RuntimeError


def deep(levels: int) -> list[Any]:
    nested: list[Any] = [1.0]
    for _ in range(levels):
        nested = [nested]
    return nested


def cyclic() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


REFUSED: dict[str, tuple[object, str]] = {
    "None in a list": ([1.0, None], "None at 1, expected real numbers"),
    "None in a matrix": ([[1, 2], [3, None]], "None at [1, 1], expected real numbers"),
    "None beside NaN": (["NaN", None], "None at 1, expected real numbers"),
    "a word": ([1.0, "abc"], "text 'abc', expected real numbers"),
    "a number as text": ([1.0, "2.5"], "text '2.5', expected real numbers"),
    "nan in other letters": ([1.0, "nan"], "text 'nan', expected real numbers"),
    "a word with braces": (["{expected} {was}"], "text '{expected} {was}', expected real numbers"),
    "a long word": (["x" * 10_000], "text 'xxxxxxxxxxxx...xxxxxxxxxxxxx', expected real"),
    "words in an array": (np.array(["NaN"]), "dtype <U3, expected real numbers"),
    "words in arrays in a list": ([np.array(["NaN", "1"])], "<U3 array of shape [2], expected"),
    "bytes beside NaN": (["NaN", b"1"], "b'1', expected real numbers"),
    "complex beside NaN": (["NaN", 1j], "1j, expected real numbers"),
    "a date beside NaN": (
        ["NaN", datetime.date(2026, 1, 1)],
        "datetime.date(2026, 1, 1) at 1, exp",
    ),
    "dates": ([datetime.date(2026, 1, 1)], "datetime.date(2026, 1, 1) at 0, expected real"),
    "decimals": ([decimal.Decimal("1.5")], "Decimal('1.5') at 0, expected real numbers"),
    "fractions": ([fractions.Fraction(1, 2)], "Fraction(1, 2) at 0, expected real numbers"),
    "an int beyond 64 bits": ([2**70], "1180591620717411303424 at 0, expected real numbers"),
    "an int without end": ([10**5000], "int of 16610 bits at 0, expected real numbers"),
    "an int without end beside NaN": (["NaN", 10**5000], "int of 16610 bits at 1, expected"),
    "sets": ({1, 2}, "dtype object, expected real numbers"),
    "a set in a list": ([{1}], "{1} at 0, expected real numbers"),
    "a dict": ({"a": 1}, "dtype object, expected real numbers"),
    "a function": (len, "dtype object, expected real numbers"),
    "text": ("1 2 3", "dtype <U5, expected real numbers"),
    "bytes": (b"123", "dtype |S3, expected real numbers"),
    "no repr": ([Quoting()], "<Quoting instance at 0x"),
    "rows of unequal length": ([[1, 2], [3]], "ragged nested lists, expected rows of equal length"),
    "a number among rows": ([[1, 2], 3], "ragged nested lists, expected rows of equal length"),
    "nested too deeply": (deep(70), "unreadable (setting an array element with a sequence."),
    "nested beyond reason": (deep(5000), "unreadable ("),
    "nested in itself": (cyclic(), "unreadable ("),
    "an error of its own": (
        Raising(KeyError("x")),
        "unreadable (KeyError: 'x'), expected an array",
    ),
    "a value error of its own": (Raising(ValueError("x")), "unreadable (x), expected an array"),
    "out of memory": (Raising(MemoryError()), "too large for memory, expected at most 268435456"),
    "no array from __array__": (Lying(), "unreadable (object __array__ method not producing"),
    "structured": (np.zeros(2, "i4,f8"), "dtype [('f0', '<i4'), ('f1', '<f8')], expected real"),
    "void": (np.zeros(2, "V8"), "dtype |V8, expected real numbers"),
    "variable strings": (np.array(["a"], np.dtypes.StringDType()), "dtype StringDType(), expected"),
    "not a time": (np.array(["NaT"], "M8[s]"), "dtype datetime64[s], expected real numbers"),
    "beyond float64": (
        np.array(["1", "1e400"], np.longdouble),
        "1 of 2 too large for float64 (first at 1), expected float64 numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_says_what_it_is_and_what_it_should_be(name: str) -> None:
    value, words = REFUSED[name]
    assert words_of_refusal(Array("f8", ndim=1), value).startswith(f"values: {words}")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (Array("i8"), [1.5], "1 of 1 not whole int64 numbers (first at 0), expected whole numbers"),
        (Array("i8"), [math.nan], "1 of 1 not whole int64"),
        (Array("i8"), [1, math.inf], "1 of 2 not whole int64 numbers (first at 1)"),
        (Array("i8"), ["NaN"], "1 of 1 not whole int64"),
        (Array("i8"), [2.0**63], "1 of 1 not whole int64"),
        (Array("i8"), [2**63], "1 of 1 not whole int64"),
        (
            Array("i8"),
            np.array([1, 2**63], np.uint64),
            "1 of 2 not whole int64 numbers (first at 1)",
        ),
        (Array("i8"), np.array([1e30], np.float32), "1 of 1 not whole int64"),
        (Array("i8"), np.array(["1e400"], np.longdouble), "1 of 1 not whole int64"),
        (Array("i4"), [2**31], "1 of 1 not whole int32"),
        (Array("i4"), [-(2**31) - 1.0], "1 of 1 not whole int32"),
        (Array("u1"), [-1], "1 of 1 not whole uint8"),
        (Array("u1"), [256], "1 of 1 not whole uint8"),
        (Array("u1"), [255.5], "1 of 1 not whole uint8"),
        (Array("b1"), [0, 1], "dtype int64, expected true or false"),
        (Array("b1"), [1.0], "dtype float64, expected true or false"),
        (
            Array("f4"),
            [1e39],
            "1 of 1 too large for float32 (first at 0), expected float32 numbers",
        ),
        (Array("f8", ndim=1), 5.0, "shape [], expected one dimension"),
        (Array("f8", ndim=1), [[1.0]], "shape [1, 1], expected one dimension"),
        (Array("f8", ndim=2), [1.0], "shape [1], expected two dimensions"),
        (Array("f8", ndim=3), [1.0], "shape [1], expected three dimensions"),
        (Array("f8", ndim=5), [1.0], "shape [1], expected 5 dimensions"),
        (Array("f8", ndim=0), [1.0], "shape [1], expected a single number"),
        (Array("f8", min_size=2), [1.0], "1 elements, expected at least 2"),
        (Array("f8", min_size=1), [], "0 elements, expected at least 1"),
        (
            Array("f8", finite=True),
            [1, math.nan],
            "1 of 2 not finite (first at 1), expected finite",
        ),
        (Array("f8", finite=True), [-math.inf], "1 of 1 not finite"),
        (
            Array("f8", ge=0),
            [[0, 1], [1, -1]],
            "1 of 4 below 0 (first at [1, 1]), expected at least",
        ),
        (Array("f8", ge=0), [-5e-324], "1 of 1 below 0"),
        (
            Array("f8", le=100),
            [100.00000000000001],
            "1 of 1 above 100 (first at 0), expected at most",
        ),
        (Array("i8", le=3), [4, 5], "2 of 2 above 3 (first at 0)"),
    ],
)
def test_each_bound_is_held(field: Array, value: object, words: str) -> None:
    assert words_of_refusal(field, value).startswith(f"values: {words}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Array("f8", ge=0), [-0.0]),
        (Array("f8", ge=0), [math.nan]),
        (Array("f8", le=100), [100.0]),
        (Array("f8", ge=-math.inf), [-math.inf]),
        (Array("i8", ge=-(2**63)), [-(2**63)]),
        (Array("f8", min_size=2), [[1.0], [2.0]]),
    ],
)
def test_the_edge_of_a_bound_is_inside(field: Array, value: object) -> None:
    read(field, value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_view_that_would_take_terabytes_is_refused_before_any_copy(dtype: str) -> None:
    huge = np.broadcast_to(np.zeros((), dtype), (2**40,))
    expected = f"values: {2**40 * np.dtype(dtype).itemsize} bytes, expected at most 268435456"
    assert words_of_refusal(Array(dtype), huge) == expected


def test_the_limit_counts_the_bytes_of_the_type_asked_for() -> None:
    narrow = np.broadcast_to(np.uint8(0), (2**25 + 1,))
    assert words_of_refusal(Array("f8"), narrow).startswith("values: 268435464 bytes")
    assert read(Array("u1"), narrow).nbytes == 2**25 + 1


@pytest.mark.parametrize("dtype", ["f2", "c8", "O", "U3", "float64", ">f8", "", "i2"])
def test_a_field_of_another_type_cannot_be_declared(dtype: str) -> None:
    with pytest.raises(ValueError, match=r"^dtype: .*, expected one of f4, f8, i4, i8, u1, b1$"):
        Array(dtype)


@given(
    st.sampled_from(DTYPES),
    npst.arrays(
        npst.boolean_dtypes()
        | npst.integer_dtypes(endianness="?")
        | npst.unsigned_integer_dtypes(endianness="?")
        | npst.floating_dtypes(endianness="?"),
        npst.array_shapes(max_dims=3, max_side=4, min_dims=0, min_side=0),
    ),
)
def test_any_array_of_numbers_keeps_every_value_or_is_refused(dtype: str, array) -> None:
    before = array.tobytes()
    try:
        found = read(Array(dtype), array)
    except InvalidRequest as error:
        refusal: str | None = str(error)
    else:
        refusal = None
        assert found.shape == array.shape
        with np.errstate(all="ignore"):
            rounded = array.astype(np.dtype(dtype))
        np.testing.assert_array_equal(found, rounded)
        if array.dtype.kind in "iu" or dtype[0] in "iub":
            exact = [int(value) for value in array.ravel().tolist()]
            tolerance = 2.0**-52 if dtype == "f8" else 2.0**-23 if dtype == "f4" else 0
            for value, kept in zip(exact, found.ravel().tolist(), strict=True):
                assert abs(int(kept) - value) <= tolerance * abs(value)
    assert refusal is None or refusal.startswith("values: ")
    assert array.tobytes() == before


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=5)
    | st.sampled_from(sorted(NON_FINITE))
    | st.binary(max_size=5)
    | st.dates()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(st.sampled_from(DTYPES), anything)
def test_anything_that_json_or_python_nests_is_read_or_refused(dtype: str, value: Any) -> None:
    try:
        found = read(Array(dtype), value)
    except InvalidRequest as error:
        refusal = str(error)
    else:
        assert found.dtype == np.dtype(dtype)
        return
    assert refusal.startswith("values: ")
    assert len(refusal) < 400


# --- JSON ---


@result
class OneArrayResult(Result):
    """Any array there and back."""

    values: Annotated[NDArray[Any], Array("f8")]


@given(npst.arrays(np.float64, npst.array_shapes(min_dims=1, max_dims=3, max_side=4)))
def test_arrays_survive_strict_json_bit_for_bit(array: NDArray[np.float64]) -> None:
    text = json.dumps(to_json(array), allow_nan=False)
    found = read(Array("f8"), json.loads(text))
    np.testing.assert_array_equal(found, array)
    same = np.isnan(array) | (np.signbit(found) == np.signbit(array))
    assert same.all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float64("inf"), "Infinity"),
        (np.float32("nan"), "NaN"),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (1.5, 1.5),
        (("a", math.nan), ["a", "NaN"]),
        ({"a": [np.array([1.0, np.inf])]}, {"a": [[1.0, "Infinity"]]}),
        (np.array([[True]]), [[True]]),
        (np.array([1, 2], np.int32), [1, 2]),
        (np.array(2.5), 2.5),
        (np.array(np.nan), "NaN"),
        (np.zeros((2, 0)), [[], []]),
        (None, None),
        ("text", "text"),
    ],
)
def test_json_has_a_word_for_what_it_has_no_literal_for(value: Any, expected: Any) -> None:
    found = to_json(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("ndim", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_schema_of_an_array_is_nested_lists(dtype, ndim, optional: bool) -> None:
    field = Array(dtype, ndim=ndim, ge=0, le=9)
    kind: Any = Annotated[ArrayLike | None, field] if optional else Annotated[ArrayLike, field]
    schema = TypeAdapter(kind).json_schema()
    assert "array" in schema["description"]
    if optional:
        schema, null = schema["anyOf"]
        assert null == {"type": "null"}
    for _ in range(1 if ndim is None else ndim):
        assert schema["type"] == "array"
        schema = schema["items"]
    words = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
    if dtype[0] == "f":
        schema, non_finite = schema["anyOf"]
        assert set(non_finite["enum"]) == set(NON_FINITE)
    assert schema["type"] == words[dtype[0]]
    assert (schema["minimum"], schema["maximum"]) == (0, 9)


# --- Words ---


def test_a_summary_is_one_short_line() -> None:
    fields = {
        "a": np.zeros((1000, 1000)),
        "b": np.zeros(3, np.uint8),
        "c": np.zeros((0, 2), np.float32),
        "d": list(range(1000)),
        "e": "x" * 1000,
        "f": None,
        "g": np.zeros(1500, "i4"),
        "h": np.array(1.0),
    }
    expected = (
        "a=float64[1000x1000] 8 MB, b=uint8[3] 3 B, c=float32[0x2] 0 B, d=[0, 1, 2, 3, 4, 5, ...]"
    )
    assert summary(fields).startswith(expected)
    assert summary(fields).endswith("f=None, g=int32[1500] 6 kB, h=float64[] 8 B")
    assert len(summary(fields)) < 200
    assert summary({}) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 3), ">i4"), ">i4 array of shape [2, 3]"),
        (5, "5"),
        pytest.param(10**5000, "int of 16610 bits", id="long"),
        pytest.param(-(10**5000), "int of 16610 bits", id="negative"),
        pytest.param({"a": [10**5000]}, "{'a': [int of 16610 bits]}", id="nested"),
        ("a", "'a'"),
        ([1] * 100, "[1, 1, 1, 1, 1, 1, ...]"),
    ],
)
def test_a_description_is_short_for_any_value(value: object, words: str) -> None:
    assert describe(value) == words


def test_a_check_between_fields_names_its_argument() -> None:
    @request
    class Pair:
        first: Annotated[ArrayLike, Array("f8")]
        second: Annotated[ArrayLike, Array("f8")]

        def __post_init__(self) -> None:
            same = np.shape(self.first) == np.shape(self.second)
            refuse_unless(same, "second", "{argument}", "{was} as first")

    operation = Operation("tests.pair", Pair, Result)
    operation.build([1], [2])
    with pytest.raises(InvalidRequest) as caught:
        operation.build([1], [2, 3])
    assert str(caught.value) == "second: {argument}, expected {was} as first"
