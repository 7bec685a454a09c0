"""Celery's request, mended: bodies of lost jobs, memory errors, and jobs that kill their worker."""

import json
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from kombu.message import Message

from contract import codec
from contract.errors import ComputeError, GristmillError, InternalError, InvalidRequest
from contract.results import error_from_meta, read_meta
from workers.intake import NOT_DECODED
from workers.request import MAX_DELIVERIES, Request
from workers.task import OperationTask

FIELDS = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
EMBED: dict[str, Any] = {"callbacks": None, "errbacks": [], "chain": None, "chord": None}


class Job:
    """One delivery of a job to the worker's parent."""

    def __init__(
        self, task: OperationTask, body: bytes | str | None = None, **changes: Any
    ) -> None:
        headers = {"task": task.name, "id": "7", "root_id": "7", "retries": 0}
        options: dict[str, Any] = {
            "body": codec.encode([[], FIELDS, EMBED]) if body is None else body,
            "content_type": codec.CONTENT_TYPE,
            "content_encoding": "binary",
            "accept": {codec.CONTENT_TYPE, "application/json"},
        } | changes
        self.message = Message(headers=headers, channel=Mock(), delivery_tag="tag", **options)
        self.message._decoded_cache = NOT_DECODED  # as the intake leaves it
        self.ack, self.reject = Mock(name="ack"), Mock(name="reject")
        self.task = task
        self.request = Request(
            self.message,
            on_ack=self.ack,
            on_reject=self.reject,
            app=task.app,
            hostname="worker@host",
            eventer=None,
            task=task,
            connection_errors=(OSError,),
            body=self.message.body,
            headers=headers,
            decoded=False,
            utc=True,
        )

    def fail(self, error: BaseException) -> None:
        """Report a failure as the pool does."""
        try:
            raise error
        except BaseException:
            info = ExceptionInfo()
        self.request.on_failure(info)

    @property
    def failure(self) -> GristmillError | None:
        backend = self.task.backend
        meta = read_meta(backend.client.get(backend.get_key_for_task("7")))
        return error_from_meta(meta) if meta["status"] == "FAILURE" else None


# --- Bodies ---


def test_the_parent_reads_a_body_where_it_must(task: OperationTask) -> None:
    args, kwargs, embed = Job(task).request._payload
    assert (args, kwargs) == ([], FIELDS)
    assert embed == EMBED
    assert Job(task).request._context.errbacks == []


def test_a_json_body_is_read_too(task: OperationTask) -> None:
    body = json.dumps([[1], {"a": 2}, EMBED])
    job = Job(task, body, content_type="application/json", content_encoding="utf-8")
    assert job.request._payload == ([1], {"a": 2}, EMBED)


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"",
        codec.encode(7),
        codec.encode([]),
        codec.encode([[], {}]),
        codec.encode([7, {}, {}]),
        codec.encode([[], 7, {}]),
        codec.encode([[], {}, 7]),
        codec.encode([[], {}, [1]]),
        codec.encode({"a": 1, "b": 2, "c": 3}),
    ],
    ids=repr,
)
def test_a_body_that_is_none_reads_as_empty(task: OperationTask, body: bytes) -> None:
    request = Job(task, body).request
    assert request._payload == NOT_DECODED
    assert request._context.id == "7"


def test_a_body_of_the_first_protocol_was_read_before(task: OperationTask) -> None:
    body: Any = ([], FIELDS, EMBED)
    message = Message(body=b"", headers={}, channel=Mock(), delivery_tag="tag")
    headers = {"task": task.name, "id": "7"}
    request = Request(
        message, body=body, headers=headers, decoded=True, app=task.app, task=task, on_ack=Mock()
    )
    assert request._payload is body


# --- Memory ---


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), type("ArrayMemoryError", (MemoryError,), {})("no room")]
)
def test_a_memory_error_is_a_failed_job_and_stays_one(task: OperationTask, error) -> None:
    job = Job(task)
    job.fail(error)  # Celery would raise it again, and the worker's parent would end
    assert type(job.failure) is ComputeError
    assert str(job.failure) == "mcts.ucb1_selection: out of memory (no room)"
    assert job.ack.called
    assert not job.reject.called


def test_any_other_failure_is_celerys_affair(task: OperationTask) -> None:
    job = Job(task)
    job.fail(InvalidRequest("values: it is so, expected otherwise"))
    assert type(job.failure) is InvalidRequest
    assert job.ack.called


# --- Jobs that kill ---

LOST = WorkerLostError("Worker exited prematurely: signal 11 (SIGSEGV)")


@pytest.mark.parametrize("error", [LOST, SystemExit(1)])
def test_a_job_whose_worker_died_runs_again_until_it_is_given_up(task, error) -> None:
    for delivery in range(1, MAX_DELIVERIES):
        job = Job(task)
        job.fail(error)
        assert job.failure is None, delivery
        assert not job.ack.called
        assert job.reject.call_args.args[-1] is True  # back into the queue
    job = Job(task)
    job.fail(error)
    assert type(job.failure) is InternalError
    assert f"died {MAX_DELIVERIES} times" in str(job.failure)
    assert job.ack.called
    assert not job.reject.called


def test_losses_are_counted_by_job_and_forgotten_in_time(app: Celery, task) -> None:
    Job(task).fail(LOST)
    client = app.backend.client
    key = f"{app.conf.result_backend_transport_options['global_keyprefix']}gristmill:losses:7"
    assert client.get(key) == b"1"
    assert 0 < client.ttl(key) <= 24 * 3600


def test_a_loss_that_cannot_be_counted_gives_nothing_up(task, monkeypatch, caplog) -> None:
    request = Job(task).request
    monkeypatch.setattr(task.backend, "client", None)
    assert request._is_given_up() is False
    assert "could not be counted" in caplog.text
