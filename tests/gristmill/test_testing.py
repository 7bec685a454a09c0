"""The in-process mode: the same calls, handles, results and errors, without a server."""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import native_c.mcts
import producers
from contract import errors, payloads
from contract.errors import InvalidRequest, JobCancelled, MessageError, ResultTimeout
from gristmill.testing import InProcess, in_process
from native_c import errors as native_errors
from producers import mcts

OPERATION = mcts.ucb1_selection
VISITS, SUMS, PARENTS = [[3, 1], [0, 5]], [[1.5, 0.25], [0.0, 2.0]], [4, 5]
REQUEST = OPERATION.build(VISITS, SUMS, PARENTS)
ANSWER = {"scores": np.zeros((1, 1)), "chosen": np.zeros(1, int)}

pytest_plugins = ["pytester"]


@pytest.fixture
def road() -> Iterator[InProcess]:
    with in_process(timeout=10) as road:
        yield road


@pytest.fixture
def kernel(monkeypatch) -> Callable[[Callable[..., Any]], None]:
    """Put a kernel of the test's own in the place of the real one."""
    return lambda facade: monkeypatch.setattr(native_c.mcts, "ucb1_selection", facade)


class Gate:
    """A kernel that goes on when told, a step at a time."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self, **fields: Any) -> Generator[float, None, dict[str, Any]]:
        yield 0.25
        self.started.set()
        while not self.go_on.wait(0.001):
            yield 0.5
        return ANSWER


# --- Results ---


def test_operations_run_here_with_the_result_of_the_real_road(road: InProcess) -> None:
    result = OPERATION(VISITS, SUMS, PARENTS)
    assert isinstance(result, OPERATION.result)
    expected = [1.5 / 3 + math.sqrt(2 * math.log(4) / 3), 0.25 + math.sqrt(2 * math.log(4))]
    np.testing.assert_allclose(result.scores[0], expected, rtol=1e-12)
    assert result.chosen.tolist() == [1, 0]
    assert result.queue_seconds is not None
    assert 0 <= result.queue_seconds < 5


def test_a_result_is_read_only_as_one_from_the_wire_is(road: InProcess) -> None:
    assert not OPERATION(VISITS, SUMS, PARENTS).scores.flags.writeable


def test_a_job_is_submitted_watched_and_waited_for(road: InProcess) -> None:
    job = OPERATION.submit(VISITS, SUMS, PARENTS)
    assert job.result(timeout=5).chosen.tolist() == [1, 0]
    assert (job.status(), job.progress()) == ("succeeded", 1.0)
    assert repr(job) == f"Job('{job.id}')"
    for again in (road.job(OPERATION, job.id), road.job("mcts.ucb1_selection", job.id)):
        assert again.result(timeout=0).chosen.tolist() == [1, 0]


def test_jobs_have_ids_and_results_of_their_own(road: InProcess) -> None:
    jobs = [OPERATION.submit([[1, 1]], [[k, 0.0]], [2]) for k in range(20)]
    assert len({job.id for job in jobs}) == 20
    for k, job in enumerate(jobs):
        assert job.result().scores[0, 0] == pytest.approx(k + np.sqrt(2 * np.log(2)))


@pytest.mark.parametrize("backend", ["compiled", "fallback"])
def test_the_backend_that_the_caller_chose_is_the_one_that_runs(road, backend: str) -> None:
    try:
        with native_c.use_backend(backend):
            assert OPERATION(VISITS, SUMS, PARENTS).backend == backend
    except native_errors.ExtensionMissing:
        pytest.skip("the extension is not built")


def test_the_arguments_travel_when_they_are_submitted(road: InProcess, kernel) -> None:
    gate, seen = Gate(), []

    def note(**fields: Any) -> Any:
        seen.append(fields["value_sums"].tolist())
        return gate(**fields)

    kernel(note)
    sums = np.array(SUMS)
    jobs = [OPERATION.submit(VISITS, sums, PARENTS) for _ in range(2)]
    sums[:] = 7.0
    gate.go_on.set()
    for job in jobs:
        job.result()
    assert seen == [SUMS, SUMS]


# --- Errors ---


def test_a_wrong_argument_is_refused_when_called(road: InProcess) -> None:
    with pytest.raises(InvalidRequest, match=r"^visits: 1 of 4 below 0"):
        OPERATION([[-1, 1], [0, 5]], SUMS, PARENTS)


@pytest.mark.parametrize("error", [errors.ComputeError, errors.TransientError, InvalidRequest])
def test_an_error_of_the_worker_comes_back_as_its_own_class(road, kernel, error) -> None:
    def fail(**fields: Any) -> Any:
        raise error("values: it is so, expected otherwise", {"at": (1, 2)}, object)

    kernel(fail)
    job = OPERATION.submit(VISITS, SUMS, PARENTS)
    with pytest.raises(error, match="it is so, expected otherwise") as caught:
        job.result()
    assert type(caught.value) is error
    assert caught.value.args[1:] == ({"at": [1, 2]}, repr(object))
    assert job.status() == "failed"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (native_errors.Singular("no inverse"), errors.ComputeError),
        (MemoryError("no room"), errors.ComputeError),
        (ZeroDivisionError("of ours"), errors.InternalError),
        (SystemExit("of ours"), errors.InternalError),
        (KeyboardInterrupt("of ours"), errors.InternalError),
    ],
)
def test_an_error_of_a_kernel_means_what_it_means_in_a_worker(road, kernel, raised, expected):
    def fail(**fields: Any) -> Any:
        raise raised

    kernel(fail)
    with pytest.raises(errors.GristmillError, match=str(raised)) as caught:
        OPERATION(VISITS, SUMS, PARENTS)
    assert type(caught.value) is expected
    kernel(lambda **fields: ANSWER)
    assert OPERATION(VISITS, SUMS, PARENTS).chosen.tolist() == [0]  # the worker goes on


def test_an_answer_that_would_not_travel_fails_here_too(road: InProcess, monkeypatch) -> None:
    result = OPERATION.read_result(
        {**ANSWER, **native_c.made(), "kernel_seconds": 0, "queue_seconds": 0}
    )
    monkeypatch.setattr(type(result), "to_fields", lambda self: {"scores": object()})
    with pytest.raises(MessageError, match="object cannot travel"):
        OPERATION(VISITS, SUMS, PARENTS)


def test_a_request_that_would_not_fit_is_refused_here_too(road: InProcess, monkeypatch) -> None:
    monkeypatch.setattr(payloads, "MAX_BYTES", 10)
    with pytest.raises(InvalidRequest, match=r"^request: \d+ bytes, expected at most 10$"):
        OPERATION.submit(VISITS, SUMS, PARENTS)


# --- Cancelling, deadlines, timeouts ---


def test_a_running_job_is_cancelled_at_its_next_step(road: InProcess, kernel) -> None:
    gate = Gate()
    kernel(gate)
    job = OPERATION.submit(VISITS, SUMS, PARENTS)
    assert gate.started.wait(5)
    assert job.status() == "running"
    assert 0.25 <= job.progress() <= 0.5
    job.cancel()
    with pytest.raises(JobCancelled, match=job.id):
        job.result()
    assert job.status() == "cancelled"


def test_a_job_in_the_queue_is_cancelled_before_it_runs(road: InProcess, kernel) -> None:
    gate = Gate()
    kernel(gate)
    first, second = (OPERATION.submit(VISITS, SUMS, PARENTS) for _ in range(2))
    assert gate.started.wait(5)
    assert second.status() == "queued"
    second.cancel()
    gate.go_on.set()
    assert first.result().chosen.tolist() == [0]
    with pytest.raises(JobCancelled):
        second.result()


def test_a_deadline_ends_a_waiting_and_a_running_job(road: InProcess, kernel) -> None:
    gate = Gate()
    kernel(gate)
    running = road.submit(OPERATION, REQUEST, deadline_seconds=0.1)
    waiting = road.submit(OPERATION, REQUEST, deadline_seconds=0.05)
    in_time = road.submit(OPERATION, REQUEST, deadline_seconds=60)
    for job in (running, waiting):
        with pytest.raises(errors.DeadlineExceeded, match=r"^deadline: passed"):
            job.result()
    gate.go_on.set()
    assert in_time.result().chosen.tolist() == [0]


def test_a_deadline_beyond_all_times_is_none(road: InProcess) -> None:
    job = road.submit(OPERATION, REQUEST, deadline_seconds=float("inf"))
    assert job.result().chosen.tolist() == [1, 0]


def test_waiting_ends_in_time(road: InProcess, kernel) -> None:
    gate = Gate()
    kernel(gate)
    job = OPERATION.submit(VISITS, SUMS, PARENTS)
    started = time.monotonic()
    with pytest.raises(ResultTimeout, match=rf"^job {job.id}: \w+ after 0\.1 s"):
        job.result(timeout=0.1)
    assert time.monotonic() - started < 2
    gate.go_on.set()
    assert job.result().chosen.tolist() == [0]


def test_the_blocks_own_limit_counts_where_none_is_given(kernel) -> None:
    gate = Gate()
    kernel(gate)
    with in_process(timeout=0.05), pytest.raises(ResultTimeout, match=r"after 0\.05 s"):
        OPERATION(VISITS, SUMS, PARENTS)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", []])
def test_times_that_are_none_are_refused(road: InProcess, seconds: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^timeout: "), in_process(timeout=seconds):
        pass
    with pytest.raises(InvalidRequest, match=r"^timeout: "):
        road.job(OPERATION, "some").result(timeout=seconds)
    with pytest.raises(InvalidRequest, match=r"^deadline_seconds: "):
        road.submit(OPERATION, REQUEST, deadline_seconds=seconds)


def test_an_unknown_id_is_queued_for_all_that_is_known(road: InProcess) -> None:
    job = road.job(OPERATION, "unknown")
    assert (job.status(), job.progress()) == ("queued", 0.0)
    with pytest.raises(ResultTimeout):
        job.result(timeout=0.05)


# --- The block ---


def test_after_the_block_no_job_is_waited_for_in_vain(kernel) -> None:
    gate = Gate()
    kernel(gate)
    with in_process() as road:
        jobs = [OPERATION.submit(VISITS, SUMS, PARENTS) for _ in range(3)]
        assert gate.started.wait(5)
    for job in jobs:
        with pytest.raises(JobCancelled):
            job.result(timeout=0)
    with pytest.raises(errors.BrokerUnavailable, match="closed"):
        road.submit(OPERATION, REQUEST)


def test_results_outlive_the_block() -> None:
    with in_process():
        job = OPERATION.submit(VISITS, SUMS, PARENTS)
        job.result()
    assert job.result(timeout=0).chosen.tolist() == [1, 0]


def test_no_thread_outlives_the_block() -> None:
    before = threading.active_count()
    with in_process():
        OPERATION(VISITS, SUMS, PARENTS)
    assert threading.active_count() == before


def test_the_block_counts_in_every_thread_of_the_app(road: InProcess) -> None:
    # A thread knows nothing of its parent's context; it must not reach for a real broker.
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda _: OPERATION(VISITS, SUMS, PARENTS).chosen.tolist(), range(8))
        assert list(found) == [[1, 0]] * 8
        assert threads.submit(producers.current).result() is road


def test_blocks_nest() -> None:
    with in_process() as outer:
        with in_process() as inner:
            assert producers.current() is inner
        assert producers.current() is outer
        OPERATION(VISITS, SUMS, PARENTS)


def test_the_client_of_the_process_is_back_after_the_block(monkeypatch) -> None:
    monkeypatch.setattr(producers.client, "_default", None)
    client = producers.connect("redis://127.0.0.1:1")
    with pytest.raises(ZeroDivisionError), in_process():
        raise ZeroDivisionError
    assert producers.current() is client


def test_the_fixture_is_the_block(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["gristmill.testing.plugin"]')
    pytester.makepyfile(
        """
        from producers import current, mcts

        def test_with_it(gristmill_in_process):
            assert current() is gristmill_in_process
            found = mcts.ucb1_selection([[1, 2]], [[0.5, 1.0]], [3])
            assert found.chosen.tolist() == [0]

        def test_without_it():
            assert type(current()).__name__ == "Client"
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:valkey").assert_outcomes(
        passed=2
    )


def test_the_mode_needs_no_server_and_no_network() -> None:
    program = (
        "import socket\n"
        "def refuse(*args): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from gristmill.testing import in_process\n"
        "from producers import mcts\n"
        "with in_process():\n"
        "    print(mcts.ucb1_selection([[1, 2]], [[0.5, 1.0]], [3]).chosen.tolist())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "[0]\n", ended.stderr
