"""The handle of a job: waiting, states, progress, errors, and stored results that are none."""

import json
import threading
import time
from typing import Any

import numpy as np
import pytest
from celery import states

from contract import codec, errors
from contract.errors import ERRORS, InvalidRequest, MessageError, ResultTimeout
from contract.results import Answer
from producers import Client, Job, mcts
from producers.job import check_seconds

OPERATION = mcts.ucb1_selection
MADE = {"backend": "fallback", "simd": "none", "threads": 1, "kernel_seconds": 0.25}
ANSWER = {
    **MADE,
    "queue_seconds": 0.5,
    "scores": np.array([[1.0, np.inf]]),
    "chosen": np.array([1]),
}


def store(client: Client, job_id: str, state: str, result: Any = None) -> None:
    """Store what a worker would."""
    client._here().app.backend.store_result(job_id, result, state)


def put(client: Client, job_id: str, payload: bytes | str) -> None:
    """Put bytes where a result would be."""
    process = client._here()
    process.redis.set(client.deployment.result_key(job_id), payload)


@pytest.fixture
def job(client: Client) -> Job:
    return client.job(OPERATION, "job-7")


# --- Success ---


@pytest.mark.parametrize("form", ["codec", "json"])
def test_a_result_comes_back_typed(client: Client, job: Job, form: str) -> None:
    fields = Answer(ANSWER)
    store(client, job.id, states.SUCCESS, fields if form == "codec" else fields.__json__())
    result = job.result(timeout=5)
    assert isinstance(result, OPERATION.result)
    assert result.scores.dtype == np.float64
    np.testing.assert_array_equal(result.scores, [[1.0, np.inf]])
    assert result.chosen.tolist() == [1]
    assert (result.backend, result.threads, result.queue_seconds) == ("fallback", 1, 0.5)
    assert (job.status(), job.progress()) == ("succeeded", 1.0)


def test_a_field_that_this_version_does_not_know_is_dropped(client: Client, job: Job) -> None:
    store(client, job.id, states.SUCCESS, Answer({**ANSWER, "colour": "blue"}))
    assert job.result(timeout=5).chosen.tolist() == [1]


def test_a_result_may_be_asked_for_again(client: Client, job: Job) -> None:
    store(client, job.id, states.SUCCESS, Answer(ANSWER))
    assert job.result(timeout=5).chosen.tolist() == job.result(timeout=0).chosen.tolist()


def test_waiters_wake_when_the_result_is_there(client: Client, job: Job) -> None:
    woken: list[float] = []

    def wait() -> None:
        client.job(OPERATION, job.id).result(timeout=10)
        woken.append(time.monotonic())

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.2)
    stored_at = time.monotonic()
    store(client, job.id, states.SUCCESS, Answer(ANSWER))
    for waiter in waiters:
        waiter.join()
    # A waiter that is not told would look again only when its nap of 2 s is over.
    assert max(woken) - stored_at < 1.7


def test_a_reply_that_was_lost_costs_a_nap_and_no_more(client: Client, job: Job) -> None:
    def store_silently() -> None:
        fields = {**ANSWER, "scores": ANSWER["scores"]}
        put(client, job.id, codec.encode({"status": "SUCCESS", "result": fields}))

    timer = threading.Timer(0.2, store_silently)
    timer.start()
    started = time.monotonic()
    assert job.result(timeout=10).chosen.tolist() == [1]
    assert time.monotonic() - started < 4
    timer.join()


# --- Waiting in vain ---


def test_waiting_for_a_job_that_nobody_runs_ends_in_time(client: Client) -> None:
    request = OPERATION.build(visits=[[1]], value_sums=[[0.5]], parent_visits=[1])
    job = client.submit(OPERATION, request)
    started = time.monotonic()
    expected = (
        rf"^job {job.id}: queued after 0\.2 s, expected its end; does a worker serve its queue"
    )
    with pytest.raises(ResultTimeout, match=expected):
        job.result(timeout=0.2)
    assert 0.2 <= time.monotonic() - started < 1
    with pytest.raises(TimeoutError):
        job.result(timeout=0)
    assert job.status() == "queued"


def test_the_clients_own_limit_counts_where_none_is_given(client: Client) -> None:
    client.timeout = 0.1
    with pytest.raises(ResultTimeout, match=r"after 0\.1 s"):
        client.job(OPERATION, "nobody").result()


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), "5", [1], {}, 1j, 10**400])
def test_a_limit_that_is_none_is_refused(job: Job, timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^timeout: .*, expected seconds, zero or more"):
        job.result(timeout=timeout)


@pytest.mark.parametrize(
    "seconds", [None, 0, 0.0, 5, 1e9, float("inf"), np.float64(3), np.float32(0.5), np.int64(7)]
)
def test_seconds_may_be_any_real_number_or_none(seconds: Any) -> None:
    check_seconds("timeout", seconds)


def test_an_unknown_id_is_queued_for_all_that_is_known(client: Client) -> None:
    for job_id in ("unknown", "with space", "ß" * 500, "*"):
        job = client.job(OPERATION, job_id)
        assert (job.status(), job.progress()) == ("queued", 0.0)


@pytest.mark.parametrize("job_id", ["", None, 7, b"bytes", "job \ud800"])
def test_an_id_that_no_job_has_is_refused(client: Client, job_id: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^job_id: .*, expected the id of a job"):
        client.job(OPERATION, job_id)


# --- States ---


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (states.PENDING, "queued"),
        (states.RECEIVED, "queued"),
        (states.RETRY, "queued"),
        (states.STARTED, "running"),
        ("PROGRESS", "running"),
        ("SOME_USERS_OWN", "running"),
    ],
)
def test_each_of_celerys_states_has_a_word(client, job: Job, state: str, status: str) -> None:
    store(client, job.id, state, ValueError("again") if state == states.RETRY else None)
    assert job.status() == status


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ({"progress": 0.25}, 0.25),
        ({"progress": 1}, 1.0),
        ({"progress": 7}, 1.0),
        ({"progress": -1}, 0.0),
        ({"progress": "half"}, 0.0),
        ({"progress": None}, 0.0),
        ({"progress": float("nan")}, 0.0),
        ({"progress": float("inf")}, 1.0),
        ({"progress": 10**400}, 1.0),
        ({}, 0.0),
        (None, 0.0),
        ([0.5], 0.0),
    ],
)
def test_progress_is_a_part_of_one(client: Client, job: Job, told: Any, seen: float) -> None:
    store(client, job.id, "PROGRESS", told)
    assert job.progress() == seen


# --- Errors ---


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ({"progress": 0.5, "remaining_seconds": 12.5}, 12.5),
        ({"progress": 0.5, "remaining_seconds": 3}, 3.0),
        ({"remaining_seconds": 0}, 0.0),
        ({"progress": 0.1}, None),
        ({"remaining_seconds": None}, None),
        ({"remaining_seconds": -1.0}, None),
        ({"remaining_seconds": True}, None),
        ({"remaining_seconds": "12"}, None),
        ({"remaining_seconds": 10**400}, None),
        (None, None),
        ("a user task's own", None),
    ],
)
def test_the_remaining_time_is_told_where_somebody_knows_it(client, job, told, seen) -> None:
    assert job.remaining_seconds() is None
    store(client, job.id, "PROGRESS", told)
    assert job.remaining_seconds() == seen
    assert job.remaining_seconds().__class__ is seen.__class__
    store(client, job.id, states.SUCCESS, Answer(ANSWER))
    assert job.remaining_seconds() == 0.0


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_a_worker_is_raised_as_its_own_class(client, job: Job, code: str) -> None:
    raised = ERRORS[code]("values: it is so, expected otherwise", "a detail")
    client._here().app.backend.mark_as_failure(job.id, raised)
    with pytest.raises(errors.GristmillError) as caught:
        job.result(timeout=5)
    assert type(caught.value) is ERRORS[code]
    assert str(caught.value) == "values: it is so, expected otherwise"
    assert caught.value.args[1] == "a detail"
    assert (job.status(), job.progress()) == ("failed", 0.0)


def test_a_revoked_job_is_cancelled(client: Client, job: Job) -> None:
    client._here().app.backend.mark_as_revoked(job.id, "cancelled")
    with pytest.raises(errors.JobCancelled, match="job-7"):
        job.result(timeout=5)
    assert job.status() == "cancelled"


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"{",
        b"[",
        b"{}",
        b"[]",
        b'{"status": 7}',
        b'{"status": ["SUCCESS"]}',
        b'{"result": 1}',
        b'{"status": {"__type__": "uuid", "__value__": 3}}',
        b"[" * 100_000,
        codec.encode([1]),
        codec.encode(7),
        codec.encode({"state": "SUCCESS"}),
        b"nonsense",
        b"\xff" * 9,
        b"",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_a_stored_result_that_is_none_is_a_message_error(client, job: Job, payload: bytes) -> None:
    put(client, job.id, payload)
    for ask in (job.result, job.status, job.progress):
        with pytest.raises(MessageError, match=r"^(result|message): "):
            ask()


@pytest.mark.parametrize(
    "fields",
    [
        None,
        7,
        [],
        "text",
        {},
        {"scores": [[1.0]]},
        {**MADE, "queue_seconds": None, "scores": [1.0], "chosen": [0]},
        {**MADE, "queue_seconds": None, "scores": [["x"]], "chosen": [0]},
        {**MADE, "queue_seconds": None, "scores": [[1.0]], "chosen": [0], "threads": "many"},
    ],
)
def test_fields_that_are_no_result_are_a_message_error(client, job: Job, fields: Any) -> None:
    put(client, job.id, json.dumps({"status": "SUCCESS", "result": fields}))
    with pytest.raises(MessageError, match=r"^mcts\.ucb1_selection: unreadable result"):
        job.result(timeout=5)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "text",
        [],
        {},
        {"exc_type": None, "exc_message": None},
        {"exc_type": "InvalidRequest", "exc_module": "contract.errors", "exc_message": 7},
        {"exc_type": "SystemExit", "exc_module": "builtins", "exc_message": [1]},
        {"exc_type": ["x"], "exc_module": {}, "exc_message": {"a": 1}},
    ],
)
def test_any_stored_failure_is_an_error_of_ours(client: Client, job: Job, stored: Any) -> None:
    put(client, job.id, json.dumps({"status": "FAILURE", "result": stored}))
    with pytest.raises(errors.GristmillError):
        job.result(timeout=5)
