"""Servers, workers and clients for the tests that run the whole road."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gristmill.server import EmbeddedServer
from producers import Client
from tests.integration.worker import Worker


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


#: One kernel thread a process, so that a long job is long on a machine of many cores, too.
SLOW = {"NATIVE_C_THREADS": "1"}


@pytest.fixture(scope="session")
def shared_worker(server: EmbeddedServer, tmp_path_factory) -> Iterator[Worker]:
    """Start one worker for the tests that do it no harm."""
    log = tmp_path_factory.mktemp("worker") / "log"
    with Worker(server.url, log, "--concurrency=2", **SLOW) as worker:
        yield worker


@pytest.fixture
def client(shared_worker: Worker) -> Iterator[Client]:
    """Make a client of the shared worker current in the test."""
    with Client(shared_worker.url, timeout=30) as client:
        yield client


@pytest.fixture
def own(
    server: EmbeddedServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Worker, Client]]:
    """Start a worker that the test may harm, in a deployment of its own, and a client of it."""
    prefix = f"{request.node.name[:40]}:"
    with (
        Worker(server.url, tmp_path / "log", "--concurrency=1", prefix=prefix, **SLOW) as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        yield worker, client


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """Talk to the server itself."""
    with redis.Redis.from_url(server.url) as raw:
        yield raw
