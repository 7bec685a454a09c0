"""Our transport: entries of a queue that are no messages, addresses, and what monitors see."""

import base64
import contextlib
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer
from kombu.transport.redis import Transport as StockTransport

from contract import transport
from contract.dead_letters import DeadLetter, DeadLetters
from contract.deployment import Deployment
from contract.transport import Amqp, Channel, Connection, Transport
from gristmill.server import EmbeddedServer

QUEUE = "entries"


def entry(**changes: Any) -> dict[str, Any]:
    """Return a queue's entry as kombu writes it, changed as told."""
    message: dict[str, Any] = {
        "body": base64.b64encode(b'"body"').decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "mcts.ucb1_selection", "id": "7"},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
        },
    }
    properties = {**message["properties"], **changes.pop("properties", {})}
    return {**message, "properties": properties, **changes}


class Reader:
    """A consumer that reads a queue as a worker's does."""

    def __init__(self, server: EmbeddedServer, prefix: str) -> None:
        self.deployment = deployment = Deployment(url=server.url, prefix=prefix)
        options = {**deployment.transport_options, "brpop_timeout": 1}
        self.connection = Connection(deployment.broker_url, transport_options=options)
        self.read: list[Any] = []
        self.handle: Callable[[Any], None] = self.read.append
        self.raw = redis.Redis.from_url(server.url)
        self.key = f"{deployment.prefix}{QUEUE}"
        queue = Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)
        self.channel = self.connection.channel()
        self.consumer = Consumer(self.channel, [queue], on_message=self._take, accept=["json"])
        self.consumer.consume()

    def _take(self, message: Any) -> None:
        message.ack()
        self.handle(message)

    def drain(self) -> None:
        """Read until the entry after the others has come."""
        self.raw.lpush(self.key, json.dumps(entry(headers={"last": True})))
        while not any("last" in message.headers for message in self.read):
            self.connection.drain_events(timeout=5)

    def letters(self) -> list[DeadLetter]:
        return list(DeadLetters(self.raw, self.deployment).list())

    def close(self) -> None:
        self.consumer.cancel()
        self.connection.release()
        self.raw.close()


@pytest.fixture
def reader(server: EmbeddedServer) -> Iterator[Reader]:
    reader = Reader(server, f"reader{uuid.uuid4()}:")
    yield reader
    reader.close()


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


NO_MESSAGES: dict[str, bytes] = {
    "nothing": b"",
    "no json": b"not json",
    "no text": b"\xff\xfe\x00",
    "half a message": text(entry())[:-10],
    "a list": b"[]",
    "a number": b"7",
    "text": b'"text"',
    "null": b"null",
    "an empty map": b"{}",
    "nested without end": b"[" * 200_000,
    "a number without end": b"1" * 5000,
    "a date that is none": b'{"__type__": "datetime", "__value__": "soon"}',
    "a uuid that is none": b'{"__type__": "uuid", "__value__": 3}',
    "a decimal that is none": b'{"__type__": "decimal", "__value__": "x"}',
    "base64 that is none": b'{"__type__": "base64", "__value__": "%"}',
    "an unknown type": b'{"__type__": "os.system", "__value__": "ls"}',
    "a type that is a list": b'{"__type__": [], "__value__": "ls"}',
    "properties that are a number": text(entry() | {"properties": 3}),
    "no properties": text({key: value for key, value in entry().items() if key != "properties"}),
    "no tag": text(
        entry() | {"properties": {"delivery_info": {"exchange": "", "routing_key": "a"}}}
    ),
    "a tag that is null": text(entry(properties={"delivery_tag": None})),
    "a tag that is a list": text(entry(properties={"delivery_tag": ["x"]})),
    "a tag that is a map": text(entry(properties={"delivery_tag": {}})),
    "a tag that is empty": text(entry(properties={"delivery_tag": ""})),
    "no delivery info": text(entry(properties={"delivery_info": None})),
    "no exchange": text(entry(properties={"delivery_info": {"routing_key": "a"}})),
    "no routing key": text(entry(properties={"delivery_info": {"exchange": ""}})),
    "an exchange that is a list": text(
        entry(properties={"delivery_info": {"exchange": [], "routing_key": "a"}})
    ),
    "a routing key that is a map": text(
        entry(properties={"delivery_info": {"exchange": "", "routing_key": {}}})
    ),
    "headers that are a list": text(entry(headers=[])),
    "headers that are null": text(entry(headers=None)),
    "a task without an id": text(entry(headers={"task": "mcts.ucb1_selection"})),
    "a task that is a list": text(entry(headers={"task": ["x"], "id": "7"})),
    "an id that is a map": text(entry(headers={"task": "x", "id": {}})),
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_an_entry_that_is_no_message_becomes_a_dead_letter(reader, caplog, name: str) -> None:
    reader.raw.lpush(reader.key, NO_MESSAGES[name])
    with caplog.at_level(logging.ERROR, "contract.transport"):
        reader.drain()
    assert len(reader.read) == 1
    assert "an entry of queue entries is not a message" in caplog.text
    assert len(caplog.text) < 1000
    (letter,) = reader.letters()
    assert (letter.raw, letter.queue) == (NO_MESSAGES[name], QUEUE)
    assert letter.reason.startswith("not a message: ")


ODD_MESSAGES = {
    "no headers": {key: value for key, value in entry().items() if key != "headers"},
    "not base64": entry(body="%%%"),
    "half of base64": entry(body="abc"),
    "base64 of another alphabet": entry(body="ü"),
    "unknown encoding": entry(properties={"body_encoding": "rot13"}),
    "encoding that is a list": entry(properties={"body_encoding": []}),
    "encoding that is null": entry(properties={"body_encoding": None}),
    "body that is a number": entry(body=7),
    "body that is a list": entry(body=[1]),
    "body that is a map": entry(body={"a": 1}),
    "body that is null": entry(body=None),
    "no body": {key: value for key, value in entry().items() if key != "body"},
    "content type that is a list": entry(**{"content-type": []}),
    "no content type": {key: value for key, value in entry().items() if key != "content-type"},
    "priority that is text": entry(properties={"priority": "high"}),
    "unknown properties": entry(properties={"colour": "blue"}),
}


@pytest.mark.parametrize("name", ODD_MESSAGES)
def test_a_message_with_an_odd_body_is_delivered_to_fail_where_it_is_read(reader, name) -> None:
    reader.raw.lpush(reader.key, text(ODD_MESSAGES[name]))
    reader.drain()
    assert len(reader.read) == 2


def test_a_good_message_is_read_as_ever(reader: Reader) -> None:
    reader.raw.lpush(reader.key, text(entry()))
    reader.drain()
    message, _ = reader.read
    assert message.body == b'"body"'
    assert message.decode() == "body"
    assert message.headers["id"] == "7"


def test_an_error_of_whoever_reads_is_not_taken_for_the_messages(reader: Reader, caplog) -> None:
    def fail(message: Any) -> None:
        raise ValueError("of the reader")

    reader.handle = fail
    reader.raw.lpush(reader.key, text(entry()))
    with pytest.raises(ValueError, match="of the reader"):
        reader.drain()
    assert "not a message" not in caplog.text


def test_a_queue_of_another_type_is_told_and_left_alone(reader: Reader, caplog) -> None:
    reader.raw.set(reader.key, "no list")
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=1.5)
    assert "WRONGTYPE" in caplog.text
    assert "not a message" not in caplog.text
    reader.raw.delete(reader.key)
    reader.drain()


def test_what_a_lost_connection_held_comes_again_once_the_broker_is_back() -> None:
    with EmbeddedServer(append_only=True) as server:
        first = Reader(server, "lost:")
        held: list[Any] = []
        first.consumer.on_message = held.append
        first.raw.lpush(first.key, text(entry()))
        while not held:
            first.connection.drain_events(timeout=5)
        server.kill()
        # As Celery's consumer does when its connection breaks.
        for close in (first.connection.collect, first.connection.close):
            with contextlib.suppress(redis.ConnectionError):
                close()
        server.start()
        second = Reader(server, "lost:")
        second.drain()
        assert [message.headers["id"] for message in second.read[:1]] == ["7"]
        held[0].ack()  # of no more use, and no harm
        second.close()
        first.raw.close()


@pytest.mark.parametrize("url", ["redis://h/1", "rediss://h/1", "unix:///run/r.sock"])
def test_our_transport_is_the_one_that_is_used(url: str) -> None:
    deployment = Deployment(url=url)
    app = Celery(amqp=Amqp, set_as_current=False, broker=deployment.broker_url)
    connection = app.connection_for_write()
    assert type(connection) is Connection
    assert type(connection.transport) is Transport
    assert connection.transport.Channel is Channel
    assert issubclass(Transport, StockTransport)
    again = connection.clone()  # as pools and failover make them
    assert type(again.transport) is Transport


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:7/1", "redis://:**@h:7/1"),
        ("rediss://:pw@h:7/1", "rediss://:**@h:7/1"),
        ("unix://:pw@/run/r.sock?db=1", "redis+socket://:**@/run/r.sock"),
    ],
)
def test_monitors_see_the_redis_that_it_is(url: str, shown: str) -> None:
    assert Connection(Deployment(url=url).broker_url).as_uri() == shown


def test_queues_say_what_flower_reads() -> None:
    queue = transport.queue("mcts")
    assert (queue.name, queue.exchange.name, queue.routing_key) == ("mcts", "mcts", "mcts")
