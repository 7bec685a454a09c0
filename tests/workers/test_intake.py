"""The intake: a message that is no job fails by itself; a good one goes on unread."""

import base64
import gzip
import json
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgpack
import pytest
from celery import Celery
from celery.exceptions import NotRegistered
from kombu.message import Message

from contract import codec, transport
from contract.envelope import HEADER, Envelope
from contract.errors import MessageError
from contract.results import error_from_meta, read_meta
from workers import intake
from workers.burial import deployment_of
from workers.task import OperationTask

FIELDS = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
BODY = codec.encode([[], FIELDS, {}])


class Gone(Exception):
    """The connection of a consumer that lost it."""


class Consumer(SimpleNamespace):
    """As much of Celery's consumer as a strategy touches."""

    def __init__(self) -> None:
        self.accepted: list[Any] = []
        super().__init__(
            hostname="worker@host",
            connection_errors=(Gone,),
            event_dispatcher=None,
            timer=Mock(),
            apply_eta_task=Mock(),
            disable_rate_limits=True,
            task_buckets={},
            pool=Mock(),
            qos=Mock(),
            on_task_request=self.accepted.append,
            _limit_task=Mock(),
            _limit_post_eta=Mock(),
            controller=SimpleNamespace(state=SimpleNamespace(revoked=set())),
        )


def first_protocol(body: Any) -> Message:
    return Message(
        body=json.dumps(body),
        headers={},
        content_type="application/json",
        content_encoding="utf-8",
        channel=Mock(no_ack_consumers=None),
        delivery_tag="tag",
        accept={"application/json"},
    )


class Intake:
    """The intake of one task, and what became of the messages that it took."""

    def __init__(self, app: Celery, task: OperationTask) -> None:
        self.task, self.consumer = task, Consumer()
        self.ack, self.reject = Mock(name="ack"), Mock(name="reject")
        self.handle = intake.strategy(task, app, self.consumer)

    def take(self, body: Any = BODY, **changes: Any) -> Message:
        headers = {"task": self.task.name, "id": "7", "lang": "py", "root_id": "7"}
        headers |= changes.pop("headers", {})
        options = {"content_type": codec.CONTENT_TYPE, "content_encoding": "binary"} | changes
        message = Message(
            body=body, headers=headers, channel=Mock(), delivery_tag="tag", accept=set(), **options
        )
        self.handle(message, None, self.ack, self.reject, [])
        return message

    @property
    def failure(self) -> Any:
        """The error that the caller of job 7 gets, None while there is none."""
        backend = self.task.backend
        meta = read_meta(backend.client.get(backend.get_key_for_task("7")))
        return error_from_meta(meta) if meta["status"] == "FAILURE" else None


@pytest.fixture
def intake_of_task(app: Celery, task: OperationTask) -> Intake:
    return Intake(app, task)


def test_a_good_message_goes_on_and_nobody_reads_its_body(intake_of_task: Intake) -> None:
    intake_of_task.take()
    (request,) = intake_of_task.consumer.accepted
    assert (request.id, request.name) == ("7", "mcts.ucb1_selection")
    # What the pool gets is the body as it came; `accept=set()` would have refused to decode it.
    assert request.body == BODY
    assert request._decoded is False
    assert not intake_of_task.ack.called
    assert intake_of_task.failure is None


@pytest.mark.parametrize("body", [b"\xc1", b"", BODY[:-1], b"[", b"\x91" * 1000])
def test_a_body_that_is_none_is_left_to_the_child(intake_of_task: Intake, body: bytes) -> None:
    intake_of_task.take(body)
    assert len(intake_of_task.consumer.accepted) == 1


def test_json_of_any_client_goes_on(intake_of_task: Intake) -> None:
    body = json.dumps([[], FIELDS, {}])
    intake_of_task.take(body, content_type="application/json", content_encoding="utf-8")
    (request,) = intake_of_task.consumer.accepted
    assert request.body == body


BAD: dict[str, dict[str, Any]] = {
    "pickle": {"content_type": "application/x-python-serialize"},
    "yaml": {"content_type": "application/x-yaml"},
    "msgpack of kombu": {"content_type": "application/x-msgpack"},
    "no content type": {"content_type": None},
    "a list for a content type": {"content_type": []},
    "a content type without end": {"content_type": "x" * 10_000},
    "a body that is a number": {"body": 5},
    "a body that is null": {"body": None},
    "a body that is a map": {"body": {"a": 1}},
    "a body that is a list": {"body": [1]},
    "a time that is none": {"headers": {"eta": "soon"}},
    "an end that is none": {"headers": {"expires": "soon"}},
}
name: str
limits: Any
_WRONG_TEXTS: tuple[Any, ...] = (7, [], {"a": 1}, True)
_WRONG_NUMBERS: tuple[Any, ...] = ("7", 1.5, [], {})
for name in ("eta", "expires", "root_id", "parent_id", "group", "reply_to", "argsrepr", "shadow"):
    BAD |= {f"{name} {value}": {"headers": {name: value}} for value in _WRONG_TEXTS}
for name in ("retries", "group_index", "replaced_task_nesting"):
    BAD |= {f"{name} {value}": {"headers": {name: value}} for value in _WRONG_NUMBERS}
for limits in (7, "fast", [1], [1, 2, 3], [1, "2"], ["1", None], {"a": 1, "b": 2}, [[], []]):
    BAD[f"time limits {limits}"] = {"headers": {"timelimit": limits}}
BAD["stamps"] = {"headers": {"stamps": 7}}
BAD["stamped headers"] = {"headers": {"stamped_headers": 7}}
BAD["ignore result"] = {"headers": {"ignore_result": "yes"}}


@pytest.mark.parametrize("name", BAD)
def test_a_message_that_is_no_job_fails_by_itself(intake_of_task: Intake, name: str) -> None:
    intake_of_task.take(**BAD[name])
    assert intake_of_task.consumer.accepted == []
    assert type(intake_of_task.failure) is MessageError
    assert ", expected " in str(intake_of_task.failure)
    assert len(str(intake_of_task.failure)) < 300
    assert intake_of_task.ack.call_count == 1
    assert not intake_of_task.reject.called


GOOD: dict[str, Any] = {
    "eta": None,
    "expires": None,
    "retries": 0,
    "timelimit": [None, None],
    "root_id": "7",
    "argsrepr": "()",
    "ignore_result": False,
    "stamps": {},
    "stamped_headers": [],
    "colour": ["a header", "of somebody's own"],
}


@pytest.mark.parametrize("name", GOOD)
def test_the_headers_of_stock_clients_pass(intake_of_task: Intake, name: str) -> None:
    intake_of_task.take(headers={name: GOOD[name]})
    assert len(intake_of_task.consumer.accepted) == 1


@pytest.mark.parametrize("limits", [[10, 5], [10.5, None], [None, 3], (), []])
def test_time_limits_are_two_numbers_or_none(intake_of_task: Intake, limits: Any) -> None:
    intake_of_task.take(headers={"timelimit": limits})
    assert len(intake_of_task.consumer.accepted) == 1


def test_a_job_that_is_refused_unread_gives_its_idempotency_key_back(
    intake_of_task: Intake,
) -> None:
    envelope = Envelope(idempotency_key="order 7", idempotency_seconds=60)
    client: Any = intake_of_task.task.backend.client
    key = deployment_of(intake_of_task.task.app).once_key(intake_of_task.task.name, "order 7")
    client.set(key, "7 digest", ex=2_592_000)
    intake_of_task.take(content_type="x/nonsense", headers={HEADER: envelope.to_header()})
    assert type(intake_of_task.failure) is MessageError
    assert 0 < client.ttl(key) <= 60


ERRBACK = {"task": "else.where", "args": [], "kwargs": {}, "options": {"queue": "errors"}}


def test_a_job_that_is_refused_calls_its_errbacks(intake_of_task: Intake) -> None:
    app = intake_of_task.task.app
    body = json.dumps([[], FIELDS, {"errbacks": [ERRBACK]}])
    how = {"content_type": "application/json", "content_encoding": "utf-8"}
    intake_of_task.take(body, headers={"eta": "soon"}, **how)
    client: Any = app.backend.client
    (entry,) = client.lrange(deployment_of(app).queue_key("errors"), 0, -1)
    assert json.loads(entry)["headers"]["task"] == "else.where"
    assert client.xlen(deployment_of(app).dead_key) == 1


def test_a_job_whose_errbacks_cannot_be_called_is_a_dead_letter(
    intake_of_task: Intake, monkeypatch
) -> None:
    app = intake_of_task.task.app
    unable = Mock(side_effect=TypeError("no errback"))
    monkeypatch.setattr(app.backend, "_call_task_errbacks", unable)
    body = json.dumps([[], FIELDS, {"errbacks": [ERRBACK]}])
    how = {"content_type": "application/json", "content_encoding": "utf-8"}
    intake_of_task.take(body, headers={"eta": "soon"}, **how)
    assert unable.called
    assert type(intake_of_task.failure) is MessageError
    client: Any = app.backend.client
    assert client.xlen(deployment_of(app).dead_key) == 1
    assert intake_of_task.ack.called


def test_a_compressed_job_is_refused_before_anything_is_unpacked(intake_of_task: Intake) -> None:
    bomb = gzip.compress(b"0" * 2**26)
    assert len(bomb) < 2**17
    entry = {
        "body": base64.b64encode(bomb).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "mcts.ucb1_selection", "id": "7", "compression": "application/x-gzip"},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "mcts"},
            "body_encoding": "base64",
        },
    }
    channel = Mock(decode_body=lambda body, encoding: base64.b64decode(body))
    message = transport.Message(entry, channel)
    assert message.body == bomb
    intake_of_task.handle(message, None, intake_of_task.ack, intake_of_task.reject, [])
    expected = "compression: 'application/x-gzip', expected none"
    assert str(intake_of_task.failure) == expected


def test_a_message_that_is_too_large_is_not_handed_on(intake_of_task: Intake, monkeypatch) -> None:
    monkeypatch.setattr(codec, "INLINE", codec.CONTROL)
    intake_of_task.take(b"x" * (codec.CONTROL.max_bytes + 1))
    assert intake_of_task.consumer.accepted == []
    expected = f"message: {codec.CONTROL.max_bytes + 1} bytes, expected at most"
    assert str(intake_of_task.failure).startswith(expected)


def test_a_lost_connection_is_not_taken_for_the_messages_fault(app, task) -> None:
    taken = Intake(app, task)
    taken.consumer.on_task_request = Mock(side_effect=Gone)
    taken.handle = intake.strategy(task, app, taken.consumer)
    with pytest.raises(Gone):
        taken.take()
    assert taken.failure is None
    assert not taken.ack.called


def test_a_message_of_celerys_first_protocol_is_read(app: Celery, task: OperationTask) -> None:
    taken = Intake(app, task)
    body = {"task": task.name, "id": "7", "args": [], "kwargs": FIELDS}
    taken.handle(first_protocol(body), body, taken.ack, taken.reject, [])
    (request,) = taken.consumer.accepted
    assert request.id == "7"


@pytest.mark.parametrize("kwargs", [None, 7, [], "text"])
def test_a_bad_message_of_the_first_protocol_tells_its_caller_too(app, task, kwargs: Any) -> None:
    taken = Intake(app, task)
    body = {"task": task.name, "id": "7", "args": [], "kwargs": kwargs}
    taken.handle(first_protocol(body), body, taken.ack, taken.reject, [])
    assert taken.consumer.accepted == []
    assert type(taken.failure) is MessageError
    assert taken.ack.call_count == 1


def test_a_message_of_the_first_protocol_without_an_id_is_not_run(app, task) -> None:
    taken = Intake(app, task)
    for job_id in ({}, {"id": None}, {"id": [7]}, {"id": ""}):
        body = {"task": task.name, "args": [], "kwargs": FIELDS, **job_id}
        taken.handle(first_protocol(body), body, taken.ack, taken.reject, [])
    assert taken.consumer.accepted == []
    assert taken.ack.call_count == 4


# --- The consumer around it ---


class Handler:
    """Our consumer's handler of messages, without the connection that a consumer needs."""

    def __init__(self, app: Celery, task: OperationTask) -> None:
        self.consumer = intake.Consumer.__new__(intake.Consumer)
        self.consumer.app, self.consumer.connection_errors = app, (Gone,)
        self.consumer.on_task_message, self.consumer.call_soon_ack = [], Mock()
        self.consumer.restart_count, self.consumer._maximum_prefetch_restored = 0, True
        self.task_handler = Mock()
        self.consumer.strategies = {task.name: self.task_handler}
        self.backend = app.backend
        self.take = self.consumer.create_task_handler()

    def failure_of(self, job_id: str) -> Any:
        meta = read_meta(self.backend.client.get(self.backend.get_key_for_task(job_id)))
        return error_from_meta(meta) if meta["status"] == "FAILURE" else None


@pytest.mark.parametrize("name", [["x"], {"x": 1}])
def test_a_task_that_is_no_text_ends_no_worker(app, task, name: Any) -> None:
    handler = Handler(app, task)
    message = first_protocol({"task": name, "id": "8", "args": [], "kwargs": {}})
    handler.take(message)
    assert message.acknowledged
    assert type(handler.failure_of("8")) is MessageError


def test_a_task_that_is_no_text_of_a_job_without_an_id_ends_no_worker(app, task) -> None:
    message = first_protocol({"task": ["x"], "id": ["y"]})
    Handler(app, task).take(message)
    assert message.acknowledged


def test_the_consumer_hands_a_task_its_message(app: Celery, task: OperationTask) -> None:
    handler = Handler(app, task)
    message = Message(body=BODY, headers={"task": task.name, "id": "7"}, channel=Mock())
    handler.take(message)
    assert handler.task_handler.call_args.args[0] is message


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "NotRegistered: mcts.guess"),
        ({HEADER: {}}, "NotRegistered: mcts.guess, expected one of mcts.ucb1_selection"),
    ],
)
def test_an_unknown_task_is_a_failure_and_one_line(
    app: Celery, task: OperationTask, headers: dict[str, Any], told: str, caplog
) -> None:
    handler = Handler(app, task)
    handler.consumer.event_dispatcher = Mock()
    about = {"task": "mcts.guess", "id": "11", **headers}
    handler.take(Message(body=BODY, headers=about, channel=Mock(), delivery_tag="tag"))
    assert str(handler.failure_of("11")) == told
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.message == (
        "job 11 of mcts.guess refused: unknown task, expected one of mcts.ucb1_selection"
    )
    stored = app.AsyncResult("11").result
    assert isinstance(stored, NotRegistered)
    assert headers or stored.args == ("mcts.guess",)
    assert handler.consumer.event_dispatcher.send.call_args.kwargs["uuid"] == "11"


def test_a_lost_connection_leaves_the_consumer(app: Celery, task: OperationTask) -> None:
    handler = Handler(app, task)
    handler.task_handler.side_effect = Gone
    with pytest.raises(Gone):
        handler.take(Message(body=BODY, headers={"task": task.name, "id": "7"}, channel=Mock()))


def test_the_workers_use_this_consumer() -> None:
    import celeryconfig

    assert celeryconfig.worker_consumer == "workers.intake:Consumer"


def test_a_job_for_later_waits(app: Celery, task: OperationTask) -> None:
    taken = Intake(app, task)
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 100))
    taken.take(headers={"eta": at})
    assert taken.consumer.accepted == []
    assert taken.consumer.timer.call_at.called
    assert taken.failure is None


def test_an_envelope_is_not_looked_at_here(intake_of_task: Intake) -> None:
    intake_of_task.take(msgpack.packb(7), headers={HEADER: "nonsense"})
    assert len(intake_of_task.consumer.accepted) == 1
