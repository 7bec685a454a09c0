"""What a job sends on while the broker is full or away arrives, once, and no job fails of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chord, group

from contract.deployment import Deployment
from gristmill.server import EmbeddedServer
from producers import Client
from tests.integration.test_faults import meta_of
from tests.integration.worker import Worker, held, wait_until

pytestmark = pytest.mark.integration

#: What the log says while something waits for the broker.
WAITS = " waits: "


class Stand:
    """A server that can be filled, a worker and a client of its own."""

    def __init__(self, server: EmbeddedServer, worker: Worker, client: Client) -> None:
        self.server, self.worker, self.client = server, worker, client
        self.app = client._here().app
        self.raw = redis.Redis.from_url(server.url)

    def task(self, name: str, *args: Any) -> Any:
        return self.app.signature(f"user.{name}", args).set(queue="celery")

    def fill_while_it_runs(self, jobs: int = 1) -> None:
        """Leave no room, once jobs were taken, until each has something to send."""
        waits = self.worker.log().count(WAITS)
        wait_until(lambda: held(self.raw) == jobs, 30, self.worker.log)
        self.raw.config_set("maxmemory", "1")
        self.worker.wait_for_log(WAITS, waits + jobs)

    def free(self) -> None:
        self.raw.config_set("maxmemory", "0")

    def assert_drained(self) -> None:
        left = lambda: held(self.raw) + self.raw.llen("celery")  # noqa: E731
        wait_until(lambda: left() == 0, 30, self.worker.log)
        assert self.raw.keys("gristmill:sent:*") == []


@contextmanager
def stand_of(log: Path, *options: str) -> Iterator[Stand]:
    with (
        EmbeddedServer(append_only=True) as server,
        Worker(server.url, log, "-I", "tests.integration.user_tasks", *options) as worker,
        Client(server.url, timeout=60) as client,
    ):
        stand = Stand(server, worker, client)
        yield stand
        # A result that is collected once the server is gone has nothing to unsubscribe.
        stand.app.backend.result_consumer.subscribed_to.clear()
        stand.raw.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand_of(tmp_path_factory.mktemp("worker") / "log", "--concurrency=1") as stand:
        yield stand


def test_the_next_link_of_a_chain_waits_for_room(stand: Stand) -> None:
    assert_the_next_link_waits(stand)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_the_next_link_of_a_chain_waits_in_every_pool(tmp_path: Path, pool: str) -> None:
    with stand_of(tmp_path / "log", "--concurrency=1", f"--pool={pool}") as stand:
        assert_the_next_link_waits(stand)


def assert_the_next_link_waits(stand: Stand) -> None:
    result = (stand.task("wait", 1.0) | stand.task("note", "links")).apply_async()
    stand.fill_while_it_runs()
    stand.free()
    assert meta_of(stand.client, result.id)["result"] == "done"
    assert meta_of(stand.client, result.parent.id)["status"] == "SUCCESS"
    assert stand.raw.lrange("links", 0, -1) == [b"done"]
    stand.assert_drained()


def test_callbacks_wait_for_room(stand: Stand) -> None:
    first = stand.task("wait", 1.0)
    first.link(stand.task("note", "callbacks"))
    first.link(group([stand.task("note", "callbacks")] * 2, app=stand.app))
    result = first.apply_async()
    stand.fill_while_it_runs()
    stand.free()
    assert meta_of(stand.client, result.id)["result"] == "done"
    wait_until(lambda: stand.raw.llen("callbacks") == 3, 20, stand.worker.log)
    stand.assert_drained()


def test_a_users_own_message_waits_for_room(stand: Stand) -> None:
    result = stand.task("relay", 1.0).apply_async()
    stand.fill_while_it_runs()
    stand.free()
    sent = meta_of(stand.client, result.id)["result"]
    assert meta_of(stand.client, sent)["result"] == 3
    stand.assert_drained()


def test_a_retry_waits_for_room(stand: Stand) -> None:
    result = stand.task("late_flaky", 1.0).apply_async()
    stand.fill_while_it_runs()
    stand.free()
    assert meta_of(stand.client, result.id)["result"] == 1
    stand.assert_drained()


def test_the_body_of_a_chord_waits_for_room(stand: Stand) -> None:
    body = stand.task("note", "bodies")
    result = chord([stand.task("wait", 1.0)], body, app=stand.app).apply_async()
    stand.fill_while_it_runs()
    stand.free()
    assert meta_of(stand.client, result.id)["status"] == "SUCCESS"
    assert stand.raw.llen("bodies") == 1
    stand.assert_drained()


def test_the_next_link_of_a_chain_waits_for_a_broker_that_is_away(stand: Stand) -> None:
    waits = stand.worker.log().count(WAITS)
    result = (stand.task("begin", 1.0, "begun") | stand.task("note", "away")).apply_async()
    wait_until(lambda: stand.raw.get("begun") == b"1", 10, stand.worker.log)
    stand.server.kill()
    stand.worker.wait_for_log(WAITS, waits + 1)
    stand.server.start()
    assert meta_of(stand.client, result.id, 60)["result"] == "done"
    assert meta_of(stand.client, result.parent.id)["status"] == "SUCCESS"
    assert stand.raw.lrange("away", 0, -1) == [b"done"]
    stand.assert_drained()


def test_a_worker_that_stops_hands_back_the_jobs_that_cannot_send(tmp_path: Path) -> None:
    with stand_of(tmp_path / "log", "--concurrency=4") as stand:
        wait, note = stand.task("wait", 2.0), stand.task("note", "after")
        jobs = [
            (wait | note).apply_async().id,
            chord([wait], note, app=stand.app).apply_async().id,
            stand.task("relay", 2.0).apply_async().id,
            stand.task("late_flaky", 2.0).apply_async().id,
        ]
        stand.fill_while_it_runs(len(jobs))
        assert stand.worker.terminate(60) == 0
        assert stand.raw.llen("celery") == len(jobs)
        assert stand.raw.keys("gristmill:inbox:*") == []
        stand.free()
        options = ("--concurrency=2", "-I", "tests.integration.user_tasks")
        with Worker(stand.server.url, tmp_path / "log2", *options) as worker:
            for job in jobs:
                assert meta_of(stand.client, job)["status"] == "SUCCESS", worker.log()
            stand.assert_drained()
        assert stand.raw.llen("after") == 2


def test_a_worker_whose_results_lie_elsewhere_does_not_start(tmp_path: Path) -> None:
    with EmbeddedServer() as broker, EmbeddedServer() as results:
        environment = {"CELERY_BROKER_URL": Deployment(url=broker.url).broker_url}
        worker = Worker(results.url, tmp_path / "log", "--concurrency=1", **environment)
        with pytest.raises(AssertionError, match="another Redis or database than the broker's"):
            worker.__enter__()
        assert worker.status() == 1
