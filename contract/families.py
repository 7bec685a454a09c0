"""The families of operations: the one list that a new family adds a line to."""

from importlib import import_module
from typing import Any

from contract.operation import Operation

#: One word a family, spelled the same in every module, queue, task prefix, header, test and page.
FAMILIES = (
    "analytics",
    "fusion",
    "optimization",
    "mcts",
)


def operations() -> dict[str, Operation[Any, Any]]:
    """Return every declared operation by its name, family by family."""
    return {
        declared.name: declared
        for family in FAMILIES
        for declared in vars(import_module(f"contract.{family}")).values()
        if isinstance(declared, Operation)
    }


def operation(name: str) -> Operation[Any, Any]:
    """Return the operation called `name`; raise `KeyError` listing the legal names."""
    declared = operations()
    if name not in declared:
        raise KeyError(f"operation: {name!r}, expected one of {', '.join(sorted(declared))}")
    return declared[name]
