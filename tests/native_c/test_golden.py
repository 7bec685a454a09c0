"""The kernels against the golden tables: what other libraries answered to the same requests."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import native_c
from tests.oracles.table import EXACT, GOLDEN, Table, difference, digest, tables

Answers = dict[str, dict[str, Any]]

TABLES = list(tables())
NAMES = [table.name for table in TABLES]


@pytest.fixture(params=TABLES, ids=NAMES)
def table(request: pytest.FixtureRequest) -> Table:
    chosen: Table = request.param
    return chosen


def ask_the_kernels(table: Table) -> Answers:
    family, operation = table.operation.split(".")
    facade = getattr(import_module(f"native_c.{family}"), operation)
    return {
        name: native_c.run(facade(**table.request(**parameters)))
        for name, parameters in table.cases.items()
    }


def disagreements(table: Table, answers: Answers) -> Iterator[str]:
    for name, case in table.read()["cases"].items():
        for field, expected in case["answer"].items():
            tolerance = table.within.get(field, EXACT)
            agrees, furthest = difference(answers[name][field], expected, tolerance)
            if not agrees:
                yield f"{name}: {field} is {furthest:.3g} off, expected {tolerance} at most"


def test_the_kernels_answer_as_the_oracle(table: Table) -> None:
    assert not list(disagreements(table, ask_the_kernels(table)))


def test_the_kernels_answer_as_the_oracle_on_every_instruction_set(
    table: Table, on_each_level: Any
) -> None:
    for answers in on_each_level(lambda: ask_the_kernels(table)):
        assert not list(disagreements(table, answers))


def test_the_committed_answers_are_to_the_requests_of_today(table: Table) -> None:
    committed = table.read()
    assert committed["operation"] == table.operation
    assert committed["oracle"].keys() == set(table.oracle)
    asked = {name: digest(table.request(**parameters)) for name, parameters in table.cases.items()}
    assert {name: case["sha256"] for name, case in committed["cases"].items()} == asked


def test_every_committed_file_has_its_table() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(NAMES)


def test_all_golden_tables_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 300_000


@pytest.mark.parametrize(
    ("found", "expected", "tolerance"),
    [
        ([1, 2], [1, 3], EXACT),
        ([1, 2], [1, 2, 3], EXACT),
        ([1.0], 1.0, EXACT),
        ([float("inf")], [1.0], (0.1, 0.1)),
        ([float("inf")], [-float("inf")], (0.1, 0.1)),
        ([float("nan")], [1.0], (0.1, 0.1)),
        ([1.0 + 3e-9], [1.0], (1e-9, 1e-9)),
    ],
)
def test_what_differs_is_noticed(found: Any, expected: Any, tolerance: tuple[float, float]) -> None:
    assert not difference(found, expected, tolerance)[0]


def test_like_meets_like_within_the_tolerance() -> None:
    special = [float("inf"), -float("inf"), float("nan"), 1.0]
    assert difference(special, special, EXACT)[0]
    assert difference([1.0 + 1e-9], [1.0], (1e-9, 1e-9))[0]
