"""A thousand calls of every operation keep nothing, on the twin in use, answered or refused."""

import ctypes
import gc
import importlib
import os
import tracemalloc
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from contract.families import operations
from native_c import backend
from native_c.errors import NativeError
from native_c.steps import run

# AddressSanitizer keeps what is freed, to see whether it is used; and it counts leaks itself.
pytestmark = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the allocator is that of a sanitizer"
)

CALLS = 1000

#: What they may keep together: the interpreter's own caches take a kilobyte or two, and a thousand
#: of the smallest objects there are take 16.
MOST_KEPT = 8 * CALLS
#: By how much the process may grow meanwhile: pages that an allocator holds back, once.
MOST_GROWN = 4 << 20

#: A small request of each operation: its last one in the start-up self-test.
REQUESTS = {
    f"{family}.{operation.__name__}": (operation, arguments)
    for family in backend.FAMILIES
    for operation, arguments in importlib.import_module(f"native_c.{family}").SELF_TEST
}

each_request = pytest.mark.parametrize(("operation", "arguments"), REQUESTS.values(), ids=REQUESTS)


def growth_of(call: Callable[[], object]) -> tuple[int, int]:
    """Return by how many bytes Python's objects and the process have grown after CALLS calls."""
    process = psutil.Process()
    tracemalloc.start()
    try:
        # First the lists of free objects fill up, which Python keeps for the next calls.
        for _ in range(CALLS // 2):
            call()
        gc.collect()
        _give_back_free_memory()
        call()  # and takes again what each call needs
        before, _ = tracemalloc.get_traced_memory()
        resident = process.memory_info().rss
        for _ in range(CALLS):
            call()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        return after - before, process.memory_info().rss - resident
    finally:
        tracemalloc.stop()


def _give_back_free_memory() -> None:
    """Return what other tests freed to the system: what is kept now would hide in it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(ctypes.c_size_t(0))


def check(call: Callable[[], object]) -> None:
    kept, grown = growth_of(call)
    assert kept <= MOST_KEPT
    assert grown <= MOST_GROWN


@each_request
def test_a_thousand_answers_keep_nothing(operation: Any, arguments: dict[str, Any]) -> None:
    check(lambda: run(operation(**arguments)))


@each_request
def test_a_thousand_refusals_keep_nothing(operation: Any, arguments: dict[str, Any]) -> None:
    wrong = arguments | {next(iter(arguments)): "no numbers"}

    def refuse() -> None:
        with pytest.raises(NativeError):
            run(operation(**wrong))

    check(refuse)


def test_every_operation_is_called() -> None:
    assert set(REQUESTS) == set(operations())


def test_what_is_kept_is_seen() -> None:
    kept: list[bytearray] = []
    objects, grown = growth_of(lambda: kept.append(bytearray(2 * MOST_GROWN // CALLS)))
    assert objects > 2 * MOST_GROWN - CALLS
    assert grown > MOST_GROWN
