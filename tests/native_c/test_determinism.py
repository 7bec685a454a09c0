"""The same bits whatever computes, as tests/determinism.py promises and the page says."""

from collections.abc import Callable
from typing import Any

import pytest

import native_c
from contract.families import operations
from native_c import extension
from tests import determinism
from tests.determinism import CASES, Promise, assert_agree, compute

Make = Callable[[], dict[str, Any]]

each_case = pytest.mark.parametrize(("promise", "make"), CASES.values(), ids=CASES)


@each_case
def test_any_number_of_threads_gives_the_same_bits(
    promise: Promise, make: Make, compiled: Any
) -> None:
    request = make()
    answers, used = [], []
    with native_c.use_backend("compiled"):
        for threads in (1, 2, 3, 7):
            extension.set_threads(threads)
            answers.append(compute(promise.operation, request))
            used.append(native_c.made()["threads"])
    assert used[0] == 1
    assert all(count > 1 for count in used[1:]) == promise.pooled
    for answer in answers[1:]:
        assert_agree(answer, answers[0], promise.threads)


@each_case
def test_every_instruction_set_gives_the_same_bits_or_near_ones(
    promise: Promise, make: Make, on_each_level: Any
) -> None:
    request = make()
    answers = on_each_level(lambda: compute(promise.operation, request))
    for answer in answers[1:]:
        assert_agree(answer, answers[0], promise.levels, request)


@each_case
def test_both_backends_give_the_same_bits_or_near_ones(
    promise: Promise, make: Make, compiled: Any
) -> None:
    request = make()
    with native_c.use_backend("fallback"):
        expected = compute(promise.operation, request)
    with native_c.use_backend("compiled"):
        found = compute(promise.operation, request)
    assert_agree(found, expected, promise.backends, request)


@each_case
def test_the_same_request_gives_the_same_bits_again(promise: Promise, make: Make) -> None:
    first, again = (compute(promise.operation, make()) for _ in range(2))
    assert_agree(again, first, promise.redelivery)


def test_a_difference_of_one_bit_is_seen() -> None:
    zero: dict[str, Any] = {"similarity": 0.0, "threads": 1}
    assert_agree(zero | {"threads": 2}, zero, determinism.SAME)
    with pytest.raises(AssertionError, match="similarity"):
        assert_agree(zero | {"similarity": -0.0}, zero, determinism.SAME)


def test_every_operation_says_what_is_the_same() -> None:
    assert {promise.operation for promise in determinism.PROMISES} == set(operations())


def test_the_page_shows_what_is_tested() -> None:
    table = determinism.table()
    assert table in determinism.PAGE.read_text(encoding="utf-8"), f"expected this table:\n{table}"
