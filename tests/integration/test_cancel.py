"""Cancelling, from the call to the end that callers of every kind see, in every pool."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError

from contract.errors import JobCancelled
from gristmill.server import EmbeddedServer
from producers import Client, fusion, mcts, optimization
from tests.integration.test_faults import SMALL
from tests.integration.worker import Worker, wait_until

pytestmark = pytest.mark.integration

#: From the call to the caller's error, in seconds. The promise is 0.1 at the 99th percentile, which
#: the chaos suite measures over many; a busy machine gets more here.
PATIENCE = 0.5


@pytest.fixture(scope="module")
def endless() -> dict:
    """Return the arguments of a job of minutes, small enough to travel in no time."""
    embeddings = np.random.default_rng(3).normal(size=(300_000, 8)).astype(np.float32)
    return {"embeddings": embeddings, "modalities": np.arange(300_000) % 3, "threshold": 1.0}


@pytest.fixture(scope="module")
def long_json() -> dict:
    """Return the arguments of a job that is long, and short enough for JSON."""
    state = {"counts": [1] * 1000, "reward_sums": [0.5] * 1000}
    return {**state, "num_selections": 10_000_000, "policy": "thompson"}


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def mill(request, server: EmbeddedServer, tmp_path_factory) -> Iterator[tuple[Worker, Client]]:
    prefix = f"cancel-{request.param}:"
    log = tmp_path_factory.mktemp("worker") / "log"
    options = (f"--pool={request.param}", "--concurrency=1")
    with (
        Worker(server.url, log, *options, prefix=prefix, NATIVE_C_THREADS="1") as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        yield worker, client


#: Kept to the end: Celery leaves sockets open for the garbage collector, which warns of each.
_apps: list[Celery] = []


@pytest.fixture
def stock(mill, server: EmbeddedServer) -> Celery:
    """Make a stock client of the same deployment, with Celery's own backend."""
    _, client = mill
    app = Celery(broker=server.url, backend=server.url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": client.deployment.prefix}
    app.conf.result_backend_transport_options = {"global_keyprefix": client.deployment.prefix}
    _apps.append(app)
    return app


def seconds_to_the_end(job) -> float:
    asked = time.monotonic()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=20)
    return time.monotonic() - asked


def test_a_running_kernel_stops_at_once_whenever_it_is_told(mill, endless, long_json) -> None:
    generator = np.random.default_rng(7)
    taken = []
    for _ in range(3):
        for operation, request in (
            (fusion.connection_discovery, endless),
            (optimization.multi_armed_bandit, long_json),
        ):
            job = operation.submit(**request)
            wait_until(lambda job=job: job.status() == "running", 20)
            time.sleep(generator.uniform(0, 0.2))
            taken.append(seconds_to_the_end(job))
            assert job.status() == "cancelled"
    assert sorted(taken)[-2] < PATIENCE, taken
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]


def test_a_job_that_waits_never_runs(mill, endless) -> None:
    worker, _ = mill
    running = fusion.connection_discovery.submit(**endless)
    wait_until(lambda: running.status() == "running", 20)
    waiting = [mcts.ucb1_selection.submit(**SMALL) for _ in range(4)]
    for job in waiting:
        job.cancel()
    assert seconds_to_the_end(running) < PATIENCE
    for job in waiting:
        with pytest.raises(JobCancelled):
            job.result(timeout=20)
        assert f"[{job.id}] succeeded" not in worker.log()


def small(stock: Celery):
    return stock.signature("mcts.ucb1_selection", kwargs=SMALL, queue="mcts", immutable=True)


def long(stock: Celery, task_id: str, fields: dict):
    return stock.signature(
        "optimization.multi_armed_bandit", kwargs=fields, queue="optimization", task_id=task_id
    )


def running(client: Client, task_id: str):
    job = client.job("optimization.multi_armed_bandit", task_id)
    wait_until(lambda: job.status() == "running", 20)
    return job


def test_the_waits_of_a_stock_client_end(mill, stock: Celery, long_json: dict) -> None:
    _, client = mill
    task_id = f"{client.deployment.prefix}plain"
    result = long(stock, task_id, long_json).apply_async()
    running(client, task_id).cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    assert result.state == "REVOKED"


def test_a_chain_ends_with_the_link_that_was_cancelled(mill, stock, long_json) -> None:
    _, client = mill
    task_id = f"{client.deployment.prefix}chain"
    result = chain(long(stock, task_id, long_json), small(stock), small(stock)).apply_async()
    job = running(client, task_id)
    job.cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    links = (result, result.parent, result.parent.parent)
    wait_until(lambda: [link.state for link in links] == ["REVOKED"] * 3, 10)


def test_a_group_ends_for_whoever_waits(mill, stock, long_json) -> None:
    _, client = mill
    task_id = f"{client.deployment.prefix}group"
    result = group(small(stock), long(stock, task_id, long_json)).apply_async()
    running(client, task_id).cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    wait_until(result.ready, 10)
    assert [one.state for one in result.results] == ["SUCCESS", "REVOKED"]


def test_a_chord_fails_when_a_part_of_it_is_cancelled(mill, stock, long_json) -> None:
    _, client = mill
    task_id = f"{client.deployment.prefix}chord"
    header = [small(stock), long(stock, task_id, long_json)]
    result = chord(header, small(stock)).apply_async()
    running(client, task_id).cancel()
    with pytest.raises((ChordError, TaskRevokedError)):  # its own end, or its part's
        result.get(timeout=10)
    wait_until(lambda: result.state == "FAILURE", 10)
    assert isinstance(result.result, ChordError)


def test_a_chord_in_a_chain_ends_when_the_link_before_it_is_cancelled(mill, stock, long_json):
    _, client = mill
    task_id = f"{client.deployment.prefix}before"
    then = chord([small(stock), small(stock)], small(stock))
    result = chain(long(stock, task_id, long_json), then).apply_async()
    running(client, task_id).cancel()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)


def test_a_wish_outlives_the_worker(server: EmbeddedServer, tmp_path, long_json) -> None:
    prefix = "outlives:"
    with Client(server.url, prefix=prefix, timeout=30):
        job = optimization.multi_armed_bandit.submit(**long_json)
        job.cancel()
        with Worker(server.url, tmp_path / "log", "--concurrency=1", prefix=prefix) as worker:
            with pytest.raises(JobCancelled):
                job.result()
            assert job.status() == "cancelled"
            assert f"[{job.id}] succeeded" not in worker.log()
