"""The stands: a worker each on stock transport and backend and on ours, shared by the scenarios."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from celery import Celery

from gristmill.server import EmbeddedServer
from tests.compat.stand import STANDS, Stand, client_of, worker_of
from tests.integration.worker import Worker


class Stands:
    """Starts the worker of a stand when a scenario first wants it, and keeps it."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.server, self._folder = server, folder
        self._started: dict[str, Worker] = {}
        self._clients: list[Celery] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Stands":
        return self

    def __exit__(self, *raised: object) -> None:
        for client in self._clients:
            # Results that are still referred to would unsubscribe at a server that is gone.
            client.backend.result_consumer.subscribed_to.clear()
        for worker in self._started.values():  # all at once, and then one by one
            if worker.alive():
                os.kill(worker.pid, signal.SIGTERM)
        self._stack.close()

    def stand(
        self, name: str, *options: str, label: str = "", database: int = 0, **variables: str
    ) -> Stand:
        """Return the stand `name` with a worker of these options, started or running already.

        A `label` asks for a worker of its own, a `database` for one without a prefix.
        """
        kind = name.partition("-")[0]
        words = [kind, label, *options, *variables.values()]
        place = "-".join("".join(filter(str.isalnum, word)) for word in words if word)
        prefix = "" if database else f"{place}:"
        url = f"{self.server.url.removesuffix('0')}{database}"
        if place not in self._started:
            log = self._folder / place
            worker = worker_of(kind, url, log, *options, prefix=prefix, **variables)
            self._started[place] = self._stack.enter_context(worker)
        client = self._stack.enter_context(client_of(name, url, prefix))
        self._clients.append(client)
        raw = self._stack.enter_context(redis.Redis.from_url(url))
        return Stand(name, self._started[place], client, raw, prefix)


@pytest.fixture(scope="session")
def stands(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stands]:
    with Stands(server, tmp_path_factory.mktemp("compat")) as stands:
        yield stands


@pytest.fixture(scope="session", params=STANDS)
def stand(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Run a scenario on each stand, with a worker that it does no harm to."""
    return stands.stand(request.param, "--concurrency=2")


@pytest.fixture(params=STANDS[:2])
def spare(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Run a scenario that changes its worker for good, which the test has for itself."""
    return stands.stand(request.param, "--concurrency=1", label=request.function.__name__)
