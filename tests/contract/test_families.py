"""The families of operations: one list, and what it finds."""

import importlib
from pathlib import Path

import pytest

from contract.families import FAMILIES, operation, operations
from contract.operation import Operation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_one_word_everywhere(family: str) -> None:
    for package in ("contract", "producers", "native_c", "native_c.compiled", "native_c.fallback"):
        path = ROOT / package.replace(".", "/") / f"{family}.py"
        assert path.is_file(), path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_declares_at_least_one_operation_under_its_word(family: str) -> None:
    declared = [found for found in operations().values() if found.family == family]
    assert declared


def test_operations_are_found_by_name_family_by_family() -> None:
    found = operations()
    assert all(isinstance(declared, Operation) for declared in found.values())
    assert all(name == declared.name for name, declared in found.items())
    order = [FAMILIES.index(declared.family) for declared in found.values()]
    assert order == sorted(order)
    for name, declared in found.items():
        assert operation(name) is declared


def test_an_operation_stands_under_its_verb_in_its_familys_module() -> None:
    for declared in operations().values():
        module = importlib.import_module(f"contract.{declared.family}")
        assert getattr(module, declared.verb) is declared
        assert declared.verb in module.__all__


@pytest.mark.parametrize(
    "name", ["", "mcts", "mcts.", "mcts.no_such", "os.system", "MCTS.ucb1_selection"]
)
def test_an_unknown_name_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(KeyError, match=r"expected one of .*mcts\.ucb1_selection") as caught:
        operation(name)
    assert repr(name) in str(caught.value)
