"""Messages that no worker can run: a failed result, a dead letter, and a worker that goes on."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from contract import codec
from contract.dead_letters import DeadLetter, DeadLetters
from contract.deployment import Deployment
from contract.envelope import HEADER
from contract.errors import GristmillError, InvalidRequest, MessageError
from producers import Client, mcts
from tests.integration.worker import Worker, push, wait_until

pytestmark = pytest.mark.integration

GOOD: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
BODY = codec.encode([[], GOOD, {}])


def entry(job_id: str, body: bytes, /, **changes: Any) -> str:
    """Return a queue entry as kombu writes it, with our content type, changed as told."""
    changed = dict(changes)
    headers = {"task": "mcts.ucb1_selection", "id": job_id, "lang": "py", "argsrepr": "()"}
    headers.update(changed.pop("headers", {}))
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": codec.CONTENT_TYPE,
        "content-encoding": "binary",
        "headers": headers,
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "mcts"},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
        },
    }
    return json.dumps({**message, **changed})


POOLS = {
    "prefork": ("--concurrency=2",),
    "threads": ("--pool=threads", "--concurrency=2"),
    "solo": ("--pool=solo",),
}


@pytest.fixture(scope="module", params=POOLS)
def bad_worker(server, tmp_path_factory, request) -> Iterator[Worker]:
    """Start a worker of each pool: a child, a thread, or the worker itself reads the bodies."""
    log = tmp_path_factory.mktemp("worker") / "log"
    with Worker(server.url, log, *POOLS[request.param], prefix=f"bad-{request.param}:") as worker:
        yield worker


@pytest.fixture
def client(bad_worker: Worker) -> Iterator[Client]:
    with Client(bad_worker.url, prefix=bad_worker.prefix, timeout=30) as client:
        yield client


@pytest.fixture
def letters(raw: redis.Redis, bad_worker: Worker) -> DeadLetters:
    letters = DeadLetters(raw, Deployment(prefix=bad_worker.prefix))
    letters.purge()
    return letters


def outcome(client: Client, raw, text: str | bytes, job_id: str) -> Exception | None:
    push(raw, text, f"{client.deployment.prefix}mcts")
    try:
        client.job("mcts.ucb1_selection", job_id).result(timeout=15)
    except GristmillError as error:
        return error
    return None


def assert_still_serves(worker: Worker, raw: redis.Redis) -> None:
    """Look whether the worker goes on, and holds nothing any more."""
    assert worker.alive()
    assert mcts.ucb1_selection(**GOOD).chosen.tolist() == [0]
    inboxes = f"{worker.prefix}gristmill:inbox:*"
    wait_until(lambda: not any(map(raw.hlen, raw.scan_iter(inboxes))), 10)


def only_letter(letters: DeadLetters) -> DeadLetter:
    wait_until(lambda: letters.size() > 0, 10, lambda: "a dead letter")
    (letter,) = letters.list()
    return letter


BAD_BODIES = {
    "truncated": (BODY[:-3], MessageError),
    "empty": (b"", MessageError),
    "no_msgpack": (b"\xc1", MessageError),
    "trailing_bytes": (BODY + b"x", MessageError),
    "duplicate_keys": (b"\x93\x90\x82\xa1a\x01\xa1a\x02\x80", MessageError),
    "deeply_nested": (b"\x91" * 400 + b"\x90", MessageError),
    "unknown_extension": (
        msgpack.packb([[], {"visits": msgpack.ExtType(9, b"")}, {}]),
        MessageError,
    ),
    "a_number": (msgpack.packb(7), MessageError),
    "two_elements": (msgpack.packb([[], {}]), MessageError),
    "fields_that_are_a_list": (msgpack.packb([[], [1], {}]), MessageError),
    "fields_that_are_null": (msgpack.packb([[], None, {}]), MessageError),
    "fields_by_number": (msgpack.packb([[], {1: 2}, {}]), MessageError),
    "arguments_that_are_no_list": (msgpack.packb([7, {}, {}]), MessageError),
    "arguments_that_are_null": (msgpack.packb([None, {}, {}]), MessageError),
    "callbacks_that_are_a_number": (codec.encode([[], GOOD, {"callbacks": 5}]), MessageError),
    "a_callback_that_is_text": (codec.encode([[], GOOD, {"callbacks": ["x"]}]), MessageError),
    "an_errback_of_no_task": (codec.encode([[], GOOD, {"errbacks": [{"task": 7}]}]), MessageError),
    "a_chain_of_numbers": (codec.encode([[], GOOD, {"chain": [1]}]), MessageError),
    "a_chord_without_a_body": (
        codec.encode([[], GOOD, {"chord": {"task": "celery.chord", "subtask_type": "chord"}}]),
        MessageError,
    ),
    "embedded_that_is_a_list": (codec.encode([[], GOOD, [1]]), MessageError),
    "a_field_called_self": (codec.encode([[], {**GOOD, "self": 1}, {}]), MessageError),
    "unknown_field": (codec.encode([[], {**GOOD, "colour": 1}, {}]), InvalidRequest),
    "missing_field": (codec.encode([[], {"visits": [[1]]}, {}]), InvalidRequest),
    "wrong_dtype": (codec.encode([[], {**GOOD, "visits": [["a", "b"]]}, {}]), InvalidRequest),
    "empty_array": (codec.encode([[], {**GOOD, "visits": np.zeros((0, 0))}, {}]), InvalidRequest),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_a_failed_result_and_a_dead_letter(
    name, client, raw, bad_worker, letters
) -> None:
    body, expected = BAD_BODIES[name]
    job_id = str(uuid.uuid4())
    text = entry(job_id, body)
    error = outcome(client, raw, text, job_id)
    assert type(error) is expected
    if expected is MessageError:  # the other is an answer to a message that was read
        letter = only_letter(letters)
        assert (letter.job, letter.queue, letter.reason) == (job_id, "mcts", str(error))
        assert letter.raw == text.encode()
    assert_still_serves(bad_worker, raw)


BAD_ENVELOPES: dict[str, dict[str, Any]] = {
    "foreign_content_type": {"content-type": "application/x-python-serialize"},
    "no_content_type": {"content-type": None},
    "json_that_is_none": {"content-type": "application/json", "content-encoding": "utf-8"},
    "content_encoding_that_is_a_list": {"content-encoding": ["binary"]},
    "content_encoding_of_nobodys": {
        "content-type": "application/json",
        "content-encoding": "utf-99",
    },
    "compressed": {"headers": {"compression": "application/x-gzip"}},
    "not_base64": {"body": "%%%"},
    "body_that_is_null": {"body": None},
    "body_that_is_a_number": {"body": 5},
    "unknown_version": {"headers": {HEADER: {"version": 99}}},
    "version_that_is_text": {"headers": {HEADER: {"version": "1"}}},
    "envelope_that_is_a_list": {"headers": {HEADER: []}},
    "references_without_a_store": {
        "headers": {HEADER: {"version": 1, "references": {"visits": "x"}}}
    },
    "deadline_that_is_text": {"headers": {HEADER: {"version": 1, "deadline": "soon"}}},
    "unknown_task": {"headers": {"task": "os.system"}},
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
def test_a_bad_envelope_is_a_failed_result_and_a_dead_letter(
    name, client, raw, bad_worker, letters
) -> None:
    job_id = str(uuid.uuid4())
    text = entry(job_id, BODY, **BAD_ENVELOPES[name])
    assert type(outcome(client, raw, text, job_id)) is MessageError
    letter = only_letter(letters)
    assert letter.job == job_id
    assert letter.raw == text.encode()
    assert_still_serves(bad_worker, raw)


NO_MESSAGES: list[bytes] = [
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"[]",
    b"7",
    b"{}",
    b'{"properties": 3}',
    b'{"properties": {"delivery_tag": "x"}}',
    b"[" * 200_000,
    json.dumps({"body": "e30=", "properties": {"delivery_tag": "t", "delivery_info": {}}}).encode(),
    json.dumps({"body": "e30=", "headers": [], "properties": {"delivery_tag": "t"}}).encode(),
    entry("", BODY, headers={"task": None}).encode(),
    entry("", BODY, headers={"id": None}).encode(),
    entry("x", BODY, headers={"eta": "soon"}).encode(),
    entry("x", BODY, headers={"expires": []}).encode(),
    entry("x", BODY, headers={"timelimit": "fast"}).encode(),
]


@pytest.mark.parametrize("text", NO_MESSAGES, ids=lambda text: repr(text[:24]))
def test_an_entry_that_is_no_message_is_a_dead_letter(
    text, client, raw, bad_worker, letters
) -> None:
    push(raw, text, f"{bad_worker.prefix}mcts")
    letter = only_letter(letters)
    assert (letter.raw, letter.queue) == (text, "mcts")
    assert letter.reason
    assert_still_serves(bad_worker, raw)


def test_a_message_of_a_newer_client_says_which_versions_are_served(client, raw) -> None:
    job_id = str(uuid.uuid4())
    text = entry(job_id, BODY, headers={HEADER: {"version": 2}})
    error = outcome(client, raw, text, job_id)
    assert str(error) == "version: 2, expected 1 to 1"


def test_a_refused_member_of_a_chord_ends_the_chord(client: Client, raw) -> None:
    app = client._here().app
    chord_id, body_id, job_id = (str(uuid.uuid4()) for _ in range(3))
    body = app.signature("mcts.ucb1_selection", kwargs=GOOD).set(task_id=body_id)
    embed = {"chord": {**body, "chord_size": 1}, "callbacks": None, "errbacks": None, "chain": None}
    headers = {"group": chord_id, HEADER: {"version": 1}, "timelimit": ["soon", None]}
    text = entry(job_id, json.dumps([[], GOOD, embed]).encode(), headers=headers)
    text = text.replace(codec.CONTENT_TYPE, "application/json").replace('"binary"', '"utf-8"')
    app.backend.set_chord_size(chord_id, 1)
    assert isinstance(outcome(client, raw, text, job_id), MessageError)
    with pytest.raises(GristmillError, match=r"timelimit"):
        client.job("mcts.ucb1_selection", body_id).result(timeout=10)
