"""A network that goes without a word: connections stay open, and nothing comes on them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gristmill.server import EmbeddedServer
from producers import Client
from tests.integration.worker import Worker, held, wait_until
from tests.producers.proxy import Proxy

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[Proxy]:
    """Give a server a road that only the worker takes."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Give a test a deployment of its own."""
    return f"network-{request.node.name.partition('[')[0][:40]}-{time.monotonic_ns()}:"


def worker_behind(proxy: Proxy, server: EmbeddedServer, log: Path, prefix: str) -> Worker:
    options = ("--concurrency=1", "-I", "tests.integration.user_tasks")
    return Worker(proxy.url(server.password), log, *options, prefix=prefix)


def send(client: Client, name: str, *arguments: Any) -> str:
    job_id: str = client._here().app.send_task(name, arguments, queue="celery").id
    return job_id


def succeeded(client: Client, job_id: str) -> bool:
    return bool(client.look(job_id)["status"] == "SUCCESS")


@pytest.mark.timeout(300)
def test_a_worker_all_of_whose_connections_lead_nowhere_goes_on_by_itself(
    server: EmbeddedServer, proxy: Proxy, tmp_path: Path, prefix: str
) -> None:
    with (
        worker_behind(proxy, server, tmp_path / "log", prefix) as worker,
        Client(server.url, prefix=prefix, timeout=60) as client,
        redis.Redis.from_url(server.url) as raw,
    ):
        key = f"{prefix}running"
        for number in range(2):  # the second time the connections are those that were made anew
            running = send(client, "user.slow", 2.0, f"{key}{number}")
            wait_until(lambda n=number: raw.get(f"{key}{n}:starts") == b"1", 60)
            proxy.silence()
            after = send(client, "user.slow", 0.0, f"{prefix}after{number}")
            wait_until(lambda job=after: succeeded(client, job), 60, worker.log)
            # It ended meanwhile, and its process had the news to tell on a connection of its own.
            wait_until(lambda job=running: succeeded(client, job), 60, worker.log)
            assert raw.get(f"{key}{number}:starts") == b"1"
        assert worker.alive()
        wait_until(lambda: held(raw, prefix) == 0, 30)


@pytest.mark.timeout(300)
def test_a_worker_whose_connections_lead_nowhere_still_stops(
    server: EmbeddedServer, proxy: Proxy, tmp_path: Path, prefix: str
) -> None:
    with (
        worker_behind(proxy, server, tmp_path / "log", prefix) as worker,
        Client(server.url, prefix=prefix, timeout=60) as client,
        redis.Redis.from_url(server.url) as raw,
    ):
        running = send(client, "user.slow", 1.0, f"{prefix}key")
        wait_until(lambda: raw.get(f"{prefix}key:starts") == b"1", 60)
        behind = send(client, "user.slow", 0.0, f"{prefix}behind")
        wait_until(lambda: held(raw, prefix) == 2, 30)
        proxy.silence()
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: not worker.alive(), 60, worker.log)
        assert succeeded(client, running)
        entries: Any = raw.lrange(f"{prefix}celery", 0, -1)
        assert [behind in entry.decode() for entry in entries] == [True]
        assert held(raw, prefix) == 0
