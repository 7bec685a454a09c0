"""The runner: from fields to a typed result, and every error of a kernel to one of ours."""

import math
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

import native_c
from contract import errors
from contract.arrays import to_json
from contract.envelope import Envelope
from contract.errors import GristmillError, InternalError, InvalidRequest, MessageError
from contract.families import operation
from native_c import errors as native_errors
from workers import runner
from workers.twins import Silence, Twins

OPERATION = operation("mcts.ucb1_selection")
FIELDS: dict[str, Any] = {
    "visits": np.array([[3, 1], [0, 5]]),
    "value_sums": np.array([[1.5, 0.25], [0.0, 2.0]]),
    "parent_visits": np.array([4, 5]),
}
ANSWER = {"scores": np.zeros((1, 1)), "chosen": np.zeros(1, int)}


class Watch(Silence):
    """Records progress; raises on demand, once the kernel has begun."""

    def __init__(self, now: float = 1000.0, error: Exception | None = None) -> None:
        self.time, self.error = now, error
        self.told: list[float] = []

    def now(self) -> float:
        return self.time

    def __call__(self, progress: float) -> None:
        self.told.append(progress)
        if self.error is not None and progress > 0:
            raise self.error


def run(
    *args: Any,
    envelope: Envelope = Envelope(),  # noqa: B008  # a frozen value
    watch: Watch | None = None,
    **kwargs: Any,
) -> Any:
    return runner.run(OPERATION, args, kwargs, envelope, watch or Watch(), twins=Twins())


@pytest.fixture
def kernel(monkeypatch) -> Callable[[Callable[..., Any]], None]:
    """Put a kernel of the test's own in the place of the real one."""

    def put(facade: Callable[..., Any]) -> None:
        monkeypatch.setattr(native_c.mcts, "ucb1_selection", facade)

    import native_c.mcts

    return put


# --- Results ---


def test_fields_become_a_typed_result() -> None:
    result = run(**FIELDS)
    assert isinstance(result, OPERATION.result)
    assert result.chosen.tolist() == [1, 0]
    # By hand: 1.5/3 + sqrt(2 ln 4 / 3).
    assert result.scores[0, 0] == pytest.approx(0.5 + math.sqrt(2 * math.log(4) / 3), rel=1e-12)


@pytest.mark.parametrize("backend", ["compiled", "fallback"])
def test_a_result_says_which_twin_made_it(backend: str) -> None:
    try:
        with native_c.use_backend(backend):
            result = run(**FIELDS)
    except native_errors.ExtensionMissing:
        pytest.skip("the extension is not built")
    assert result.backend == backend
    assert result.threads >= 1
    assert (result.simd == "none") == (backend == "fallback")


def test_plain_lists_make_the_same_result_as_arrays() -> None:
    lists = {name: value.tolist() for name, value in FIELDS.items()}
    for found in (run(**lists), run(lists["visits"], lists["value_sums"], parent_visits=[4, 5])):
        np.testing.assert_array_equal(found.scores, run(**FIELDS).scores)


def test_the_time_in_the_kernel_and_in_the_queue_are_told(kernel) -> None:
    def slow(**fields: Any) -> dict[str, Any]:
        time.sleep(0.05)
        return ANSWER

    kernel(slow)
    result = run(**FIELDS, envelope=Envelope(submitted_at=990.0), watch=Watch(now=1000.0))
    assert 0.05 <= result.kernel_seconds < 5
    assert result.queue_seconds == 10.0


def test_a_job_from_the_future_has_not_waited() -> None:
    result = run(**FIELDS, envelope=Envelope(submitted_at=1001.0), watch=Watch(now=1000.0))
    assert result.queue_seconds == 0.0


def test_nobody_knows_how_long_a_job_without_a_date_has_waited() -> None:
    assert run(**FIELDS).queue_seconds is None


def test_a_kernels_warnings_reach_the_caller(kernel) -> None:
    kernel(lambda **fields: {**ANSWER, "warnings": ("Two nodes are one.",)})
    assert run(**FIELDS).warnings == ("Two nodes are one.",)


def test_a_kernel_gets_every_field_by_name(kernel) -> None:
    seen = {}

    def note(**fields: Any) -> dict[str, Any]:
        seen.update(fields)
        return ANSWER

    kernel(note)
    run(**FIELDS)
    assert tuple(seen) == OPERATION.request_fields
    assert seen["exploration"] == math.sqrt(2)
    assert seen["child_counts"] is None


# --- Requests that are none ---


@pytest.mark.parametrize(
    ("args", "changes", "message"),
    [
        ((), {"visits": None}, "visits: "),
        ((), {"visits": [[-1, 0], [0, 0]]}, "visits: 1 of 4 below 0"),
        ((), {"colour": "blue"}, "colour: unknown argument"),
        ((), {"self": 1}, "self: unknown argument"),
        ((), {"__dataclass_self__": 1}, "__dataclass_self__: unknown argument"),
        (([[1]],), {}, "visits: given by position and by name"),
        ((1,) * 9, {}, "ucb1_selection: 9 positional arguments"),
    ],
)
def test_a_request_is_checked_again(args, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(*args, **{**FIELDS, **changes})
    assert str(caught.value).startswith(message)


def test_a_reference_to_an_array_elsewhere_is_a_message_error() -> None:
    with pytest.raises(MessageError, match=r"^references: visits outside the message"):
        run(**FIELDS, envelope=Envelope(references={"visits": "blob-7"}))


# --- Errors of kernels ---

MEANING = {
    native_errors.InvalidArgument: errors.InvalidRequest,
    native_errors.OutOfMemory: errors.ComputeError,
    native_errors.Singular: errors.ComputeError,
    native_errors.NotConverged: errors.ComputeError,
    native_errors.Unsupported: errors.InternalError,
    native_errors.ExtensionMissing: errors.InternalError,
    native_errors.UnknownBackend: errors.InternalError,
    native_errors.NativeError: errors.InternalError,
    MemoryError: errors.ComputeError,
    ValueError: errors.InternalError,
    KeyError: errors.InternalError,
    ZeroDivisionError: errors.InternalError,
    RecursionError: errors.InternalError,
    FloatingPointError: errors.InternalError,
    TimeoutError: errors.InternalError,
    UserWarning: errors.InternalError,
}


def test_every_error_of_the_kernels_has_a_meaning() -> None:
    assert set(native_errors.ERRORS.values()) <= set(MEANING)


@pytest.mark.parametrize("in_steps", [False, True], ids=["at once", "in steps"])
@pytest.mark.parametrize("error", MEANING)
def test_each_error_of_a_kernel_means_one_of_ours(kernel, error, in_steps: bool) -> None:
    def fail(**fields: Any) -> dict[str, Any]:
        raise error("values: it is so, expected otherwise")

    def fail_later(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        yield 0.5
        raise error("values: it is so, expected otherwise")

    kernel(fail_later if in_steps else fail)
    with pytest.raises(GristmillError, match="it is so, expected otherwise") as caught:
        run(**FIELDS)
    assert type(caught.value) is MEANING[error]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    if MEANING[error] is not InternalError:
        assert caught.value.args == ("values: it is so, expected otherwise",)


def test_an_internal_error_carries_the_traceback_as_text(kernel) -> None:
    def fail(**fields: Any) -> dict[str, Any]:
        raise ZeroDivisionError("of the kernel")

    kernel(fail)
    with pytest.raises(InternalError) as caught:
        run(**FIELDS)
    said, traceback = caught.value.args
    assert said == "mcts.ucb1_selection: ZeroDivisionError: of the kernel"
    assert traceback.startswith("Traceback (most recent call last):")
    assert 'raise ZeroDivisionError("of the kernel")' in traceback


@pytest.mark.parametrize("error", [errors.TransientError("x"), errors.JobCancelled("x", 1)])
def test_an_error_of_ours_passes_as_it_is(kernel, error: GristmillError) -> None:
    def fail(**fields: Any) -> dict[str, Any]:
        raise error

    kernel(fail)
    with pytest.raises(type(error)) as caught:
        run(**FIELDS)
    assert caught.value is error


def test_an_array_that_no_memory_holds_is_a_compute_error(kernel) -> None:
    # NumPy raises a subclass of MemoryError, which Celery would end the worker for.
    kernel(lambda **fields: {"scores": np.empty(2**50), "chosen": []})
    with pytest.raises(errors.ComputeError, match="Unable to allocate"):
        run(**FIELDS)


def test_a_memory_error_without_words_gets_some(kernel) -> None:
    def fail(**fields: Any) -> dict[str, Any]:
        raise MemoryError

    kernel(fail)
    with pytest.raises(errors.ComputeError, match=r"^out of memory \(MemoryError\)$"):
        run(**FIELDS)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"scores": np.zeros((1, 1))},
        {**ANSWER, "scores": np.zeros(3)},
        [1],
        ANSWER | {"": 1},
    ],
    ids=lambda answer: repr(to_json(answer)),
)
def test_an_answer_that_is_no_result_is_our_fault(kernel, answer: Any) -> None:
    kernel(lambda **fields: answer)
    if isinstance(answer, dict) and "" in answer:
        assert run(**FIELDS).chosen.tolist() == [0]
        return
    with pytest.raises(InternalError, match=r"^mcts\.ucb1_selection: "):
        run(**FIELDS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_process_is_not_held_up(kernel, error: type[BaseException]) -> None:
    def end(**fields: Any) -> dict[str, Any]:
        raise error

    kernel(end)
    with pytest.raises(error):
        run(**FIELDS)


# --- Kernels in steps ---


def test_a_long_kernel_tells_its_progress(kernel) -> None:
    def steps(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        for part in (0.25, 0.5, 0.75):
            yield part
            time.sleep(0.07)
        return ANSWER

    kernel(steps)
    watch = Watch()
    assert run(**FIELDS, watch=watch).chosen.tolist() == [0]
    assert watch.told == sorted(watch.told)
    assert set(watch.told) == {0.0, 0.25, 0.5, 0.75}


@pytest.mark.parametrize("error", [errors.JobCancelled("stop"), errors.DeadlineExceeded("late")])
def test_a_long_kernel_stops_where_the_watch_says_and_frees_what_it_holds(kernel, error) -> None:
    freed = []

    def steps(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        try:
            yield 0.5
            raise AssertionError("went on")
        finally:
            freed.append(True)

    kernel(steps)
    with pytest.raises(type(error)) as caught:
        run(**FIELDS, watch=Watch(error=error))
    assert caught.value is error
    assert freed == [True]


def test_a_watch_that_fails_is_our_fault_and_frees_the_kernel(kernel) -> None:
    freed = []

    def steps(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        try:
            yield 0.5
        finally:
            freed.append(True)
        return ANSWER

    kernel(steps)
    with pytest.raises(InternalError, match="ConnectionError: gone"):
        run(**FIELDS, watch=Watch(error=ConnectionError("gone")))
    assert freed == [True]
