"""What a broker's error means, told by real servers where they can be made to say it."""

import socket

import pytest
import redis
from redis import exceptions

from contract.outages import is_passing
from gristmill.server import EmbeddedServer, free_port


def error_of(client: redis.Redis, *command: str) -> Exception:
    with pytest.raises((redis.RedisError, OSError)) as caught:
        client.execute_command(*command)
    return caught.value


def assert_passes_in_pipelines_too(settings: dict[str, str]) -> None:
    with (
        EmbeddedServer(settings=settings) as server,
        redis.Redis.from_url(server.url) as client,
        client.pipeline() as pipe,
    ):
        assert is_passing(error_of(client, "SET", "a", "b"))
        with pytest.raises(redis.ResponseError) as caught:
            pipe.set("a", "b").execute()
        assert is_passing(caught.value)


def test_a_server_that_is_not_there_may_come() -> None:
    with redis.Redis(port=free_port()) as client:
        assert is_passing(error_of(client, "PING"))


def test_a_server_that_is_full_may_find_room() -> None:
    assert_passes_in_pipelines_too({"maxmemory": "1"})


def test_a_replica_may_become_the_primary() -> None:
    assert_passes_in_pipelines_too({"replicaof": f"127.0.0.1 {free_port()}"})


def test_a_server_that_wants_more_replicas_may_get_them() -> None:
    assert_passes_in_pipelines_too({"min-replicas-to-write": "1"})


def test_what_is_about_us_does_not_pass(server: EmbeddedServer) -> None:
    with redis.Redis(port=server.port) as client:
        assert not is_passing(error_of(client, "PING"))
    with redis.Redis(port=server.port, password="wr0ng") as client:
        assert not is_passing(error_of(client, "PING"))
    with redis.Redis.from_url(server.url) as client:
        for command in (("NO_SUCH_COMMAND",), ("GET",), ("GET", "BUSY MISCONF")[:1]):
            assert not is_passing(error_of(client, *command))
        client.set("text", "x")
        assert not is_passing(error_of(client, "LPUSH", "text", "a"))


@pytest.mark.parametrize(
    "error",
    [
        exceptions.BusyLoadingError("loading"),
        exceptions.MasterDownError("no master"),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but ..."),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        redis.TimeoutError("slow"),
        socket.gaierror("name"),
        TimeoutError(),
    ],
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("x"),
        exceptions.NoPermissionError("no"),
        exceptions.InvalidResponse("220 mail"),
        exceptions.ResponseError("WRONGTYPE Operation against a key"),
    ],
)
def test_what_waiting_does_not_mend(error: Exception | None) -> None:
    assert not is_passing(error)
