"""The choice of the twin: the same job again on NumPy, breakers, and kernels that come back."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

import native_c
from contract import errors
from contract.envelope import Envelope
from contract.families import operation
from native_c import backend, extension
from native_c import errors as native_errors
from workers import breaker, runner, twins
from workers.twins import Abandoned, Doubt, Twins

OPERATION = operation("mcts.ucb1_selection")
FIELDS: dict[str, Any] = {"visits": [[3, 1]], "value_sums": [[1.5, 0.25]], "parent_visits": [4]}
NAME = OPERATION.name


class Watch:
    """Hears what a deployment would count."""

    def __init__(self) -> None:
        self.fallbacks: list[str] = []
        self.changes: list[str] = []

    def now(self) -> float:
        return 0.0

    def __call__(self, progress: float) -> None: ...

    def count_fallback(self, operation: str, reason: str) -> None:
        assert operation == NAME
        self.fallbacks.append(reason)

    def note_breaker(self, operation: str, state: str, seconds: float) -> None:
        assert (operation, seconds) == (NAME, 30)
        self.changes.append(state)


class Mill:
    """Jobs of one process, and what was heard of them."""

    def __init__(self) -> None:
        self.twins, self.watch = Twins(), Watch()

    def run(self, doubt: Doubt | None = None) -> Any:
        return runner.run(OPERATION, (), FIELDS, Envelope(), self.watch, doubt, self.twins)


@pytest.fixture
def mill() -> Mill:
    return Mill()


@pytest.fixture
def kernel(monkeypatch) -> Callable[[Any], list[int]]:
    """Let the C kernel raise or do something; NumPy stays as it is. Returns its calls."""
    try:
        extension.load()
    except native_errors.ExtensionMissing as error:
        pytest.skip(str(error))
    from native_c.compiled import mcts

    original = mcts.ucb1_selection
    monkeypatch.setattr(backend, "_loaded", backend._COMPILED)

    def put(fault: Any) -> list[int]:
        calls: list[int] = []

        def stand_in(*arguments: Any) -> None:
            calls.append(len(calls))
            if isinstance(fault, type) and issubclass(fault, BaseException):
                raise fault("of the kernel")
            if fault is not None:
                fault(*arguments)
            original(*arguments)

        monkeypatch.setattr(mcts, "ucb1_selection", stand_in)
        return calls

    return put


def test_a_kernel_that_answers_is_used_without_a_word(mill: Mill, kernel) -> None:
    kernel(None)
    result = mill.run()
    assert (result.backend, result.warnings) == ("compiled", ())
    assert (mill.watch.fallbacks, mill.watch.changes) == ([], [])


@pytest.mark.parametrize(
    "fault",
    [native_errors.NativeError, native_errors.Unsupported, ZeroDivisionError, TypeError, OSError],
)
def test_a_kernel_that_fails_is_repeated_on_numpy_in_the_same_job(mill, kernel, fault) -> None:
    kernel(fault)
    result = mill.run()
    assert result.chosen.tolist() == [1]
    assert result.backend == "fallback"
    said = f"The C kernel of {NAME} failed ({fault.__name__}: of the kernel): this answer is"
    assert [text[: len(said)] for text in result.warnings] == [said]
    assert mill.watch.fallbacks == ["error"]


def test_an_answer_that_is_no_result_is_repeated_on_numpy(mill, kernel, monkeypatch) -> None:
    import native_c.mcts

    kernel(None)
    original = native_c.mcts.ucb1_selection

    def spoil(**fields: Any) -> Any:
        answer = original(**fields)
        return answer if native_c.current().name == "fallback" else {**answer, "scores": "none"}

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", spoil)
    assert mill.run().backend == "fallback"


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (native_errors.InvalidArgument, errors.InvalidRequest),
        (native_errors.OutOfMemory, errors.ComputeError),
        (native_errors.Singular, errors.ComputeError),
        (native_errors.NotConverged, errors.ComputeError),
        (MemoryError, errors.ComputeError),
        (errors.JobCancelled, errors.JobCancelled),
        (errors.DeadlineExceeded, errors.DeadlineExceeded),
        (Abandoned, Abandoned),
        (KeyboardInterrupt, KeyboardInterrupt),
    ],
)
def test_what_is_no_fault_of_the_kernel_is_not_repeated(mill, monkeypatch, kernel, fault, meaning):
    import native_c.mcts

    kernel(None)
    calls = []

    def facade(**fields: Any) -> Any:
        calls.append(native_c.current().name)
        raise fault("so it is")

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", facade)
    for _ in range(5):
        with pytest.raises(meaning):
            mill.run()
    assert calls == ["compiled"] * 5
    assert (mill.watch.fallbacks, mill.watch.changes) == ([], [])


def test_a_job_that_fails_on_both_twins_tells_what_numpy_said(mill, monkeypatch, kernel) -> None:
    import native_c.mcts

    kernel(None)

    def facade(**fields: Any) -> Any:
        raise ZeroDivisionError(native_c.current().name)

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", facade)
    for _ in range(5):
        with pytest.raises(errors.InternalError, match="ZeroDivisionError: fallback"):
            mill.run()
    assert mill.watch.changes == []  # no fault of the kernel's


def test_a_kernel_that_keeps_failing_is_left_alone_then_tried_and_used(
    mill: Mill, kernel, monkeypatch, caplog
) -> None:
    calls = kernel(ZeroDivisionError)
    with caplog.at_level(logging.WARNING):
        results = [mill.run() for _ in range(10)]
    assert len(calls) == breaker.FAILURES
    assert {result.backend for result in results} == {"fallback"}
    left = f"The C kernel of {NAME} failed again and again and is left alone for a while"
    assert all(result.warnings[0].startswith(left) for result in results[3:])
    assert mill.watch.fallbacks == ["error"] * 3 + ["breaker"] * 7
    assert mill.watch.changes == ["open"]
    assert caplog.text.count("circuit breaker open") == 1
    # The cause is gone, and the time has come.
    kernel(None)
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        results = [mill.run() for _ in range(3)]
    assert [result.backend for result in results] == ["compiled"] * 3
    assert all(result.warnings == () for result in results)
    assert mill.watch.changes == ["open", "half_open", "closed"]
    assert caplog.text.count("circuit breaker half_open") == 1
    assert caplog.text.count("circuit breaker closed") == 1


def test_one_operation_that_fails_leaves_the_others_alone(mill: Mill, kernel) -> None:
    kernel(ZeroDivisionError)
    for _ in range(5):
        mill.run()
    other = operation("analytics.basic_statistics")
    watch = Watch()
    found = runner.run(other, ([1.0, 2.0],), {}, Envelope(), watch, None, mill.twins)
    assert found.backend == "compiled"


def test_the_twin_takes_over_in_a_moment(mill: Mill, kernel) -> None:
    kernel(None)
    mill.run()
    kernel(ZeroDivisionError)
    started = time.perf_counter()
    assert mill.run().backend == "fallback"
    assert time.perf_counter() - started < 0.1


def test_a_doubted_job_runs_on_numpy_and_says_why(mill: Mill, kernel) -> None:
    calls = kernel(None)
    result = mill.run(Doubt("lost", "A process died."))
    assert (result.backend, result.warnings) == ("fallback", ("A process died.",))
    assert mill.watch.fallbacks == ["lost"]
    assert calls == []
    assert mill.run().backend == "compiled"


# --- Kernels that are not there ---


@pytest.fixture
def missing(monkeypatch) -> None:
    """Let `auto` have found no extension."""
    monkeypatch.setattr(backend, "_loaded", backend._FALLBACK)
    monkeypatch.setattr(backend, "_fallback_reason", "the extension was not built")


def test_without_kernels_each_answer_says_so(mill: Mill, missing: None) -> None:
    result = mill.run()
    assert result.backend == "fallback"
    said = (
        "The C kernels cannot be used here (the extension was not built): this answer is NumPy's."
    )
    assert result.warnings == (said,)
    assert mill.watch.fallbacks == ["unavailable"]


def test_numpy_that_was_asked_for_needs_no_words(mill: Mill, monkeypatch) -> None:
    monkeypatch.setattr(backend, "_loaded", backend._FALLBACK)
    monkeypatch.setattr(backend, "_fallback_reason", "")
    assert mill.run().warnings == ()
    assert mill.watch.fallbacks == []


def test_kernels_that_are_there_again_are_used_within_a_minute(
    mill: Mill, missing: None, kernel, monkeypatch, caplog
) -> None:
    kernel(None)
    monkeypatch.setattr(backend, "_loaded", backend._FALLBACK)
    monkeypatch.setenv("NATIVE_C_BACKEND", "auto")
    assert mill.run().backend == "fallback"  # it has not been long
    monkeypatch.setattr(twins, "LOOK_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        assert [mill.run().backend for _ in range(2)] == ["compiled"] * 2
    assert caplog.text.count("the C kernels are there again and are used") == 1


def test_kernels_that_stay_away_are_looked_for_once_a_minute(mill, missing, monkeypatch) -> None:
    looks: list[int] = []

    def look() -> bool:
        looks.append(1)
        return False

    monkeypatch.setattr(native_c, "try_again", look)
    for _ in range(5):
        mill.run()
    assert looks == []
    monkeypatch.setattr(twins, "LOOK_SECONDS", 0.05)
    time.sleep(0.06)
    for _ in range(5):
        mill.run()
    assert len(looks) <= 2
