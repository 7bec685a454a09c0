"""What every operation and every family must hold; a new one joins by being declared.

The requests come from the `SELF_TEST` of each facade, so that no list of operations stands here.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import native_c
from contract import codec
from contract.arrays import to_json
from contract.errors import InvalidRequest
from contract.families import FAMILIES, operation, operations
from contract.operation import Operation, Result, fields_of
from gristmill.testing import in_process
from workers import app

ROOT = Path(__file__).parents[1]
NAMES = sorted(operations())
MADE = {field.name for field in fields(Result)}

#: Files that a family has.
FILES = (
    "contract/{}.py",
    "producers/{}.py",
    "native_c/{}.py",
    "native_c/compiled/{}.py",
    "native_c/fallback/{}.py",
    "native_c/include/{}.h",
    "benchmarks/{}.py",
    "examples/{}.py",
    "docs/operations/{}.md",
)


def facade(declared: Operation) -> Any:
    return getattr(import_module(f"native_c.{declared.family}"), declared.verb)


def cases() -> Iterator[Any]:
    for family in FAMILIES:
        for number, (kernel, arguments) in enumerate(import_module(f"native_c.{family}").SELF_TEST):
            name = f"{family}.{kernel.__name__}"
            yield pytest.param(operation(name), arguments, id=f"{name}-{number}")


every_operation = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize(("declared", "arguments"), list(cases()))


def same(one: Any, other: Any) -> bool:
    """Whether two fields have the same type, shape and bits."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return type(one) is type(other) and (one == other or one != one)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert [name for name in one if not same(one[name], other.get(name))] == []
    assert one.keys() == other.keys()


def own_fields(result: Result) -> dict[str, Any]:
    """Return what the operation computed, without how and how fast."""
    return {name: value for name, value in fields_of(result).items() if name not in MADE}


# --- The declaration ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_files_of_a_family(family: str) -> None:
    named = [pattern.format(family) for pattern in FILES]
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_kernels_know_the_families_of_the_contract() -> None:
    assert set(native_c.families) == set(FAMILIES)


@every_operation
def test_an_operation_is_named_after_its_place(name: str) -> None:
    declared = operation(name)
    module = import_module(f"contract.{declared.family}")
    words = "".join(word.capitalize() for word in declared.verb.split("_"))
    assert getattr(module, declared.verb) is declared
    assert getattr(module, f"{words}Request") is declared.request
    assert getattr(module, f"{words}Result") is declared.result
    assert {declared.verb, f"{words}Request", f"{words}Result"} <= set(module.__all__)
    assert getattr(import_module(f"producers.{declared.family}"), declared.verb) is declared


@every_operation
def test_every_field_says_what_it_is(name: str) -> None:
    declared = operation(name)
    for described in (declared.request, declared.result):
        assert described.__doc__
        lines = inspect.getsource(described).splitlines()
        (body,) = ast.parse("\n".join(lines)).body
        assert isinstance(body, ast.ClassDef)
        told = [node for node in body.body if isinstance(node, ast.AnnAssign)]
        assert [n.target.id for n in told if "#:" not in above(lines, n)] == []  # type: ignore[union-attr]


def above(lines: list[str], node: ast.stmt) -> str:
    """Return the first line of the comment that stands above a statement."""
    number = node.lineno - 2
    while lines[number - 1].lstrip().startswith("#:"):
        number -= 1
    return lines[number]


@every_operation
def test_the_facade_takes_the_fields_of_the_request_with_their_defaults(name: str) -> None:
    declared = operation(name)
    taken = inspect.signature(facade(declared)).parameters
    asked = inspect.signature(declared.request).parameters
    assert list(taken) == list(asked) == list(declared.request_fields)
    assert {n: p.default for n, p in taken.items()} == {n: p.default for n, p in asked.items()}


@every_operation
def test_an_operation_has_a_case_in_the_self_test_and_a_place_on_its_page(name: str) -> None:
    declared = operation(name)
    tested = {kernel for kernel, _ in import_module(f"native_c.{declared.family}").SELF_TEST}
    assert facade(declared) in tested
    page = (ROOT / "docs" / "operations" / f"{declared.family}.md").read_text()
    assert any(line.startswith("#") and declared.verb in line for line in page.splitlines())


@every_operation
def test_an_operation_is_a_task_in_the_queue_of_its_family(name: str) -> None:
    assert app.tasks[name].operation is operation(name)
    assert app.amqp.router.route({}, name)["queue"].name == operation(name).family


@every_operation
def test_the_schema_describes_every_field(name: str) -> None:
    declared = operation(name)
    schema = json.loads(json.dumps(declared.json_schema(), allow_nan=False))
    assert list(schema["request"]["properties"]) == list(declared.request_fields)
    assert schema["request"]["additionalProperties"] is False
    assert set(schema["result"]["properties"]) >= MADE


# --- What it accepts, answers and refuses ---


@every_operation
def test_an_unknown_argument_and_a_missing_one_are_refused_by_name(name: str) -> None:
    declared = operation(name)
    with pytest.raises(InvalidRequest, match=r"^colour: unknown argument, expected one of "):
        declared.build(colour=1)
    with pytest.raises(InvalidRequest, match=rf"^{declared.request_fields[0]}: missing, "):
        declared.build()


@every_case
def test_a_request_that_is_checked_again_stays_the_same(
    declared: Operation, arguments: Any
) -> None:
    once = fields_of(declared.build(**arguments))
    assert_same(once, fields_of(declared.build(**once)))
    travelled = codec.decode(codec.encode(once))
    assert_same(once, fields_of(declared.build(**travelled)))


@every_case
def test_a_request_may_come_as_json(declared: Operation, arguments: Any) -> None:
    once = fields_of(declared.build(**arguments))
    travelled = json.loads(json.dumps(to_json(once), allow_nan=False))
    assert_same(once, fields_of(declared.build(**travelled)))


@every_case
def test_a_job_gives_the_fields_of_its_result_in_their_types(
    declared: Operation, arguments: Any
) -> None:
    with in_process():
        result = declared(**arguments)
    assert type(result) is declared.result
    assert (
        json.loads(json.dumps(result.to_dict(), allow_nan=False)).keys() == fields_of(result).keys()
    )
    answer = native_c.run(facade(declared)(**fields_of(declared.build(**arguments))))
    assert set(answer) - {"warnings"} == set(own_fields(result))


@every_case
def test_the_same_request_gives_the_same_bits_again(declared: Operation, arguments: Any) -> None:
    with in_process():
        one, other = declared(**arguments), declared(**arguments)
    assert_same(own_fields(one), own_fields(other))


@every_case
def test_a_result_survives_our_codec_and_json(declared: Operation, arguments: Any) -> None:
    with in_process():
        result = declared(**arguments)
    again = declared.read_result(codec.decode(codec.encode(result.to_fields())))
    assert_same(fields_of(result), fields_of(again))
    again = declared.read_result(json.loads(json.dumps(result.to_dict(), allow_nan=False)))
    assert_same(fields_of(result), fields_of(again))
