"""A thousand calls of every operation keep nothing, on the twin in use, answered or refused."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from contract.families import operations
from tests.leaks import (
    CALLS,
    MOST_GROWN,
    MOST_KEPT,
    REQUESTS,
    growth_of_answers,
    growth_of_keeping,
    growth_of_refusals,
)

# AddressSanitizer keeps what is freed, to see whether it is used; and it counts leaks itself.
pytestmark = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the allocator is that of a sanitizer"
)

each_operation = pytest.mark.parametrize("name", REQUESTS)

Measure = Callable[[Callable[..., tuple[int, int]], object], tuple[int, int]]


@pytest.fixture(scope="module")
def measure() -> Iterator[Measure]:
    """Measure in a new process: here, what is kept would hide in what other tests have freed."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        yield lambda growth, what: pool.submit(growth, what).result()


@each_operation
def test_a_thousand_answers_keep_nothing(name: str, measure: Measure) -> None:
    kept, grown = measure(growth_of_answers, name)
    assert kept <= MOST_KEPT
    assert grown <= MOST_GROWN


@each_operation
def test_a_thousand_refusals_keep_nothing(name: str, measure: Measure) -> None:
    kept, grown = measure(growth_of_refusals, name)
    assert kept <= MOST_KEPT
    assert grown <= MOST_GROWN


def test_every_operation_is_called() -> None:
    assert set(REQUESTS) == set(operations())


def test_what_is_kept_is_seen(measure: Measure) -> None:
    kept, grown = measure(growth_of_keeping, 2 * MOST_GROWN // CALLS)
    assert kept > 2 * MOST_GROWN - CALLS
    assert grown > MOST_GROWN
