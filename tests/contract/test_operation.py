"""An operation: how its request is built, which words refuse, results, names and schemas."""

import dataclasses
import inspect
import json
import math
import pickle
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from contract import codec
from contract.arrays import Array, describe, refuse_unless
from contract.errors import InvalidRequest, MessageError
from contract.operation import Operation, Result, fields_of, request, result


@request
class WeighRequest:
    """Weigh grain.

    All of it.
    """

    #: Mass of each sack.
    masses: Annotated[ArrayLike, Array("f8", ndim=1)]
    #: Weight of each sack.
    weights: Annotated[ArrayLike | None, Array("f8", ndim=1)] = None
    #: Factor on everything.
    factor: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    #: How often.
    repeats: Annotated[int, Field(ge=1, lt=2**63)] = 1
    #: What to do with stones.
    stones: Literal["keep", "drop"] = "keep"
    #: Whether the sacks count, too.
    gross: bool = False
    #: Limit, none by default.
    limit: Annotated[int | None, Field(ge=0)] = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            was, expected = f"{np.size(self.weights)} elements", f"{np.size(self.masses)} as masses"
            refuse_unless(np.size(self.weights) == np.size(self.masses), "weights", was, expected)


@result
class WeighResult(Result):
    """What it weighs."""

    #: Sum.
    total: float
    #: Each.
    each: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: Sacks.
    count: int = 0


weigh: Operation[Any, Any] = Operation("mill.weigh_grain", WeighRequest, WeighResult)
MADE: dict[str, Any] = {
    "backend": "compiled",
    "simd": "avx2",
    "threads": 2,
    "kernel_seconds": 0.5,
    "queue_seconds": None,
}


# --- Building a request ---


def test_an_operation_has_the_words_of_its_name() -> None:
    assert (weigh.name, weigh.family, weigh.verb) == ("mill.weigh_grain", "mill", "weigh_grain")
    assert repr(weigh) == "Operation('mill.weigh_grain')"
    assert weigh.__doc__ == WeighRequest.__doc__
    assert weigh.request_fields == (
        "masses",
        "weights",
        "factor",
        "repeats",
        "stones",
        "gross",
        "limit",
    )


def test_an_operation_shows_its_arguments_to_help_and_shells() -> None:
    shown = str(inspect.signature(weigh)).partition(" -> ")[0]
    assert shown == (
        "(masses, weights=None, factor=1.0, repeats=1, stones='keep', gross=False, limit=None)"
    )
    assert inspect.signature(weigh).return_annotation is WeighResult


def test_positions_and_names_may_be_mixed() -> None:
    built = weigh.build([1, 2], [3, 4], 2, stones="drop")
    assert isinstance(built, WeighRequest)
    assert np.asarray(built.masses).tolist() == [1.0, 2.0]
    assert np.asarray(built.weights).tolist() == [3.0, 4.0]
    assert (built.factor, built.repeats, built.stones, built.gross) == (2.0, 1, "drop", False)
    assert isinstance(built.factor, float)
    by_name = weigh.build(stones="drop", factor=2, weights=[3, 4], masses=[1, 2])
    assert codec.encode(fields_of(by_name)) == codec.encode(fields_of(built))


def test_defaults_count_where_nothing_is_given() -> None:
    assert fields_of(weigh.build([]))["weights"] is None
    assert fields_of(weigh.build([])).keys() == set(weigh.request_fields)


def test_a_request_cannot_be_changed() -> None:
    built = weigh.build([1.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.factor = 3.0


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, "masses: missing, expected a value"),
        ((), {"factor": 1.0}, "masses: missing, expected a value"),
        (([1],) * 8, {}, "weigh_grain: 8 positional arguments, expected at most 7"),
        (([1],), {"masses": [1]}, "masses: given by position and by name, expected once"),
        (
            ([1], [1]),
            {"factor": 1.0, "weights": [1]},
            "weights: given by position and by name, expected once",
        ),
        (
            ([1],),
            {"colour": "blue"},
            "colour: unknown argument, expected one of masses, weights, factor, repeats, stones, ",
        ),
        (([1],), {"self": 1}, "self: unknown argument, expected one of masses"),
        (([1],), {"cls": 1}, "cls: unknown argument"),
        (([1],), {"args": (), "kwargs": {}}, "args: unknown argument"),
        (([1],), {"__dataclass_self__": 1}, "__dataclass_self__: unknown argument"),
        (([1],), {"Masses": 1}, "Masses: unknown argument"),
        (([1],), {"": 1}, ": unknown argument"),
        (([1],), {"\ud800": 1}, r"'\ud800': unknown argument"),
        (([1],), {"x" * 10**6: 1}, "'xxxxxxxxxxxx...xxxxxxxxxxxxx': unknown argument"),
        (([1],), {"factor": 0}, "factor: 0, expected greater than 0"),
        (([1],), {"factor": 100.5}, "factor: 100.5, expected less than or equal to 100"),
        (([1],), {"factor": math.nan}, "factor: nan, expected a finite number"),
        (([1],), {"factor": math.inf}, "factor: inf, expected a finite number"),
        (([1],), {"factor": "2"}, "factor: '2', expected a valid number"),
        (([1],), {"factor": "NaN"}, "factor: 'NaN', expected a valid number"),
        (([1],), {"factor": True}, "factor: True, expected a valid number"),
        (([1],), {"factor": None}, "factor: None, expected a valid number"),
        (([1],), {"factor": 1j}, "factor: 1j, expected a valid number"),
        (([1],), {"factor": [2]}, "factor: [2], expected a valid number"),
        (([1],), {"factor": b"2"}, "factor: b'2', expected a valid number"),
        (([1],), {"factor": 10**400}, "factor: 100000000000000000...0000000000000000000, exp"),
        (([1],), {"factor": np.array([2.0])}, "factor: float64 array of shape [1], expected a"),
        (([1],), {"factor": np.timedelta64(2, "ns")}, "factor: '2 nanoseconds', expected a valid"),
        (([1],), {"factor": np.array(2, "m8[s]")}, "factor: '2 seconds', expected a valid"),
        (([1],), {"factor": np.datetime64("1970-01-03")}, "factor: '1970-01-03', expected a val"),
        (([1],), {"factor": np.complex128(2)}, "factor: (2+0j), expected a valid number"),
        (([1],), {"factor": np.str_("2")}, "factor: '2', expected a valid number"),
        (([1],), {"repeats": 2.0}, "repeats: 2.0, expected a valid integer"),
        (([1],), {"repeats": 2.5}, "repeats: 2.5, expected a valid integer"),
        (([1],), {"repeats": "2"}, "repeats: '2', expected a valid integer"),
        (([1],), {"repeats": True}, "repeats: True, expected a valid integer"),
        (([1],), {"repeats": np.bool_(True)}, "repeats: True, expected a valid integer"),
        (([1],), {"repeats": 0}, "repeats: 0, expected greater than or equal to 1"),
        (([1],), {"repeats": 2**63}, "repeats: 9223372036854775808, expected less than 92233720"),
        (([1],), {"repeats": 10**5000}, "repeats: int of 16610 bits, expected "),
        (([1],), {"stones": "sell"}, "stones: 'sell', expected 'keep' or 'drop'"),
        (([1],), {"stones": "KEEP"}, "stones: 'KEEP', expected 'keep' or 'drop'"),
        (([1],), {"stones": 1}, "stones: 1, expected 'keep' or 'drop'"),
        (([1],), {"stones": ["keep"]}, "stones: ['keep'], expected 'keep' or 'drop'"),
        (([1],), {"gross": 1}, "gross: 1, expected a valid boolean"),
        (([1],), {"gross": "yes"}, "gross: 'yes', expected a valid boolean"),
        (([1],), {"gross": None}, "gross: None, expected a valid boolean"),
        (([1],), {"limit": -1}, "limit: -1, expected greater than or equal to 0"),
        ((None,), {}, "masses: dtype object, expected real numbers"),
        (([[1]],), {}, "masses: shape [1, 1], expected one dimension"),
        (([1, 2],), {"weights": [1]}, "weights: 1 elements, expected 2 as masses"),
        (([1, 2], [1]), {"factor": -1}, "factor: -1, expected greater than 0"),
    ],
    ids=describe,
)
def test_the_first_wrong_argument_is_named(arguments, named, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        weigh.build(*arguments, **named)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 300
    assert caught.value.args == (str(caught.value),)
    assert caught.value.__cause__ is None
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("factor", np.float64(2.5), 2.5),
        ("factor", np.float32(2.5), 2.5),
        ("factor", np.float16(2.5), 2.5),
        ("factor", np.longdouble(2.5), 2.5),
        ("factor", np.int8(2), 2.0),
        ("factor", np.uint64(2), 2.0),
        ("factor", np.array(2.5), 2.5),
        ("factor", 2, 2.0),
        ("repeats", np.int8(2), 2),
        ("repeats", np.uint64(2), 2),
        ("repeats", np.array(2), 2),
        ("stones", np.str_("drop"), "drop"),
        ("gross", np.bool_(True), True),
        ("limit", np.int32(7), 7),
        ("limit", None, None),
    ],
)
def test_numpy_scalars_are_the_numbers_that_they_stand_for(name, value, expected) -> None:
    found = getattr(weigh.build([1], **{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


def test_the_arguments_of_the_caller_are_not_changed() -> None:
    masses, options = np.array([3.0, 1.0]), {"factor": 2.0}
    masses.flags.writeable = False
    built = weigh.build(masses, **options)
    assert options == {"factor": 2.0}
    assert np.shares_memory(np.asarray(built.masses), masses)
    assert not masses.flags.writeable


values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
)
values |= st.lists(st.integers() | st.floats() | st.none() | st.text(), max_size=3)
values |= st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)


@given(st.lists(values, max_size=8), st.dictionaries(st.sampled_from(weigh.request_fields), values))
def test_any_arguments_make_a_request_or_name_a_wrong_one(arguments, named) -> None:
    try:
        built = weigh.build(*arguments, **named)
    except InvalidRequest as error:
        refusal = str(error)
    else:
        fields = codec.decode(codec.encode(fields_of(built)))
        again = weigh.build(**fields)
        assert codec.encode(fields_of(again)) == codec.encode(fields_of(built))
        return
    assert ", expected " in refusal


# --- Results ---


def test_a_result_reads_back_from_its_fields_and_from_json() -> None:
    made = weigh.result(**MADE, total=math.nan, each=[1.0, math.inf], warnings=("dusty",))
    fields = codec.decode(codec.encode(made.to_fields()))
    strict = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert strict["total"] == "NaN"
    assert strict["each"] == [1.0, "Infinity"]
    for read in (weigh.read_result(fields), weigh.read_result(strict)):
        assert math.isnan(read.total)
        assert read.each.tolist() == [1.0, math.inf]
        assert read.warnings == ("dusty",)
        assert read.queue_seconds is None
        assert read.count == 0


def test_a_result_cannot_be_changed_and_takes_names_only() -> None:
    made = weigh.result(**MADE, total=1.0, each=[])
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.total = 2.0
    with pytest.raises(ValidationError, match="Unexpected positional argument"):
        weigh.result("compiled")


def test_an_older_client_reads_the_result_of_a_newer_worker() -> None:
    fields = {**MADE, "total": 1.0, "each": [1.0], "dust": 3, "__dataclass_self__x": 1}
    assert weigh.read_result(fields).total == 1.0


GOOD = {**MADE, "total": 1.0, "each": [1.0]}


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "text",
        7,
        {},
        {1: 2},
        MADE,
        {**GOOD, "each": "text"},
        {**GOOD, "each": [[1.0]]},
        {**GOOD, "total": "much"},
        {**GOOD, "threads": None},
        {**GOOD, "warnings": 7},
        {**GOOD, "__dataclass_self__": 1},
        {**GOOD, "total": {"__type__": "x"}},
    ],
    ids=describe,
)
def test_what_is_no_result_of_ours_is_a_message_error(fields: Any) -> None:
    with pytest.raises(MessageError, match=r"^mill\.weigh_grain: unreadable result"):
        weigh.read_result(fields)


# --- Submitting ---


class Recorder:
    """Stands in for a client."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Any, Any]] = []

    def submit(self, operation: Any, request: Any, *, deadline_seconds: Any = None) -> Any:
        self.submitted.append((operation, request))
        return self

    def result(self, timeout: float | None = None) -> str:
        return "the result"


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(Operation, "find_submitter", staticmethod(lambda: recorder))
    return recorder


def test_calling_an_operation_submits_it_and_waits(recorder: Recorder) -> None:
    assert weigh([1.0], factor=2.0) == "the result"
    weigh.submit([1.0])
    (first, built), (_, second) = recorder.submitted
    assert first is weigh
    assert (built.factor, second.factor) == (2.0, 1.0)


@pytest.mark.parametrize("call", [weigh, weigh.submit])
def test_a_wrong_request_is_refused_before_anything_is_submitted(recorder, call) -> None:
    with pytest.raises(InvalidRequest, match=r"^factor: "):
        call([1.0], factor=-1.0)
    with pytest.raises(InvalidRequest, match=r"^self: unknown"):
        call([1.0], self=1)
    with pytest.raises(
        InvalidRequest, match=r"^idempotency_seconds: 60, expected beside an idempotency_key$"
    ):
        call([1.0], idempotency_seconds=60)
    assert recorder.submitted == []


def test_without_a_client_the_way_to_one_is_told(monkeypatch) -> None:
    from contract import operation

    nobody = staticmethod(operation._no_submitter)
    monkeypatch.setattr(Operation, "find_submitter", nobody)
    with pytest.raises(RuntimeError, match="import producers"):
        weigh([1.0])


# --- Schema ---


def test_the_schema_lists_every_field_of_both_sides() -> None:
    schema = json.loads(json.dumps(weigh.json_schema(), allow_nan=False))
    assert schema["operation"] == "mill.weigh_grain"
    assert list(schema["request"]["properties"]) == list(weigh.request_fields)
    assert schema["request"]["required"] == ["masses"]
    assert schema["request"]["additionalProperties"] is False
    assert set(schema["result"]["properties"]) == {*GOOD, "warnings", "count"}
    assert schema["request"]["properties"]["stones"]["enum"] == ["keep", "drop"]
    assert schema["request"]["properties"]["factor"]["exclusiveMinimum"] == 0
