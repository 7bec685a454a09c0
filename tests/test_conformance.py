"""What every operation and every family must hold; a new one joins by being declared.

The requests come from the `SELF_TEST` of each facade, so that no list of operations stands here.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

import native_c
import native_c.errors
from contract import codec
from contract.arrays import Array, to_json
from contract.errors import InvalidRequest
from contract.families import FAMILIES, operation, operations
from contract.operation import OPTIONS, Operation, Result, fields_of
from gristmill.testing import in_process
from tests import hostile
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


@every_operation
def test_no_field_has_the_name_of_what_every_submit_takes(name: str) -> None:
    assert not set(operation(name).request_fields) & set(OPTIONS)


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
    changed = [name for name in one if not same(one[name], other.get(name))]
    assert changed == [], f"other type, shape or bits: {', '.join(changed)}"
    assert one.keys() == other.keys()


def own_fields(result: Result) -> dict[str, Any]:
    """Return what the operation computed, without how and how fast."""
    return {name: value for name, value in fields_of(result).items() if name not in MADE}


# --- The declaration ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_files_of_a_family(family: str) -> None:
    named = [pattern.format(family) for pattern in FILES]
    absent = [path for path in named if not (ROOT / path).is_file()]
    assert absent == [], f"{family} has no {', '.join(absent)}"


def test_the_kernels_know_the_families_of_the_contract() -> None:
    said = "native_c/compiled/ has other modules than contract/families.py has families"
    assert set(native_c.families) == set(FAMILIES), said


@every_operation
def test_an_operation_is_named_after_its_place(name: str) -> None:
    declared = operation(name)
    module = import_module(f"contract.{declared.family}")
    words = "".join(word.capitalize() for word in declared.verb.split("_"))
    assert getattr(module, declared.verb) is declared
    assert getattr(module, f"{words}Request") is declared.request
    assert getattr(module, f"{words}Result") is declared.result
    missing = {declared.verb, f"{words}Request", f"{words}Result"} - set(module.__all__)
    assert not missing, f"contract/{declared.family}.py: __all__ lacks {', '.join(missing)}"
    assert getattr(import_module(f"producers.{declared.family}"), declared.verb) is declared


@every_operation
def test_every_field_says_what_it_is(name: str) -> None:
    declared = operation(name)
    for described in (declared.request, declared.result):
        assert described.__doc__, f"{described.__name__} has no docstring"
        lines = inspect.getsource(described).splitlines()
        (body,) = ast.parse("\n".join(lines)).body
        assert isinstance(body, ast.ClassDef)
        told = [node for node in body.body if isinstance(node, ast.AnnAssign)]
        bare = [n.target.id for n in told if "#:" not in above(lines, n)]  # type: ignore[union-attr]
        assert bare == [], f"{described.__name__} has no `#:` line above {', '.join(bare)}"


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
    fields_in_order = list(declared.request_fields)
    assert list(taken) == fields_in_order, f"native_c.{name} takes other arguments than the request"
    assert list(asked) == fields_in_order
    defaults = {n: p.default for n, p in taken.items()}
    said = f"native_c.{name} has other defaults than {declared.request.__name__}"
    assert defaults == {n: p.default for n, p in asked.items()}, said


@every_operation
def test_an_operation_has_a_case_in_the_self_test_and_a_place_on_its_page(name: str) -> None:
    declared = operation(name)
    tested = {kernel for kernel, _ in import_module(f"native_c.{declared.family}").SELF_TEST}
    assert facade(declared) in tested, f"native_c/{declared.family}.py: SELF_TEST lacks {name}"
    page = (ROOT / "docs" / "operations" / f"{declared.family}.md").read_text()
    headed = any(line.startswith("#") and declared.verb in line for line in page.splitlines())
    where = f"docs/operations/{declared.family}.md"
    assert headed, f"{where} has no heading that names {declared.verb}"


@every_operation
def test_an_operation_is_a_task_in_the_queue_of_its_family(name: str) -> None:
    assert name in app.tasks, f"{name} is no task of the workers: is its family in FAMILIES?"
    assert app.tasks[name].operation is operation(name)
    assert app.amqp.router.route({}, name)["queue"].name == operation(name).family


@every_operation
def test_the_schema_describes_every_field(name: str) -> None:
    declared = operation(name)
    schema = json.loads(json.dumps(declared.json_schema(), allow_nan=False))
    assert list(schema["request"]["properties"]) == list(declared.request_fields)
    assert schema["request"]["additionalProperties"] is False
    assert set(schema["result"]["properties"]) >= MADE


@every_operation
def test_the_schema_of_a_result_describes_every_field(name: str) -> None:
    declared = operation(name)
    described = declared.json_schema()["result"]["properties"]
    assert set(described) == {field.name for field in fields(declared.result)}


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and the schemas within it."""
    yield schema
    within = list(schema.get("properties", {}).values())
    within += [schema[word] for word in ("items", "additionalProperties") if word in schema]
    within += [part for word in ("anyOf", "allOf", "prefixItems") for part in schema.get(word, [])]
    for part in within:
        if isinstance(part, dict):
            yield from nodes(part)


@every_operation
@pytest.mark.parametrize("side", ["request", "result"])
def test_the_schema_says_what_stands_above_each_field(name: str, side: str) -> None:
    for field, described in operation(name).json_schema()[side]["properties"].items():
        said = described["description"]
        assert re.match(r"[^(].*\.", said), f"{field}: no comment #: above it"


@every_operation
@pytest.mark.parametrize("side", ["request", "result"])
def test_the_schema_is_one_by_the_letter_of_json_schema(name: str, side: str) -> None:
    schema = operation(name).json_schema()[side]
    types = {"object", "array", "string", "number", "integer", "boolean", "null"}
    assert schema["type"] == "object"
    assert set(schema.get("required", [])) <= set(schema["properties"])
    for node in nodes(schema):
        assert {"type", "anyOf", "enum", "const"} & node.keys(), node
        assert node.get("type", "null") in types
        assert isinstance(node.get("description", ""), str)
        bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        assert all(isinstance(node[word], int | float) for word in bounds if word in node)
        assert "$ref" not in node


@every_operation
def test_the_page_and_the_facade_name_every_field(name: str) -> None:
    declared = operation(name)
    page = (ROOT / "docs" / "operations" / f"{declared.family}.md").read_text()
    own = [field.name for field in fields(declared.result) if field.name not in MADE]
    unsaid = [word for word in (*declared.request_fields, *own) if not says(page, word)]
    where = f"docs/operations/{declared.family}.md"
    assert unsaid == [], f"{where} does not name {', '.join(unsaid)} of {declared.verb}"
    manual = facade(declared).__doc__ or ""
    unsaid = [word for word in declared.request_fields if not says(manual, word)]
    assert unsaid == [], f"the docstring of native_c.{name} does not name {', '.join(unsaid)}"


def says(text: str, word: str) -> bool:
    return re.search(rf"\b{word}\b", text) is not None


# --- What it accepts, answers and refuses ---


@every_operation
def test_an_unknown_argument_and_a_missing_one_are_refused_by_name(name: str) -> None:
    declared = operation(name)
    with pytest.raises(InvalidRequest, match=r"^colour: unknown argument, expected one of "):
        declared.build(colour=1)
    with pytest.raises(InvalidRequest, match=rf"^{declared.request_fields[0]}: missing, "):
        declared.build()


def array_fields(declared: Operation) -> dict[str, Array]:
    """Return how each array argument is declared."""
    hints = get_type_hints(declared.request, include_extras=True)
    return {
        name: option
        for name, hint in hints.items()
        for option in getattr(hint, "__metadata__", ())
        if isinstance(option, Array)
    }


@every_case
@pytest.mark.parametrize("kind", hostile.SAME)
def test_an_array_of_any_layout_is_the_same_request(
    declared: Operation, arguments: Any, kind: str
) -> None:
    once = fields_of(declared.build(**arguments))
    for name in array_fields(declared):
        good = once[name]
        if good is None or not good.size:
            continue
        with np.errstate(all="ignore"):
            passed = hostile.SAME[kind](good)
        before = passed.tobytes() if isinstance(passed, np.ndarray) else None
        assert_same(once, fields_of(declared.build(**{**once, name: passed})))
        assert before is None or passed.tobytes() == before


@every_case
@pytest.mark.parametrize("kind", hostile.REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(
    declared: Operation, arguments: Any, kind: str
) -> None:
    once = fields_of(declared.build(**arguments))
    for name, option in array_fields(declared).items():
        good = once[name]
        if good is None or not good.size or option.ndim is None:
            continue
        with np.errstate(all="ignore"):  # NaN as a date
            wrong = hostile.REFUSED[kind](good)
        if wrong is None and type(None) in get_args(get_type_hints(declared.request)[name]):
            continue
        with pytest.raises(InvalidRequest, match=rf"^{name}: .+, expected "):
            declared.build(**{**once, name: wrong})


def default_of(declared: Operation, name: str) -> Any:
    return inspect.signature(declared.request).parameters[name].default


NO_NUMBERS: tuple[Any, ...] = (
    "7",
    "NaN",
    b"7",
    True,
    1j,
    [7],
    {},
    np.array([7]),
    np.datetime64(7, "s"),
    object(),
)


@every_case
def test_what_is_no_number_is_refused_by_name(declared: Operation, arguments: Any) -> None:
    once = fields_of(declared.build(**arguments))
    numbers = [name for name in once if type(default_of(declared, name)) in (int, float)]
    for name in numbers:
        wrong = [*NO_NUMBERS, None, float("nan")]
        if type(default_of(declared, name)) is int:
            wrong += [1.5, 2**64, -(2**64), 10**400]  # msgpack carries no more than 64 bits
        for value in wrong:
            with pytest.raises(InvalidRequest, match=rf"^{name}: .+, expected "):
                declared.build(**{**once, name: value})


@every_case
@pytest.mark.parametrize("backend", ["compiled", "fallback"])
def test_either_twin_answers_and_says_so(declared: Operation, arguments: Any, backend: str) -> None:
    try:
        with native_c.use_backend(backend), in_process():
            result = declared(**arguments)
    except native_c.errors.ExtensionMissing:
        pytest.skip("the extension is not built")
    assert result.backend == backend, f"{declared.name} did not run on the {backend} twin"


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
    said = f"native_c.{declared.name} answers with other fields than {declared.result.__name__}"
    assert set(answer) - {"warnings"} == set(own_fields(result)), said


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
