"""Dead letters: kept byte for byte, bounded, moved out of an inbox, and put back."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contract import dead_letters
from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.envelope import HEADER, Delivery
from contract.errors import InvalidRequest
from contract.events import Events
from gristmill.server import EmbeddedServer

EVERY_BYTE = bytes(range(256))
TOLD = {"queue": "mcts", "job": "7", "task": "mcts.ucb1_selection", "worker": "celery@host"}

_numbers = itertools.count()


@pytest.fixture
def deployment(server: EmbeddedServer) -> Deployment:
    return Deployment(url=server.url, prefix=f"dead{next(_numbers)}:")


@pytest.fixture
def raw(deployment: Deployment) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(deployment.url) as raw:
        yield raw


@pytest.fixture
def letters(raw: redis.Redis, deployment: Deployment) -> DeadLetters:
    return DeadLetters(raw, deployment)


def bounded(raw: Any, deployment: Deployment, **bounds: int) -> DeadLetters:
    return DeadLetters(raw, deployment, **bounds)


def held(raw: redis.Redis, deployment: Deployment, entry: bytes) -> Delivery:
    """Put an entry into a worker's inbox, counted as lost once and returned twice."""
    delivery = Delivery(
        inbox=deployment.inbox_key("w"),
        tag=f"1 {deployment.prefix}mcts\x06\x163",
        lost=1,
        returned=2,
    )
    raw.hset(delivery.inbox, delivery.tag, entry)
    raw.hset(deployment.counts_key, mapping=counts(entry) | {"other:lost": 1})
    return delivery


def counts(entry: bytes) -> dict[Any, Any]:
    digest = hashlib.sha1(entry).hexdigest()
    return {f"{digest}:lost": 1, f"{digest}:returned": 2}


# --- Keeping ---


def test_a_letter_keeps_the_bytes_and_what_is_known_of_them(letters: DeadLetters) -> None:
    letter_id = letters.add(EVERY_BYTE, "no JSON", **TOLD)
    letter = letters.get(letter_id)
    assert letter.raw == EVERY_BYTE
    assert (letter.size, letter.is_whole) == (256, True)
    assert (letter.queue, letter.job, letter.task, letter.worker) == tuple(TOLD.values())
    assert letter.reason == "no JSON"
    assert letter.died_at == pytest.approx(time.time(), abs=2)


def test_of_an_entry_that_tells_nothing_the_bytes_are_kept(letters: DeadLetters) -> None:
    letter = letters.get(letters.add(b"", "empty"))
    assert (letter.raw, letter.queue, letter.job, letter.task) == (b"", "", "", "")


def test_texts_of_anybody_are_kept_as_far_as_there_is_utf8_for_them(letters: DeadLetters) -> None:
    letter = letters.get(letters.add(b"x", "r" * 9000, job="a\ud800b", task="\x1b[31m\n"))
    assert letter.job == "a?b"
    assert letter.task == "\x1b[31m\n"
    assert len(letter.reason) == 2000


def test_letters_are_listed_the_newest_first(letters: DeadLetters) -> None:
    added = [letters.add(b"%d" % i, "so") for i in range(50)]
    assert [each.id for each in letters.list()] == added[::-1]
    assert [each.raw for each in letters.list(limit=23)] == [b"%d" % i for i in range(49, 26, -1)]
    assert list(letters.list(limit=0)) == []
    assert letters.size() == 50


def test_two_deployments_have_letters_of_their_own(letters, raw, server) -> None:
    letters.add(b"x", "so")
    other = DeadLetters(raw, Deployment(url=server.url, prefix=f"dead{next(_numbers)}:"))
    assert (other.size(), list(other.list())) == (0, [])


@pytest.mark.parametrize("letter_id", ["", "1-1", "no id", "-", "+", "1 2"])
def test_a_letter_that_is_not_there_is_refused_in_words(letters: DeadLetters, letter_id) -> None:
    letters.add(b"x", "so")
    with pytest.raises(InvalidRequest, match="letter"):
        letters.get(letter_id)


def test_each_letter_is_counted_as_an_event_of_its_kind(letters, raw, deployment) -> None:
    letters.add(b"x", "so", kind="too_large")
    letters.add(b"x", "so")
    letters.bury(held(raw, deployment, b"x"), "so", kind="too_large")
    letters.bury(held(raw, deployment, b"x"), "so", kind="anything")
    found = Events(raw, deployment).read()["dead_letter"]
    assert found == {("too_large",): 2, ("no_message",): 1, ("other",): 1}


# --- Bounds ---


def test_the_oldest_letters_make_room_by_number(raw, deployment) -> None:
    letters = bounded(raw, deployment, max_letters=3)
    for i in range(5):
        letters.add(b"%d" % i, "so")
    assert [each.raw for each in letters.list()] == [b"4", b"3", b"2"]


def test_the_oldest_letters_make_room_by_bytes(raw, deployment) -> None:
    letters = bounded(raw, deployment, max_bytes=10_000)
    for i in range(20):
        letters.add(bytes([i]) * 3000, "so")
        kept = [each.raw for each in letters.list()]
        assert kept == [bytes([j]) * 3000 for j in range(i, max(-1, i - 3), -1)]


def test_small_letters_stay_beside_a_large_one(raw, deployment) -> None:
    letters = bounded(raw, deployment, max_bytes=10_000)
    for i in range(3):
        letters.add(b"%d" % i, "so")
    letters.add(b"x" * 9000, "so")
    assert letters.size() == 4
    letters.add(b"y" * 9000, "so")
    assert [each.raw[:1] for each in letters.list()] == [b"y"]


def test_letters_that_were_dropped_give_their_bytes_back(raw, deployment) -> None:
    letters = bounded(raw, deployment, max_bytes=10_000)
    for _ in range(5):
        letters.purge(letters.add(b"x" * 9000, "so"))
    letters.add(b"y" * 4000, "so")
    letters.add(b"z" * 4000, "so")
    assert letters.size() == 2


def test_of_an_entry_larger_than_all_letters_the_beginning_is_kept(
    raw, deployment, monkeypatch
) -> None:
    monkeypatch.setattr(dead_letters, "KEPT_OF_TOO_LARGE", 100)
    letters = bounded(raw, deployment, max_bytes=10_000)
    entry = EVERY_BYTE * 40
    letter = letters.get(letters.add(entry, "too large", **TOLD))
    assert letter.raw == entry[:100]
    assert (letter.size, letter.is_whole) == (10_240, False)
    with pytest.raises(InvalidRequest, match="the first 100 bytes of 10240, expected a whole"):
        letters.replay(letter.id)
    assert letters.size() == 1


def test_old_letters_are_not_shown_and_go_when_the_next_one_comes(raw, deployment) -> None:
    letters = bounded(raw, deployment, max_age_seconds=100)
    old = f"{int((time.time() - 101) * 1000)}-0"
    raw.xadd(deployment.dead_key, {"raw": b"old"}, id=old)
    assert list(letters.list()) == []
    letters.add(b"new", "so")
    assert raw.xlen(deployment.dead_key) == 1
    assert 90 < raw.ttl(deployment.dead_key) <= 100


def test_a_full_server_keeps_letters_all_the_same(tmp_path) -> None:
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as raw:
        deployment = Deployment(url=server.url)
        letters = DeadLetters(raw, deployment)
        delivery = held(raw, deployment, b"{}")
        raw.config_set("maxmemory", "1")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            raw.set("x", "y")
        assert letters.bury(delivery, "so") is not None
        assert letters.size() == 1


# --- Out of an inbox ---


def test_a_buried_entry_leaves_the_inbox_and_its_counts(letters, raw, deployment) -> None:
    delivery = held(raw, deployment, EVERY_BYTE)
    letter_id = letters.bury(delivery, "it killed", job="7", task="mcts.ucb1_selection")
    letter = letters.get(letter_id)
    assert (letter.raw, letter.reason, letter.job) == (EVERY_BYTE, "it killed", "7")
    assert (letter.queue, letter.worker) == ("mcts\x06\x163", "w")
    assert not raw.exists(delivery.inbox)
    assert raw.hkeys(deployment.counts_key) == [b"other:lost"]


def test_what_a_worker_holds_no_longer_it_cannot_bury(letters, raw, deployment) -> None:
    delivery = held(raw, deployment, b"x")
    raw.delete(delivery.inbox)
    assert letters.bury(delivery, "it killed", job="7", task="mcts.ucb1_selection") is None
    assert letters.size() == 0
    assert raw.hlen(deployment.counts_key) == 3  # the next holder's affair


# --- Back again ---


def test_a_replayed_entry_is_enqueued_as_it_came_and_its_job_is_new(
    letters, raw, deployment
) -> None:
    raw.set(deployment.result_key("7"), "failed")
    raw.hset(deployment.counts_key, mapping=counts(EVERY_BYTE) | {"other:lost": 1})
    raw.lpush(f"{deployment.prefix}mcts", "one that waits")
    letter_id = letters.add(EVERY_BYTE, "so", **TOLD)
    letter = letters.replay(letter_id)
    assert (letter.id, letter.job) == (letter_id, "7")
    # Workers take from the right: it waits behind what waits already.
    assert raw.lrange(f"{deployment.prefix}mcts", 0, -1) == [EVERY_BYTE, b"one that waits"]
    assert not raw.exists(deployment.result_key("7"))
    assert raw.hkeys(deployment.counts_key) == [b"other:lost"]
    assert letters.size() == 0
    with pytest.raises(InvalidRequest, match="expected the id of a dead letter"):
        letters.replay(letter_id)
    assert raw.llen(f"{deployment.prefix}mcts") == 2


def test_a_replayed_batch_runs_again_what_failed_of_it(letters, raw, deployment) -> None:
    ends = ("SUCCESS", "FAILURE", "REVOKED", "FAILURE")
    for index, state in enumerate(ends):
        meta = json.dumps({"status": state, "result": "FAILURE"})
        raw.set(deployment.result_key(f"7.{index}"), meta)
    packed = b"\xde\x00\x0b\xa6status\xa7FAILURE\xa6result\xc0"
    raw.set(deployment.result_key("7.4"), packed)
    raw.set(deployment.result_key("7.5"), packed.replace(b"FAILURE", b"SUCCESS"))
    entry = json.dumps({"headers": {HEADER: {"version": 1, "num_items": 6}}}).encode()
    letters.replay(letters.add(entry, "so", **TOLD))
    stand = [raw.exists(deployment.result_key(f"7.{index}")) for index in range(6)]
    assert stand == [1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("entry", [b"[]", b'{"headers": null}', b'{"headers": {"gristmill": 7}}'])
def test_an_entry_of_any_form_is_replayed(letters, raw, deployment, entry: bytes) -> None:
    letters.replay(letters.add(entry, "so", **TOLD))
    assert raw.lrange(f"{deployment.prefix}mcts", 0, -1) == [entry]


def test_a_replay_may_name_another_queue(letters, raw, deployment) -> None:
    letter_id = letters.add(b"x", "so")
    with pytest.raises(InvalidRequest, match="queue: not known"):
        letters.replay(letter_id)
    letters.replay(letter_id, "analytics")
    assert raw.lrange(f"{deployment.prefix}analytics", 0, -1) == [b"x"]


# --- Away with them ---


def test_all_letters_or_some_are_purged(letters: DeadLetters) -> None:
    first, second, third = (letters.add(b"%d" % i, "so") for i in range(3))
    assert letters.purge(second) == 1
    assert letters.purge(second) == 0
    assert [each.id for each in letters.list()] == [third, first]
    assert letters.purge() == 2
    assert letters.purge() == 0
    with pytest.raises(InvalidRequest, match="letter"):
        letters.purge("no id")


def test_the_old_ones_are_purged(letters, raw, deployment) -> None:
    old = f"{int((time.time() - 101) * 1000)}-0"
    raw.xadd(deployment.dead_key, {"raw": b"old"}, id=old)
    new = letters.add(b"new", "so")
    assert letters.purge(older_than_seconds=100) == 1
    assert [each.id for each in letters.list()] == [new]
