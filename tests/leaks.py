"""What a thousand calls of something keep, measured in a process where nothing else was freed."""

import gc
import importlib
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import psutil
import pytest

from native_c import backend
from native_c.errors import NativeError
from native_c.steps import run

CALLS: Final = 1000
#: A leak grows in every round; a cache of the interpreter or a table that doubles, in one of them.
ROUNDS: Final = 3

#: What the calls of a round may keep together: half of what a thousand of the smallest objects
#: that there are take.
MOST_KEPT: Final = 8 * CALLS
#: By how much the process may grow meanwhile: pages that an allocator holds back, once.
MOST_GROWN: Final = 4 << 20

#: A small request of each operation: its last one in the start-up self-test.
REQUESTS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    f"{family}.{operation.__name__}": (operation, arguments)
    for family in backend.FAMILIES
    for operation, arguments in importlib.import_module(f"native_c.{family}").SELF_TEST
}


def growth_of_answers(name: str) -> tuple[int, int]:
    """Return what `growth_of` says of an operation that answers."""
    operation, arguments = REQUESTS[name]
    return growth_of(lambda: run(operation(**arguments)))


def growth_of_refusals(name: str) -> tuple[int, int]:
    """Return what `growth_of` says of an operation that refuses its first argument."""
    operation, arguments = REQUESTS[name]
    wrong = arguments | {next(iter(arguments)): "no numbers"}

    def refuse() -> None:
        with pytest.raises(NativeError):
            run(operation(**wrong))

    return growth_of(refuse)


def growth_of_keeping(num_bytes: int) -> tuple[int, int]:
    """Return what `growth_of` says of a call that keeps so many bytes each time."""
    kept: list[bytearray] = []
    return growth_of(lambda: kept.append(bytearray(num_bytes)))


def growth_of(call: Callable[[], object]) -> tuple[int, int]:
    """Return by how many bytes Python's objects and the process grow in CALLS calls, at least."""
    process = psutil.Process()
    tracemalloc.start()
    try:
        # First the lists of free objects fill up, which Python keeps for the next calls.
        for _ in range(CALLS // 2):
            call()
        rounds = [growth_of_round(call, process) for _ in range(ROUNDS)]
    finally:
        tracemalloc.stop()
    return min(kept for kept, _ in rounds), min(grown for _, grown in rounds)


def growth_of_round(call: Callable[[], object], process: psutil.Process) -> tuple[int, int]:
    """Return by how many bytes Python's objects and the process have grown after CALLS calls."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    resident = process.memory_info().rss
    for _ in range(CALLS):
        call()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return after - before, process.memory_info().rss - resident
