"""Entries of a queue that are no messages, and messages of which little is right."""

import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from contract.deployment import Deployment
from gristmill.server import EmbeddedServer
from tests.contract.transport.reading import QUEUE, Reader, entry


@pytest.fixture
def reader(server: EmbeddedServer) -> Iterator[Reader]:
    reader = Reader(Deployment(url=server.url, prefix=f"reader{uuid.uuid4()}:"))
    yield reader
    reader.close()


def drain(reader: Reader) -> None:
    """Read until the entry after the others has come."""
    reader.raw.lpush(reader.key, json.dumps(entry(headers={"last": True})))
    reader.drain(lambda: any("last" in message.headers for message in reader.read))


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
        drain(reader)
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
    drain(reader)
    assert len(reader.read) == 2


def test_a_good_message_is_read_as_ever(reader: Reader) -> None:
    reader.raw.lpush(reader.key, text(entry()))
    drain(reader)
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
        drain(reader)
    assert "not a message" not in caplog.text


def test_a_queue_of_another_type_is_told_and_left_alone(reader: Reader, caplog) -> None:
    reader.raw.set(reader.key, "no list")
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=1.5)
    assert "WRONGTYPE" in caplog.text
    assert "not a message" not in caplog.text
    reader.raw.delete(reader.key)
    drain(reader)
