"""Celery's request, mended: bodies of lost jobs, memory errors, and jobs that kill their worker."""

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.exceptions import Reject
from celery.worker import state
from kombu.message import Message

from contract import codec
from contract.dead_letters import DeadLetters
from contract.envelope import DELIVERY, Delivery
from contract.errors import (
    ComputeError,
    GristmillError,
    InternalError,
    InvalidRequest,
    MessageError,
)
from contract.results import error_from_meta, read_meta
from contract.transport import Message as OurMessage
from workers.burial import MAX_LOST, deployment_of
from workers.reading import NOT_DECODED, NotRun
from workers.request import HandedBack, Request
from workers.task import OperationTask

FIELDS = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
EMBED: dict[str, Any] = {"callbacks": None, "errbacks": [], "chain": None, "chord": None}


class Job:
    """One delivery of a job to the worker's parent."""

    def __init__(
        self, task: OperationTask, body: bytes | str | None = None, **changes: Any
    ) -> None:
        headers = {"task": task.name, "id": "7", "root_id": "7", "retries": 0}
        headers |= changes.pop("headers", {})
        options: dict[str, Any] = {
            "body": codec.encode([[], FIELDS, EMBED]) if body is None else body,
            "content_type": codec.CONTENT_TYPE,
            "content_encoding": "binary",
            "accept": {codec.CONTENT_TYPE, "application/json"},
        } | changes
        route = {"exchange": "", "routing_key": "mcts"}
        self.message = Message(
            headers=headers,
            channel=Mock(),
            delivery_tag="tag",
            delivery_info=route,
            **options,
        )
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


@pytest.fixture
def letters(app: Celery) -> DeadLetters:
    return DeadLetters(app.backend.client, deployment_of(app))


@pytest.fixture
def inbox(app: Celery) -> str:
    """Name the inbox of the worker that holds what `deliver` makes."""
    return deployment_of(app).inbox_key("w")


@pytest.fixture
def deliver(app: Celery, task: OperationTask, inbox: str) -> Callable[..., Job]:
    """Return what makes a job whose entry is in a worker's inbox."""

    def make(lost: int) -> Job:
        app.backend.client.hset(inbox, "1 mcts", b"the entry")
        delivery = Delivery(inbox=inbox, tag="1 mcts", lost=lost)
        return Job(task, headers={DELIVERY: delivery.to_header()})

    return make


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


# --- What could not begin ---


def test_a_body_that_could_not_be_read_is_a_failure_and_a_dead_letter(task, letters) -> None:
    job = Job(task, b"\xc1")
    job.fail(NotRun(MessageError("message: it is so, expected otherwise")))
    assert type(job.failure) is MessageError
    assert job.ack.called
    (letter,) = letters.list()
    assert letter.reason == "message: it is so, expected otherwise"
    assert (letter.job, letter.task, letter.queue) == ("7", task.name, "mcts")


def test_a_version_that_no_worker_knows_is_a_dead_letter(task, letters, app: Celery) -> None:
    job = Job(task)
    try:
        raise MessageError("version: 2, expected 1 to 1")  # as the child has stored it already
    except MessageError:
        job.request.on_failure(ExceptionInfo(), return_ok=True)
    assert job.failure is None
    assert job.ack.called
    assert [letter.reason for letter in letters.list()] == ["version: 2, expected 1 to 1"]


def test_an_answer_to_the_caller_is_no_dead_letter(task, letters) -> None:
    Job(task).fail(InvalidRequest("values: it is so, expected otherwise"))
    assert letters.size() == 0


def test_what_a_users_task_rejects_is_a_dead_letter(task, letters) -> None:
    job = Job(task)
    job.fail(Reject("not mine", requeue=False))
    assert job.reject.called
    assert letters.size() == 1


# --- The end first, then the acknowledgement ---


def test_a_failure_is_stored_before_its_message_is_acknowledged(task, monkeypatch) -> None:
    job = Job(task)
    job.ack.side_effect = lambda *_: done.append(type(job.failure))
    done: list[Any] = []
    job.fail(NotRun(MessageError("message: it is so, expected otherwise")))
    assert done == [MessageError]


def test_a_failure_that_cannot_be_stored_yet_leaves_its_message_in_the_queue(
    task, monkeypatch, letters
) -> None:
    job = Job(task)
    away = Mock(side_effect=redis.ConnectionError("away"))
    monkeypatch.setattr(task.backend, "mark_as_failure", away)
    job.fail(NotRun(MessageError("message: it is so, expected otherwise")))
    assert not job.ack.called
    assert job.reject.call_args.args[-1] is True
    assert letters.size() == 0


def test_errbacks_that_cannot_be_called_make_no_loop(task, monkeypatch, letters) -> None:
    job = Job(task)
    broken = Mock(side_effect=TypeError("no signature"))
    monkeypatch.setattr(task.backend, "mark_as_failure", broken)
    job.fail(NotRun(MessageError("message: it is so, expected otherwise")))
    assert job.ack.called
    assert not job.reject.called
    assert letters.size() == 1


# --- Jobs that kill ---

LOST = WorkerLostError("Worker exited prematurely: signal 11 (SIGSEGV) Job: 3.")


@pytest.mark.parametrize(
    ("error", "how"), [(LOST, "signal 11 (SIGSEGV)"), (SystemExit(1), "SystemExit(1)")]
)
def test_a_job_whose_processes_died_is_given_up_with_a_dead_letter(
    task, letters, error, how
) -> None:
    for loss in range(1, MAX_LOST):
        job = Job(task)
        job.fail(error)
        assert job.failure is None, loss
        assert not job.ack.called
        assert job.reject.call_args.args[-1] is True  # back into the queue
        assert letters.size() == 0
    job = Job(task)
    job.fail(error)
    said = f"mcts.ucb1_selection: given up, its process died 2 times, the last one of {how}, "
    assert type(job.failure) is InternalError
    assert str(job.failure) == f"{said}expected it to end"
    assert job.ack.called
    assert not job.reject.called
    (letter,) = letters.list()
    assert letter.reason == str(job.failure)


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


def test_our_transport_counts_a_loss_as_it_puts_the_message_back(task, deliver) -> None:
    job = deliver(lost=0)
    job.fail(LOST)
    assert job.message.channel.requeue_lost.call_args.args == ("1 mcts",)
    assert job.reject.call_args.args[-1] is True  # which finds nothing left to put back
    assert job.failure is None


def test_a_task_that_asks_to_run_later_lets_others_run_before(task, deliver) -> None:
    job = deliver(lost=0)
    job.fail(Reject("not yet", requeue=True))
    assert job.message.channel.requeue_behind.call_args.args == ("1 mcts",)
    assert job.reject.call_args.args[-1] is True  # which finds nothing left to put back
    assert job.failure is None


def test_a_job_that_a_stopping_worker_hands_back_stays_in_front(task, deliver, monkeypatch) -> None:
    monkeypatch.setattr(state, "should_stop", 0)
    job = deliver(lost=0)
    job.fail(Reject("its end is not stored", requeue=True))
    assert not job.message.channel.requeue_behind.called
    assert job.reject.call_args.args[-1] is True


def test_a_second_loss_ends_the_job_and_empties_the_inbox(task, deliver, inbox, letters) -> None:
    job = deliver(lost=MAX_LOST - 1)
    job.fail(LOST)
    assert type(job.failure) is InternalError
    assert not job.message.channel.requeue_lost.called
    assert job.ack.called
    (letter,) = letters.list()
    assert (letter.raw, letter.queue) == (b"the entry", "mcts")
    assert not task.backend.client.exists(inbox)


def test_a_worker_that_has_lost_its_lease_ends_no_job(task, deliver, inbox, letters) -> None:
    job = deliver(lost=MAX_LOST - 1)
    task.backend.client.delete(inbox)
    job.fail(LOST)
    assert job.failure is None
    assert letters.size() == 0


def test_a_job_that_had_succeeded_before_its_process_died_is_no_dead_letter(
    task, deliver, letters
) -> None:
    job = deliver(lost=MAX_LOST - 1)
    task.backend.mark_as_done("7", 1)
    job.fail(LOST)
    assert task.backend.get_state("7") == "SUCCESS"
    assert job.ack.called
    assert letters.size() == 0


def test_a_task_that_wants_no_second_run_gets_none(task, monkeypatch, letters) -> None:
    monkeypatch.setattr(task, "reject_on_worker_lost", False)
    job = Job(task)
    job.fail(LOST)
    assert type(job.failure) is InternalError  # Celery's own failure, at once
    assert not job.reject.called
    assert letters.size() == 0


def test_a_chord_learns_of_a_job_whose_process_died_right_after_its_success(
    task: OperationTask, monkeypatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "celery.backends.redis.RedisBackend.on_chord_part_return",
        lambda self, request, state, result, **_: told.append(f"{request.id} {state}"),
    )
    chord = {**EMBED, "chord": {"task": "user.sum"}}
    job = Job(task, codec.encode([[], FIELDS, chord]), headers={"group": "g"})
    task.backend.store_result("7", {"mean": 1.0}, "SUCCESS")
    job.fail(WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 0."))
    assert told == ["7 SUCCESS"]
    job.ack.assert_called_once()
    job.reject.assert_not_called()


def accept(job: Job, message: OurMessage) -> None:
    """Let the job of a message be about to begin, as a pool tells it."""
    job.request._message = message
    job.request.on_accepted(1, 0.0)


def test_a_job_begins_or_goes_back_whichever_comes_first(task) -> None:
    properties = {"delivery_tag": "1 mcts", "delivery_info": {}}
    begun, gone = (OurMessage({"properties": properties, "headers": {}}) for _ in range(2))
    accept(Job(task), begun)
    assert begun.has_begun
    assert not begun.hand_back()
    assert gone.hand_back()
    with pytest.raises(HandedBack, match="went back"):
        accept(Job(task), gone)
    assert not gone.has_begun
    assert gone.hand_back()
