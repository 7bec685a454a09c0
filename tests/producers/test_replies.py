"""Waiting on a client's own list: who is told, who reads, and what a lost word costs."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from contract.deployment import Deployment
from contract.replies import CARRIED_BYTES, MAX_REPLIES
from contract.result_store import Entry, ResultStore
from gristmill.server import EmbeddedServer
from producers import replies as module
from producers.replies import Replies, Ticket

#: Seconds that a nap takes here: nothing but a word can wake a waiter sooner.
LONG_NAP = 40.0

META = b'{"status": "SUCCESS", "result": 1}'
LARGE = b'{"status": "SUCCESS", "result": "' + b"x" * CARRIED_BYTES + b'"}'


@pytest.fixture(autouse=True)
def long_nap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those who wait in vain do so for long."""
    monkeypatch.setattr(module, "NAP_SECONDS", LONG_NAP)


@pytest.fixture
def deployment(client: Any) -> Deployment:
    found: Deployment = client.deployment
    return found


@pytest.fixture
def listener(deployment: Deployment, server: EmbeddedServer) -> Iterator[Replies]:
    with redis.Redis.from_url(server.url) as connection:
        yield Replies(connection, deployment)


def end(raw: redis.Redis, deployment: Deployment, job_id: str, to: str = "", meta=META) -> None:
    """Store the end of a job as a worker does, which tells the list `to`."""
    store = ResultStore(raw, deployment)
    store.store(Entry(job_id=job_id, state="SUCCESS", meta=meta, life_seconds=100, reply_to=to))


def commands(raw: redis.Redis) -> Counter[str]:
    found = raw.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()})


# --- One client ---


@pytest.mark.parametrize("meta", [META, LARGE])
def test_the_end_of_an_own_job_is_told(listener, raw, deployment, meta: bytes) -> None:
    ticket = listener.ticket()
    assert listener.look("7", ticket) is None
    timer = threading.Timer(0.1, end, (raw, deployment, "7", listener.name, meta))
    timer.start()
    began = time.monotonic()
    assert listener.wait("7", ticket, 60) == meta
    assert time.monotonic() - began < LONG_NAP / 2
    timer.join()


def test_a_job_that_ends_soon_costs_one_command(listener, raw, deployment) -> None:
    ticket = listener.ticket()
    end(raw, deployment, "7", listener.name)
    before = commands(raw)
    assert listener.look("7", ticket) is None
    assert listener.wait("7", ticket, 60) == META
    made = commands(raw) - before
    assert {name: made[name] for name in ("blmpop", "get", "sadd")} == {
        "blmpop": 1,
        "get": 0,
        "sadd": 0,
    }


def test_who_asks_again_is_answered_from_what_is_stored(listener, raw, deployment) -> None:
    ticket = listener.ticket()
    end(raw, deployment, "7", listener.name)
    assert listener.wait("7", ticket, 60) == META
    raw.set(deployment.result_key("7"), b"another run's")
    assert listener.look("7", ticket) == b"another run's"


def test_a_job_of_a_while_ago_is_looked_up_first(listener, raw, deployment) -> None:
    ticket = Ticket(listener.name, time.monotonic() - 60)
    raw.set(deployment.result_key("7"), META)
    assert listener.look("7", ticket) == META


def test_replies_wait_for_those_who_wait_later_and_in_any_order(listener, raw, deployment) -> None:
    tickets = {str(number): listener.ticket() for number in range(300)}
    for job_id in tickets:
        end(raw, deployment, job_id, listener.name, META + job_id.encode())
    before = commands(raw)
    for job_id in reversed(tickets):
        assert listener.look(job_id, tickets[job_id]) is None
        assert listener.wait(job_id, tickets[job_id], 60) == META + job_id.encode()
    made = commands(raw) - before
    assert (made["blmpop"], made["get"]) == (1, 0)


def test_a_lost_reply_costs_a_nap(listener, raw, deployment, monkeypatch) -> None:
    monkeypatch.setattr(module, "NAP_SECONDS", 0.3)
    ticket = listener.ticket()
    end(raw, deployment, "7")  # to nobody
    began = time.monotonic()
    assert listener.wait("7", ticket, 60) == META
    assert 0.3 <= time.monotonic() - began < LONG_NAP / 2


def test_replies_beyond_what_is_kept_are_looked_up(listener, raw, deployment, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    tickets = [listener.ticket() for _ in range(8)]
    for number in range(8):
        end(raw, deployment, str(number), listener.name, META + str(number).encode())
    assert listener.wait("7", tickets[7], 60) == META + b"7"
    began = time.monotonic()
    for number in range(7):
        meta = listener.look(str(number), tickets[number])
        if meta is None:
            meta = listener.wait(str(number), tickets[number], 60)
        assert meta == META + str(number).encode()
    assert time.monotonic() - began < LONG_NAP / 2


def test_an_end_of_which_nobody_reads_leaves_redis_by_itself(listener, raw, deployment) -> None:
    for number in range(MAX_REPLIES // 100):
        end(raw, deployment, str(number), listener.name)
    assert 0 < raw.ttl(deployment.replies_key(listener.name)) <= 60


# --- Jobs of others ---


def test_a_job_of_another_process_is_told_here_too(listener, raw, deployment) -> None:
    assert listener.look("7", None) is None
    timer = threading.Timer(0.1, end, (raw, deployment, "7", "its-own"))
    timer.start()
    began = time.monotonic()
    assert listener.wait("7", None, 60) == META
    assert time.monotonic() - began < LONG_NAP / 2
    timer.join()
    assert raw.llen(deployment.replies_key("its-own")) == 1


def test_a_job_that_ended_before_is_found_at_once(listener, raw, deployment) -> None:
    end(raw, deployment, "7", "its-own")
    assert listener.look("7", None) == META
    # Nobody tells any more, and the word is forgotten by itself.
    assert 0 < raw.ttl(deployment.waiting_key("7")) <= 60


def test_a_broker_without_memory_is_asked_again_and_again(listener, raw, deployment) -> None:
    raw.config_set("maxmemory", "1")
    try:
        assert listener.look("7", None) is None
        end(raw, deployment, "7", "its-own")
        assert listener.look("7", None) == META
    finally:
        raw.config_set("maxmemory", "0")


# --- Threads ---


def test_many_threads_wait_on_one_connection_and_each_gets_its_own(
    deployment, server: EmbeddedServer, raw
) -> None:
    number, tickets = 200, {}
    with redis.Redis.from_url(server.url) as connection:
        listener = Replies(connection, deployment)
        tickets = {str(each): listener.ticket() for each in range(number)}
        mates = raw.info("clients")["connected_clients"]
        with ThreadPoolExecutor(number) as pool:
            waits = {
                job_id: pool.submit(listener.wait, job_id, ticket, 60)
                for job_id, ticket in tickets.items()
            }
            time.sleep(0.2)
            assert raw.info("clients")["connected_clients"] - mates <= 1
            for job_id in tickets:
                end(raw, deployment, job_id, listener.name, META + job_id.encode())
            for job_id, wait in waits.items():
                assert wait.result() == META + job_id.encode()
        assert not listener._waiters
        assert not listener._kept


def test_who_reads_and_leaves_hands_the_reading_on(listener, raw, deployment) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(listener.wait, "first", listener.ticket(), 0.2)  # reads, and gives up
        time.sleep(0.05)
        others = [pool.submit(listener.wait, name, listener.ticket(), 60) for name in "ab"]
        assert first.result() is None
        began = time.monotonic()
        for name, other in zip("ab", others, strict=True):
            end(raw, deployment, name, listener.name)
            assert other.result() == META
        assert time.monotonic() - began < LONG_NAP / 2


def test_two_who_wait_for_one_job_are_both_told(listener, raw, deployment) -> None:
    ticket = listener.ticket()
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(listener.wait, "7", ticket, 60) for _ in range(2)]
        time.sleep(0.1)
        began = time.monotonic()
        end(raw, deployment, "7", listener.name)
        assert [wait.result() for wait in waits] == [META, META]
        assert time.monotonic() - began < LONG_NAP / 2


def test_a_reader_whose_connection_breaks_leaves_the_reading_to_another(
    listener, raw, deployment, monkeypatch
) -> None:
    real, broken = listener._client.blmpop, threading.Event()

    def break_once(*args: Any, **kwargs: Any) -> Any:
        if not broken.is_set():
            broken.set()
            time.sleep(0.2)
            raise redis.ConnectionError("cut")
        return real(*args, **kwargs)

    monkeypatch.setattr(listener._client, "blmpop", break_once)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(listener.wait, "first", listener.ticket(), 60)
        assert broken.wait(5)
        other = pool.submit(listener.wait, "other", listener.ticket(), 60)
        with pytest.raises(redis.ConnectionError, match="cut"):
            first.result()
        began = time.monotonic()
        end(raw, deployment, "other", listener.name)
        assert other.result() == META
        assert time.monotonic() - began < LONG_NAP / 2
