"""Connections that may lead nowhere are asked first, and large messages have their time."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from contract import connections
from contract.connections import Pool, patient
from gristmill.server import EmbeddedServer
from tests.producers.proxy import Proxy

#: Seconds that no test waits, but a connection that is not asked first would.
LONG = 60.0


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def client(proxy: Proxy, password: str, seconds: float = LONG) -> redis.Redis:
    """Return a client of one connection, which has been used."""
    url = proxy.url(password)
    found = redis.Redis(connection_pool=Pool.from_url(url, socket_timeout=seconds))
    assert found.ping()
    return found


def test_a_connection_that_was_idle_and_leads_nowhere_shows_soon(
    proxy: Proxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    some = client(proxy, server.password)
    proxy.silence()
    began = time.monotonic()
    assert some.get("key") is None
    assert time.monotonic() - began < LONG / 2


def test_where_one_leads_nowhere_the_others_are_asked_before_they_are_used(
    proxy: Proxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 2 * LONG)  # none has been idle
    first, second = client(proxy, server.password, 0.2), client(proxy, server.password)
    proxy.silence()
    with pytest.raises(redis.TimeoutError):
        first.get("key")
    began = time.monotonic()
    assert second.get("key") is None
    assert time.monotonic() - began < LONG / 2
    assert first.get("key") is None


def test_a_broker_that_is_away_is_said_to_be_so_and_leaves_no_connection_in_use(
    proxy: Proxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.0)
    url = proxy.url(server.password)
    some = redis.Redis(connection_pool=Pool.from_url(url, max_connections=1))
    assert some.ping()
    proxy.cut()
    for _ in range(3):
        with pytest.raises(redis.ConnectionError):  # of many words
            some.get("key")
    proxy.mend()
    assert some.get("key") is None


def test_a_connection_in_use_is_not_asked(server: EmbeddedServer, monkeypatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", LONG)
    with redis.Redis.from_url(server.url) as raw, Proxy(server.port) as proxy:
        some = client(proxy, server.password)
        before = raw.info("commandstats")["cmdstat_ping"]["calls"]
        for _ in range(5):
            some.get("key")
        assert raw.info("commandstats")["cmdstat_ping"]["calls"] == before


class Socket:
    """A socket that notes how long it may take."""

    seconds = 0.0

    def settimeout(self, seconds: float) -> None:
        self.seconds = seconds


class Connection:
    """A connection of redis-py's that is open and sends nothing."""

    def __init__(self, socket_timeout: float | None) -> None:
        self._sock, self.socket_timeout = Socket(), socket_timeout
        self.sent: list[Any] = []

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.sent.append(command)


@pytest.mark.parametrize(
    ("command", "seconds"),
    [(b"PING", 5), ("PING", 5), ([b"SET", memoryview(bytes(10_000_000))], 6), ([], 5)],
)
def test_a_message_has_a_second_more_for_each_ten_megabytes(command, seconds) -> None:
    some: Any = patient(Connection)(5.0)
    some.send_packed_command(command)
    assert some._sock.seconds == pytest.approx(seconds, abs=0.001)
    assert some.sent == [command]


def test_a_connection_that_may_wait_for_ever_does() -> None:
    some: Any = patient(Connection)(None)
    some.send_packed_command(b"PING")
    assert some._sock.seconds == 0.0


@pytest.mark.parametrize("name", ["connect", "disconnect", "read_response", "send_packed_command"])
def test_what_is_overridden_or_called_is_still_redis_pys(name: str) -> None:
    assert hasattr(AbstractConnection, name)
