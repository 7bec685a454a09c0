"""Numbers, choices and flags of the facades: what is taken, and how the rest is refused."""

import datetime
import inspect
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import native_c
from contract.families import operations
from contract.operation import Operation
from native_c.arrays import as_array
from native_c.errors import InvalidArgument
from native_c.scalars import as_float


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2.0), np.int8(2), np.array([2.0])[0]])
def test_one_number_becomes_a_float(value: Any) -> None:
    number = as_float("x", value, 0, 2)
    assert type(number) is float
    assert number == 2.0


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        ("2", (), "x: '2', expected a finite number"),
        (None, (0, 1), "x: None, expected a finite number, from 0 to 1"),
        (np.nan, (), "x: nan, expected a finite number"),
        (np.float64(3.0), (0, 1), "x: 3.0, expected a finite number, from 0 to 1"),
        (-1, (0,), "x: -1, expected a finite number, at least 0"),
        (np.inf, (0,), "x: inf, expected a finite number, at least 0"),
        (2, (-np.inf, 1), "x: 2, expected a finite number, at most 1"),
        (10**400, (), "x: 100000000000000000...0000000000000000000, expected a finite number"),
        (2j, (), "x: 2j, expected a finite number"),
        (np.array([1.0]), (), "x: array([1.]), expected a finite number"),
    ],
)
def test_what_is_no_number_in_range_is_refused(value: Any, bounds: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        as_float("x", value, *bounds)
    assert str(caught.value) == message


class Hostile:
    """Raises wherever somebody looks at it."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("no array")


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


#: What is neither a number nor a word nor a flag, or far beyond any range.
STRANGE: dict[str, Any] = {
    "complex": 1j,
    "bytes": b"1",
    "text of a number": "1",
    "long text": "x" * 100_000,
    "huge": 10**2000,
    "more digits than Python writes": 10**6000,
    "NaN": float("nan"),
    "list": [1],
    "deep list": nested(5000),
    "empty array": np.empty(0),
    "array of one": np.ones(1),
    "array": np.arange(3),
    "endless view": np.broadcast_to(1.0, (2**40,)),
    "structured array": np.zeros(3, [("a", "f8")]),
    "duration": np.timedelta64(3, "s"),
    "date": datetime.date(2020, 1, 1),
    "hostile": Hostile(),
    "function": len,
}

SMALL: dict[str, dict[str, Any]] = {
    "analytics.basic_statistics": {"values": [1.0, 2.0]},
    "fusion.connection_discovery": {"embeddings": np.eye(3), "modalities": [0, 1, 1]},
    "optimization.multi_armed_bandit": {"counts": [1, 2], "reward_sums": [1.0, 1.0]},
    "mcts.ucb1_selection": {"visits": [[1]], "value_sums": [[1.0]], "parent_visits": [1]},
}


def call(operation: Operation[Any, Any], **arguments: Any) -> dict[str, Any]:
    facade = getattr(import_module(f"native_c.{operation.family}"), operation.verb)
    answer: dict[str, Any] = native_c.run(facade(**arguments))
    return answer


def scalars(operation: Operation[Any, Any]) -> list[str]:
    """Return the arguments whose default is a number, a word or a flag, and `top_k`."""
    facade = getattr(import_module(f"native_c.{operation.family}"), operation.verb)
    return [
        name
        for name, parameter in inspect.signature(facade).parameters.items()
        if isinstance(parameter.default, int | float | str) or name == "top_k"
    ]


CASES = [(name, argument) for name in SMALL for argument in scalars(operations()[name])]


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_strange_scalar_is_refused_by_name_in_a_short_text(name, argument, strange) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{argument}: .*, expected ") as caught:
        call(operations()[name], **{**SMALL[name], argument: STRANGE[strange]})
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", SMALL)
def test_numpys_scalars_are_taken_as_pythons_own(name: str) -> None:
    operation = operations()[name]
    plain = call(operation, **SMALL[name])
    given = {
        argument: np.asarray(parameter.default)[()]
        for argument, parameter in inspect.signature(
            getattr(import_module(f"native_c.{operation.family}"), operation.verb)
        ).parameters.items()
        if argument in scalars(operation) and argument != "top_k"
    }
    for field, value in call(operation, **SMALL[name], **given).items():
        np.testing.assert_array_equal(value, plain[field])


def test_an_object_whose_array_fails_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"^x: unreadable .RuntimeError: no array., expected"):
        as_array("x", Hostile(), np.float64, 1)
