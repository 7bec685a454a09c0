"""The client: what it writes, what it does when the broker fails, threads, forks and nesting."""

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
import redis

import producers
from contract import codec, payloads
from contract.deployment import Deployment
from contract.errors import (
    BrokerUnavailable,
    InvalidRequest,
    JobCancelled,
    MessageError,
    QueueFull,
    ResultTimeout,
)
from gristmill.server import EmbeddedServer, free_port
from producers import Client, mcts, orders
from producers import client as client_module
from producers import process as process_module

OPERATION = mcts.ucb1_selection
REQUEST = OPERATION.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])


def queued(raw: redis.Redis, prefix: str, family: str = "mcts") -> list[dict[str, Any]]:
    """Return the messages in a family's queue, last first."""
    found = raw.lrange(f"{prefix}{family}", 0, -1)
    assert isinstance(found, list)
    return [json.loads(entry) for entry in found]


# --- What a submit writes ---


def test_a_submit_writes_one_message_to_the_queue_of_its_family(client: Client, raw) -> None:
    job = client.submit(OPERATION, REQUEST)
    (message,) = queued(raw, client.deployment.prefix)
    assert message["content-type"] == codec.CONTENT_TYPE
    assert message["headers"]["task"] == "mcts.ucb1_selection"
    assert message["headers"]["id"] == job.id
    args, kwargs, _ = codec.decode(base64.b64decode(message["body"]))
    assert args == []
    assert set(kwargs) == set(OPERATION.request_fields)
    assert kwargs["visits"].tolist() == [[1, 2]]
    assert kwargs["child_counts"] is None


def test_times_on_the_wire_are_the_servers(client: Client, raw) -> None:
    seconds, microseconds = raw.time()
    client.submit(OPERATION, REQUEST, deadline_seconds=60)
    client.submit(OPERATION, REQUEST, deadline_seconds=float("inf"))
    client.submit(OPERATION, REQUEST)
    headers = [message["headers"]["gristmill"] for message in queued(raw, client.deployment.prefix)]
    assert [header["version"] for header in headers] == [1, 1, 1]
    assert headers[0]["deadline"] is headers[1]["deadline"] is None
    assert headers[2]["deadline"] == pytest.approx(headers[2]["submitted_at"] + 60, abs=1e-6)
    for header in headers:
        assert header["submitted_at"] == pytest.approx(seconds + microseconds / 1e6, abs=1)


def test_operators_see_shapes_and_no_elements(client: Client, raw) -> None:
    large = np.zeros((1000, 50))
    request = OPERATION.build(large.astype(int), large, np.ones(1000, int), exploration=0.25)
    client.submit(OPERATION, request)
    headers = queued(raw, client.deployment.prefix)[0]["headers"]
    assert headers["argsrepr"] == "()"
    assert "visits=int64[1000x50] 400 kB" in headers["kwargsrepr"]
    assert "exploration=0.25" in headers["kwargsrepr"]
    assert len(headers["kwargsrepr"]) < 300


def test_every_key_of_a_deployment_starts_with_its_prefix(client: Client, raw) -> None:
    before = set(raw.keys("*"))
    job = client.submit(OPERATION, REQUEST)
    job.cancel()
    job.status()
    added = set(raw.keys("*")) - before
    prefix = client.deployment.prefix.encode()
    assert len(added) >= 2
    assert [key for key in added if not key.startswith(prefix)] == []


def test_two_prefixes_on_one_server_do_not_meet(server: EmbeddedServer, raw) -> None:
    with Client(server.url, prefix="left") as left, Client(server.url, prefix="right") as right:
        job = left.submit(OPERATION, REQUEST)
        right.job(OPERATION, job.id).cancel()
        assert len(queued(raw, "left:")) == 1
        assert queued(raw, "right:") == []
        assert raw.exists(f"right:gristmill:cancel:{job.id}")
        assert not raw.exists(f"left:gristmill:cancel:{job.id}")


def test_a_wish_to_cancel_is_not_kept_for_ever(client: Client, raw) -> None:
    client.job(OPERATION, "some").cancel()
    assert 0 < raw.ttl(client.deployment.cancel_key("some")) <= 24 * 3600


def test_waiting_for_results_leaves_no_subscription(client: Client, raw) -> None:
    client.submit(OPERATION, REQUEST)
    assert raw.pubsub_channels(f"{client.deployment.prefix}*") == []


def test_arrays_that_no_message_holds_are_refused_before_the_wire(client: Client, raw, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_BYTES", 39)
    with pytest.raises(InvalidRequest, match=r"^request: 40 bytes, expected at most 39$"):
        client.submit(OPERATION, REQUEST)
    assert queued(raw, client.deployment.prefix) == []


def test_what_the_codec_refuses_is_a_message_error(client: Client, raw, monkeypatch) -> None:
    monkeypatch.setattr(orders._payloads, "pack", lambda fields: ({"visits": object()}, {}))
    with pytest.raises(MessageError, match="object cannot travel"):
        client.submit(OPERATION, REQUEST)
    assert queued(raw, client.deployment.prefix) == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", [5], 1j])
def test_times_that_are_none_are_refused(server: EmbeddedServer, client: Client, seconds) -> None:
    with pytest.raises(InvalidRequest, match=r"^timeout: .*, expected seconds"):
        Client(server.url, timeout=seconds)
    with pytest.raises(InvalidRequest, match=r"^deadline_seconds: .*, expected seconds"):
        client.submit(OPERATION, REQUEST, deadline_seconds=seconds)


def test_handles_are_made_from_ids_and_names(client: Client) -> None:
    assert client.job("mcts.ucb1_selection", "7").id == "7"
    assert repr(client.job(OPERATION, "7")) == "Job('7')"
    with pytest.raises(KeyError, match=r"mcts\.nothing.*expected one of .*mcts\.ucb1_selection"):
        client.job("mcts.nothing", "7")


# --- Addresses ---


@pytest.mark.parametrize("form", ["tcp", "socket", "socket with options", "a database"])
def test_every_form_of_an_address_reaches_the_server(server: EmbeddedServer, raw, form) -> None:
    user, password = "us:er@", "p@/:;?#% \u00fc+"
    raw.acl_setuser(
        user,
        enabled=True,
        passwords=[f"+{password}"],
        commands=["+@all"],
        keys=["*"],
        channels=["*"],
    )
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    url = {
        "tcp": f"redis://{login}@127.0.0.1:{server.port}",
        "a database": f"redis://{login}@127.0.0.1:{server.port}?db=3",
        "socket": f"unix://{login}@{server.socket_path}?db=3",
        "socket with options": f"unix://{server.socket_path}?"
        + urlencode({"username": user, "password": password, "db": 3}),
    }[form]
    with Client(url, prefix="forms") as client:
        job = client.submit(OPERATION, REQUEST)
        client._here().app.backend.mark_as_done(job.id, None)
        assert job.status() == "succeeded"
    raw.select(0 if form == "tcp" else 3)
    assert raw.llen("forms:mcts") == 1
    raw.delete("forms:mcts")


def test_an_address_may_be_of_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6")
    with EmbeddedServer(settings={"bind": "127.0.0.1 ::1"}) as server:
        url = f"redis://:{server.password}@[::1]:{server.port}/1"
        with Client(url) as client:
            assert client.submit(OPERATION, REQUEST).status() == "queued"


# --- A broker that fails ---


def seconds_until_refused(client: Client, operation: str = "submit") -> float:
    calls = {
        "submit": lambda: client.submit(OPERATION, REQUEST),
        "status": lambda: client.job(OPERATION, "some").status(),
        "cancel": lambda: client.job(OPERATION, "some").cancel(),
        "wait": lambda: client.wait("some", 1),
    }
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"^broker .*: "):
        calls[operation]()
    return time.monotonic() - started


@contextmanager
def client_of(url: str) -> Iterator[Client]:
    client = Client(url)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("operation", ["submit", "status", "cancel", "wait"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "unix:///nowhere/{port}.sock"])
def test_a_broker_that_is_not_there_is_told_at_once(url: str, operation: str) -> None:
    with client_of(url.format(port=free_port())) as client:
        assert seconds_until_refused(client, operation) < 2


@contextmanager
def silent_server(accepts: bool) -> Iterator[str]:
    """Listen on a port where nobody answers: after connecting, or not even to that."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10 if accepts else 0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(0 if accepts else 3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"redis://127.0.0.1:{address[1]}"
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("operation", ["submit", "status"])
def test_a_silent_broker_is_given_up_in_time(accepts: bool, operation: str, monkeypatch) -> None:
    assert process_module.CONNECT_SECONDS <= 5
    monkeypatch.setattr(process_module, "CONNECT_SECONDS", 0.3)
    with silent_server(accepts) as url, client_of(url) as client:
        assert 0.2 < seconds_until_refused(client, operation) < 2.5


def test_a_broker_that_falls_silent_is_given_up_in_time(monkeypatch) -> None:
    monkeypatch.setattr(process_module, "CONNECT_SECONDS", 0.3)
    with EmbeddedServer() as server, client_of(server.url) as client:
        client.submit(OPERATION, REQUEST)
        with redis.Redis.from_url(server.url) as raw:
            raw.client_pause(1500)
            assert 0.2 < seconds_until_refused(client) < 2.5
            raw.client_unpause()
        client.submit(OPERATION, REQUEST)


@pytest.mark.parametrize("unusual", ["password", "database", "protocol"])
def test_a_broker_that_refuses_us_is_unavailable(server: EmbeddedServer, unusual: str) -> None:
    url = {
        "password": f"redis://:wr0ng@127.0.0.1:{server.port}/0",
        "database": f"{server.url.rpartition('/')[0]}/9999",
        "protocol": "redis://127.0.0.1:{port}",
    }[unusual]
    with socket.socket() as listener, client_of_protocol(listener, url) as client:
        assert seconds_until_refused(client) < 2
        with pytest.raises(BrokerUnavailable) as caught:
            client.submit(OPERATION, REQUEST)
    assert "wr0ng" not in str(caught.value)
    assert server.password not in str(caught.value)


@contextmanager
def client_of_protocol(listener: socket.socket, url: str) -> Iterator[Client]:
    """Let `listener` greet everybody as a mail server does."""
    listener.bind(("127.0.0.1", 0))
    listener.listen(10)

    def greet() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.sendall(b"220 mail.example.org ESMTP\r\n")
                peer.recv(100)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    with client_of(url.format(port=listener.getsockname()[1])) as client:
        yield client
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_full_broker_refuses_at_once_and_serves_again_when_there_is_room() -> None:
    with (
        EmbeddedServer() as server,
        client_of(server.url) as warm,
        client_of(server.url) as fresh,
        redis.Redis.from_url(server.url) as raw,
    ):
        warm.submit(OPERATION, REQUEST)
        raw.config_set("maxmemory", "1mb")
        for client in (warm, fresh):
            started = time.monotonic()
            with pytest.raises(QueueFull, match=r"^broker redis://\*\*\*@127.* out of memory"):
                client.submit(OPERATION, REQUEST)
            with pytest.raises(QueueFull):
                client.job(OPERATION, "some").cancel()
            assert time.monotonic() - started < 1
        assert raw.llen("mcts") == 1
        raw.config_set("maxmemory", "0")
        for client in (warm, fresh):
            client.submit(OPERATION, REQUEST)
        assert raw.llen("mcts") == 3


def test_who_waits_at_a_full_broker_gets_the_result_or_waits_in_vain() -> None:
    with EmbeddedServer() as server, client_of(server.url) as client:
        job = client.submit(OPERATION, REQUEST)
        with redis.Redis.from_url(server.url) as raw, ThreadPoolExecutor(1) as thread:
            raw.config_set("maxmemory", "1mb")
            with pytest.raises(ResultTimeout, match=r"queued after 0\.6 s"):
                job.result(timeout=0.6)
            waiting = thread.submit(job.result, timeout=10)
            raw.config_set("maxmemory", "0")
            raw.set(f"celery-task-meta-{job.id}", json.dumps({"status": "REVOKED"}))
            with pytest.raises(JobCancelled):
                waiting.result()


def test_a_client_outlives_its_broker() -> None:
    with EmbeddedServer() as server, client_of(server.url) as client:
        client.submit(OPERATION, REQUEST)
        assert client.job(OPERATION, "some").status() == "queued"
        server.kill()
        assert seconds_until_refused(client) < 2
        server.start()
        client.submit(OPERATION, REQUEST)
        assert client.job(OPERATION, "some").status() == "queued"
        with redis.Redis.from_url(server.url) as raw:
            assert raw.llen("mcts") == 1


def test_celerys_own_environment_does_not_lead_jobs_astray(client, raw, monkeypatch) -> None:
    # Many an app is a Celery app too, and these are how its deployment is told.
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    for name in ("BROKER_URL", "BROKER_WRITE_URL", "BROKER_READ_URL", "RESULT_BACKEND"):
        monkeypatch.setenv(f"CELERY_{name}", nowhere)
    job = client.submit(OPERATION, REQUEST)
    assert len(queued(raw, client.deployment.prefix)) == 1
    assert job.status() == "queued"


# --- Connections ---


def connections(raw: redis.Redis) -> set[str]:
    return {client["id"] for client in raw.client_list()}


def test_a_closed_client_has_given_back_every_connection(server: EmbeddedServer, raw) -> None:
    before = connections(raw)
    client = Client(server.url, prefix="closing")
    for _ in range(2):  # it opens anew when used again
        client.submit(OPERATION, REQUEST).status()
        assert connections(raw) > before
        client.close()
        client.close()
        deadline = time.monotonic() + 5
        while connections(raw) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert connections(raw) <= before


def test_a_client_holds_few_connections(client: Client, raw) -> None:
    before = connections(raw)
    for _ in range(5):
        client.submit(OPERATION, REQUEST).status()
    assert len(connections(raw) - before) <= 3


def test_threads_share_a_client(client: Client, raw) -> None:
    start = threading.Barrier(8)

    def submit_some(_: int) -> list[str]:
        start.wait()
        jobs = [client.submit(OPERATION, REQUEST) for _ in range(10)]
        assert {job.status() for job in jobs} == {"queued"}
        return [job.id for job in jobs]

    with ThreadPoolExecutor(8) as threads:
        ids = {job_id for found in threads.map(submit_some, range(8)) for job_id in found}
    written = {message["headers"]["id"] for message in queued(raw, client.deployment.prefix)}
    assert len(ids) == 80
    assert written == ids


def test_more_threads_than_connections_wait_for_one_another(client, raw, monkeypatch) -> None:
    monkeypatch.setattr(process_module, "_MAX_CONNECTIONS", 2)
    with ThreadPoolExecutor(8) as threads:
        for job in threads.map(lambda _: client.submit(OPERATION, REQUEST), range(40)):
            assert job.id
    assert len(queued(raw, client.deployment.prefix)) == 40


FORKING = """
import os, sys, threading
from redis.connection import AbstractConnection
from producers import Client, mcts

OPERATION = mcts.ucb1_selection
REQUEST = OPERATION.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])
send = AbstractConnection.send_packed_command
used = []

def noting(connection, *args, **kwargs):
    used.append(connection.pid)
    return send(connection, *args, **kwargs)

AbstractConnection.send_packed_command = noting
client = Client(sys.argv[1], prefix=sys.argv[2])
client.submit(OPERATION, REQUEST).status()
child = os.fork()
used.clear()
for _ in range(20):
    client.submit(OPERATION, REQUEST).status()
assert set(used) == {os.getpid()}, (used, os.getpid())
if child == 0:
    client.close()
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.submit(OPERATION, REQUEST).status()
client.close()
print("parent and child are well")
"""


def test_a_forked_child_uses_the_client_on_sockets_of_its_own(server: EmbeddedServer, raw) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKING, server.url, "forking:"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "parent and child are well\n", ended.stderr
    assert len(queued(raw, "forking:")) == 42


def test_a_client_that_one_thread_closes_goes_on_serving_the_others(client: Client) -> None:
    end = time.monotonic() + 1

    def ask(_: int) -> int:
        count = 0
        while time.monotonic() < end:
            client.submit(OPERATION, REQUEST).status()
            count += 1
        return count

    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask, number) for number in range(3)]
        while time.monotonic() < end:
            time.sleep(0.05)
            client.close()
        assert all(found.result() > 0 for found in asked)


# --- The current client ---


def test_a_block_that_ends_leaves_the_connections_to_the_blocks_of_other_threads(client) -> None:
    with client:
        client.submit(OPERATION, REQUEST)
        here = client._here()

        def visit() -> None:
            with client:
                pass

        visitor = threading.Thread(target=visit)
        visitor.start()
        visitor.join()
        assert client._here() is here
    assert client._here() is not here


def test_the_innermost_block_says_which_client_is_current(server: EmbeddedServer) -> None:
    outer, inner = Client(server.url, prefix="outer"), Client(server.url, prefix="inner")
    with outer as entered:
        assert entered is outer is producers.current()
        with inner, outer:
            assert producers.current() is outer
            with inner:
                assert producers.current() is inner
            assert producers.current() is outer
        assert producers.current() is outer
        with pytest.raises(ZeroDivisionError), inner:
            raise ZeroDivisionError
        assert producers.current() is outer


def test_one_client_is_entered_in_several_threads_at_a_time(server: EmbeddedServer) -> None:
    client, others = Client(server.url, prefix="entered"), Client(server.url, prefix="others")
    turns = threading.Barrier(2)

    def enter(first: bool) -> list[bool]:
        seen = []
        for _ in range(3):
            with client, others, client:
                turns.wait(5)
                seen.append(producers.current() is client)
                if first:
                    turns.wait(5)
            if not first:
                turns.wait(5)
        return seen

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(enter, [True, False])) == [[True] * 3] * 2


def test_each_asyncio_task_has_a_current_client_of_its_own(server: EmbeddedServer) -> None:
    async def through(prefix: str) -> bool:
        with Client(server.url, prefix=prefix) as client:
            await asyncio.sleep(0.01)
            return producers.current() is client

    async def both() -> list[bool]:
        return list(await asyncio.gather(through("one"), through("two")))

    assert asyncio.run(both()) == [True, True]


def test_an_operation_goes_through_the_current_client(client: Client, raw) -> None:
    with client:
        job = OPERATION.submit([[1, 2]], [[0.5, 1.0]], [3])
        (message,) = queued(raw, client.deployment.prefix)
        assert message["headers"]["id"] == job.id


def test_without_a_block_the_process_has_one_client(server, monkeypatch) -> None:
    monkeypatch.setattr(client_module, "_default", None)
    monkeypatch.setenv("GRISTMILL_URL", server.url)
    monkeypatch.setenv("GRISTMILL_PREFIX", "default")
    first = producers.current()
    assert isinstance(first, Client)
    assert first.deployment == Deployment(url=server.url, prefix="default:")
    assert producers.current() is first
    chosen = producers.connect(server.url, prefix="chosen", timeout=1)
    assert producers.current() is chosen
    assert chosen.timeout == 1
    with first:
        assert producers.current() is first
    assert producers.current() is chosen


def test_an_address_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidRequest, match=r"^url: 'localhost:\*\*\*'|^url: "):
        Client("localhost:6379")
    assert os.environ.get("GRISTMILL_URL") is None
