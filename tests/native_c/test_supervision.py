"""A kernel on a thread of its own: looks, stops, errors, and how it was made."""

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

import native_c
from native_c import fusion, mcts, supervision
from native_c.errors import Singular

REQUEST: dict[str, Any] = {"visits": [[3, 1]], "value_sums": [[1.0, 0.5]], "parent_visits": [4]}

Kernel = Callable[[], Generator[float, None, dict[str, Any]]]


class Stop(Exception):
    """What a look raises."""


def steps(seconds: float, count: int, freed: list[bool] | None = None) -> Kernel:
    def kernel() -> Generator[float, None, dict[str, Any]]:
        try:
            for step in range(count):
                time.sleep(seconds)
                yield step / count
            return {"thread": threading.current_thread().name}
        finally:
            if freed is not None:
                freed.append(True)

    return kernel


def wait_for(freed: list[bool]) -> None:
    """Give a kernel that is told to stop, on a busy machine, the time for it."""
    deadline = time.monotonic() + 5
    while not freed and time.monotonic() < deadline:
        time.sleep(0.001)


both = pytest.mark.parametrize("at_once", [False, True])


@both
def test_a_quick_kernel_answers_as_when_it_is_called(at_once: bool) -> None:
    answer, made = native_c.supervise(
        lambda: mcts.ucb1_selection(**REQUEST), lambda part: None, at_once=at_once
    )
    assert answer["chosen"].tolist() == mcts.ucb1_selection(**REQUEST)["chosen"].tolist()
    assert made == native_c.made()


@both
@pytest.mark.parametrize("twin", ["compiled", "fallback"])
def test_a_long_kernel_answers_to_the_bit_and_says_how_it_was_made(
    compiled: Any, twin: str, at_once: bool
) -> None:
    request: dict[str, Any] = {
        "embeddings": np.random.default_rng(1).normal(size=(3000, 16)).astype(np.float32),
        "modalities": np.arange(3000) % 3,
        "threshold": 0.8,
    }
    with native_c.use_backend(twin):
        expected = native_c.run(fusion.connection_discovery(**request))
        expected_made = native_c.made()
        mcts.ucb1_selection(**REQUEST)  # another kernel on this thread
        answer, made = native_c.supervise(
            lambda: fusion.connection_discovery(**request), lambda part: None, at_once=at_once
        )
    assert made == expected_made
    assert answer["similarity"].tobytes() == expected["similarity"].tobytes()
    assert answer["i"].tobytes() == expected["i"].tobytes()


def test_a_kernel_that_ends_with_its_first_step_needs_no_thread() -> None:
    def kernel() -> Generator[float, None, dict[str, Any]]:
        yield from ()
        return {"thread": threading.current_thread().name}

    here = threading.current_thread().name
    answer, _ = native_c.supervise(kernel, lambda part: None, at_once=False)
    assert answer == {"thread": here}
    answer, _ = native_c.supervise(kernel, lambda part: None)
    assert answer == {"thread": "native_c"}


@both
def test_the_caller_looks_forty_times_a_second_however_short_or_long_a_step_is(
    at_once: bool,
) -> None:
    for seconds, count in ((0.001, 400), (0.4, 1)):
        told: list[float] = []
        native_c.supervise(steps(seconds, count), told.append, at_once=at_once)
        assert told == sorted(told)
        assert len(told) <= 25
        if count > 1:
            assert len(told) >= 8
            assert told[-1] > 0.7


@both
def test_what_a_look_raises_stops_the_kernel_and_frees_what_it_holds(at_once: bool) -> None:
    freed: list[bool] = []

    def look(part: float) -> None:
        if part > 0.005:
            raise Stop

    with pytest.raises(Stop):
        native_c.supervise(steps(0.001, 10_000, freed), look, at_once=at_once)
    wait_for(freed)
    assert freed == [True]


@both
def test_a_first_look_that_raises_stops_it_too(at_once: bool) -> None:
    freed: list[bool] = []

    def look(part: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        native_c.supervise(steps(0.001, 10_000, freed), look, at_once=at_once)
    assert freed == ([] if at_once else [True])


def test_a_step_that_lasts_keeps_no_caller_waiting() -> None:
    ended = threading.Event()

    def kernel() -> dict[str, Any]:
        time.sleep(0.5)
        ended.set()
        return {}

    asked = time.monotonic()

    def look(part: float) -> None:
        if time.monotonic() - asked > 0.1:
            raise Stop

    with pytest.raises(Stop):
        native_c.supervise(kernel, look)
    assert time.monotonic() - asked < 0.3
    assert not ended.is_set()
    assert ended.wait(5)  # it goes on unseen


@both
@pytest.mark.parametrize("error", [Singular, MemoryError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_kernel_is_raised_here(at_once: bool, error: type) -> None:
    def kernel() -> Generator[float, None, dict[str, Any]]:
        yield 0.5
        raise error("so it is")

    with pytest.raises(error, match="so it is"):
        native_c.supervise(kernel, lambda part: None, at_once=at_once)


@both
def test_the_twins_chosen_here_are_those_of_the_thread(at_once: bool) -> None:
    for twin in ("fallback", native_c.current().name):
        with native_c.use_backend(twin):

            def kernel() -> Generator[float, None, dict[str, Any]]:
                yield 0.1
                return {"twin": native_c.current().name}

            answer, made = native_c.supervise(kernel, lambda part: None, at_once=at_once)
        assert answer["twin"] == made["backend"] == twin


def test_the_looks_and_the_grace_are_within_the_promise() -> None:
    assert supervision.LOOK_SECONDS + supervision.GRACE_SECONDS <= 0.05


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    for _ in range(5):
        native_c.supervise(steps(0.001, 5), lambda part: None)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
