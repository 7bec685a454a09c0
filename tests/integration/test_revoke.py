"""Revoking a job with Celery's own tools, Flower among them: its end at worker and caller."""

import time

import numpy as np
import pytest
from celery import Celery

from contract.errors import JobCancelled
from producers import Client, fusion, mcts
from tests.gristmill.processes import alive
from tests.integration.test_faults import SMALL, send
from tests.integration.worker import Worker, held, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def endless_job() -> dict:
    """Return the arguments of a job of minutes, in many steps."""
    embeddings = np.random.default_rng(3).normal(size=(500_000, 32)).astype(np.float32)
    return {"embeddings": embeddings, "modalities": np.arange(500_000) % 3, "threshold": 0.95}


@pytest.fixture
def stand(server, tmp_path, request):
    """Start a worker that knows the user's tasks too, a client of it, and a stock Celery app."""
    prefix = f"{request.node.name[:40]}:"
    options = ("--concurrency=1", "-I", "tests.integration.user_tasks")
    stock = Celery(broker=server.url, backend=server.url, set_as_current=False)
    stock.conf.broker_transport_options = {"global_keyprefix": prefix}
    with (
        Worker(server.url, tmp_path / "log", *options, prefix=prefix) as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
        stock,
    ):
        yield worker, client, stock


def test_a_revoked_job_that_waits_ends_for_its_caller_and_never_runs(stand) -> None:
    worker, client, stock = stand
    busy = send(client, "user.slow", 1.5, "busy")
    waiting = [mcts.ucb1_selection.submit(**SMALL) for _ in range(5)]
    stock.control.revoke([job.id for job in waiting[1:]])
    started = time.monotonic()
    for job in waiting[1:]:  # two wait at the worker, the others still in the queue
        with pytest.raises(JobCancelled):
            job.result(timeout=10)
        assert job.status() == "cancelled"
    assert time.monotonic() - started < 5
    assert waiting[0].result().chosen.tolist() == [0]
    assert client.look(busy)["result"] == "done"
    worker.wait_for_log("Discarding revoked task", times=4)
    assert all(f"[{job.id}] succeeded" not in worker.log() for job in waiting[1:])
    assert all(job.status() == "cancelled" for job in waiting[1:])


def test_a_kernel_that_is_terminated_stops_at_once_and_is_not_run_again(stand, endless_job) -> None:
    worker, client, stock = stand
    job = fusion.connection_discovery.submit(**endless_job)
    wait_until(lambda: job.status() == "running", 30, worker.log)
    (child,) = worker.children()
    stock.control.revoke(job.id, terminate=True)
    asked = time.monotonic()
    with pytest.raises(JobCancelled):
        job.result(timeout=10)
    wait_until(lambda: not alive(child.pid), 5)
    assert time.monotonic() - asked < 5
    # The next job has the processor, and the one that was ended does not come back.
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
    assert [other.pid for other in worker.children()] != [child.pid]
    time.sleep(1)
    assert job.status() == "cancelled"
    assert worker.log().count(f"fusion.connection_discovery[{job.id}] received") == 1
    assert held(client._here().redis, client.deployment.prefix) == 0
    assert client._here().redis.llen(f"{client.deployment.prefix}fusion") == 0
    assert client._here().redis.get(client.deployment.key("losses", job.id)) is None
    assert worker.alive()


def test_a_job_killed_outright_by_a_revoke_is_not_run_again(stand) -> None:
    _, client, stock = stand
    here = client._here().redis
    job_id = send(client, "user.slow", 30.0, "outright")
    wait_until(lambda: here.get("outright:starts") == b"1", 10)
    stock.control.revoke(job_id, terminate=True, signal="SIGKILL")
    wait_until(lambda: client.look(job_id)["status"] == "REVOKED", 10)
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
    time.sleep(1)
    assert here.get("outright:starts") == b"1"
    assert client.look(job_id)["status"] == "REVOKED"
    assert held(here, client.deployment.prefix) == 0


def test_a_job_in_a_thread_stops_when_it_is_terminated(server, tmp_path, endless_job) -> None:
    prefix = "threads:"
    stock = Celery(broker=server.url, set_as_current=False)
    stock.conf.broker_transport_options = {"global_keyprefix": prefix}
    options = ("--pool=threads", "--concurrency=1")
    with (
        Worker(server.url, tmp_path / "log", *options, prefix=prefix) as worker,
        Client(server.url, prefix=prefix, timeout=30),
        stock,
    ):
        job = fusion.connection_discovery.submit(**endless_job)
        wait_until(lambda: job.status() == "running", 30, worker.log)
        stock.control.revoke(job.id, terminate=True)
        with pytest.raises(JobCancelled):
            job.result(timeout=10)
        assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
        assert job.status() == "cancelled"
