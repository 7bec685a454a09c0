"""The in-process mode: what a client promises, held without a server or a worker."""

import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

import native_c.mcts
from contract import payloads
from contract.errors import (
    DeadlineExceeded,
    GristmillError,
    InternalError,
    InvalidRequest,
    JobCancelled,
    ResultTimeout,
)
from gristmill.testing import in_process
from producers import analytics, current, mcts

pytest_plugins = ["gristmill.testing.plugin"]

OPERATION = mcts.ucb1_selection
FIELDS: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
REQUEST = OPERATION.build(**FIELDS)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a kernel of 500 steps of 10 ms in the place of the real one."""

    def kernel(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        for step in range(500):
            time.sleep(0.01)
            yield step / 500
        return {"scores": np.zeros((1, 1)), "chosen": np.zeros(1, int)}

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", kernel)


def test_the_fixture_runs_jobs_without_a_server(gristmill_in_process: Any) -> None:
    assert current() is gristmill_in_process
    result = analytics.basic_statistics([1.0, 2.0, 6.0])
    assert (result.median, result.mean) == (2.0, 3.0)
    assert result.queue_seconds is not None


def test_a_job_is_watched_as_ever(gristmill_in_process: Any, slow: None) -> None:
    job = OPERATION.submit(**FIELDS)
    with pytest.raises(ResultTimeout, match=job.id):
        job.result(timeout=0.2)
    assert job.status() == "running"
    assert 0 < job.progress() < 1
    job.cancel()
    with pytest.raises(JobCancelled, match=job.id):
        job.result()
    assert job.status() == "cancelled"


def test_wrong_arguments_are_refused_before_anything_runs(gristmill_in_process: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^visits: "):
        OPERATION.submit(**{**FIELDS, "visits": [[-1, 0]]})
    for seconds in (-1, float("nan"), "5"):
        with pytest.raises(InvalidRequest, match=r"^deadline_seconds: .*, expected seconds"):
            current().submit(OPERATION, REQUEST, deadline_seconds=seconds)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^timeout: .*, expected seconds"), in_process(-1):
        pass


def test_arrays_that_no_message_holds_are_refused(gristmill_in_process: Any, monkeypatch) -> None:
    monkeypatch.setattr(payloads, "MAX_BYTES", 39)
    with pytest.raises(InvalidRequest, match=r"^request: 40 bytes, expected at most 39$"):
        OPERATION.submit(**FIELDS)


def test_a_deadline_that_passed_ends_a_job_and_one_beyond_all_times_does_not(
    gristmill_in_process: Any, slow: None
) -> None:
    late = current().submit(OPERATION, REQUEST, deadline_seconds=0.1)
    with pytest.raises(DeadlineExceeded):
        late.result(timeout=10)
    never = current().submit(OPERATION, REQUEST, deadline_seconds=float("inf"))
    with pytest.raises(ResultTimeout):
        never.result(timeout=0.1)


def test_an_error_in_the_kernel_comes_back_as_a_workers_would(
    gristmill_in_process: Any, monkeypatch
) -> None:
    def fail(**fields: Any) -> dict[str, Any]:
        raise ZeroDivisionError("of the kernel")

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", fail)
    with pytest.raises(InternalError, match="ZeroDivisionError: of the kernel") as caught:
        OPERATION(**FIELDS)
    assert "Traceback" in caught.value.args[1]


def test_a_block_that_ends_ends_its_jobs(slow: None) -> None:
    started = time.monotonic()
    with in_process():
        jobs = [OPERATION.submit(**FIELDS) for _ in range(3)]
    for job in jobs:
        with pytest.raises(GristmillError) as caught:
            job.result(timeout=1)
        assert type(caught.value) is JobCancelled
    assert time.monotonic() - started < 2
