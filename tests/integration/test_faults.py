"""What a worker survives, and what becomes of the jobs it had."""

import os
import signal
import time
from typing import Any

import numpy as np
import psutil
import pytest
import redis

import producers
from contract.errors import InternalError, JobCancelled
from contract.results import error_from_meta
from gristmill.server import EmbeddedServer
from producers import Client, analytics, fusion, mcts
from tests.integration.worker import Worker, held, wait_until

pytestmark = pytest.mark.integration

SMALL: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}


@pytest.fixture
def long_job():
    """Return the arguments of a fusion job of a few seconds in many steps."""
    generator = np.random.default_rng(3)
    embeddings = generator.normal(size=(50_000, 64)).astype(np.float32)
    return {"embeddings": embeddings, "modalities": np.arange(50_000) % 3, "threshold": 0.7}


@pytest.fixture
def harmed(server, tmp_path, request):
    """Start a worker that also knows the user's tasks, and a client of it."""
    prefix = f"{request.node.name[:40]}:"
    options = ("--concurrency=1", "-I", "tests.integration.user_tasks")
    with (
        Worker(server.url, tmp_path / "log", *options, prefix=prefix) as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        yield worker, client


def send(client: Client, name: str, *args: object) -> str:
    return client._here().app.send_task(name, args, queue="celery").id


def meta_of(client: Client, job_id: str, seconds: float = 30) -> dict:
    """Wait for a user task's end and return its raw meta."""
    ends = {"SUCCESS", "FAILURE", "REVOKED"}
    wait_until(
        lambda: client.look(job_id)["status"] in ends, seconds, lambda: f"the end of {job_id}"
    )
    return client.look(job_id)


def test_a_memory_error_fails_its_job_and_nothing_else(harmed) -> None:
    worker, client = harmed
    pid = worker.pid
    error = error_from_meta(meta_of(client, send(client, "user.hoard")))
    assert isinstance(error, InternalError)
    assert "MemoryError" in str(error)
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
    assert worker.alive()
    assert worker.pid == pid


def test_a_job_whose_child_was_killed_in_its_middle_ends_once(harmed, raw) -> None:
    worker, client = harmed
    job_id = send(client, "user.slow", 2.0, "killed")
    wait_until(lambda: raw.get("killed:starts") == b"1", 10)
    worker.children()[0].kill()
    assert meta_of(client, job_id)["result"] == "done"
    assert (raw.get("killed:starts"), raw.get("killed:ends")) == (b"2", b"1")
    assert worker.alive()


def test_a_job_whose_child_was_killed_runs_elsewhere_within_seconds(harmed, raw) -> None:
    _, client = harmed
    for number in range(4):
        key = f"elsewhere{number}"
        job_id = send(client, "user.slow", 0.3, key)
        wait_until(lambda key=key: raw.get(f"{key}:starts") == b"1", 10)
        os.kill(int(raw.get(f"{key}:pid")), signal.SIGKILL)
        # 0.3 s at the median of 20 kills; Celery's own pool needs up to 5 s to look.
        wait_until(lambda key=key: raw.get(f"{key}:starts") == b"2", 4)
        assert meta_of(client, job_id)["result"] == "done"


@pytest.mark.timeout(300)  # two and a half long jobs, on NumPy, on a busy machine
def test_a_kernel_job_whose_child_was_killed_ends(own, long_job) -> None:
    worker, _ = own
    expected = fusion.connection_discovery.submit(**long_job).result(timeout=90)
    job = fusion.connection_discovery.submit(**long_job)
    wait_until(lambda: job.status() == "running", 20, worker.log)
    worker.children()[0].kill()
    found = job.result(timeout=150)
    assert found.similarity.tobytes() == expected.similarity.tobytes()
    assert found.i.tolist() == expected.i.tolist()
    worker.wait_for_log(f"[{job.id}] succeeded")
    assert worker.log().count(f"[{job.id}] succeeded") == 1


def test_a_cancelled_job_does_not_run(harmed) -> None:
    worker, client = harmed
    busy = send(client, "user.slow", 1.0, "busy")
    job = mcts.ucb1_selection.submit(**SMALL)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    assert job.status() == "cancelled"
    assert f"[{job.id}] succeeded" not in worker.log()
    assert meta_of(client, busy)["result"] == "done"


def test_a_running_kernel_tells_its_progress_and_stops_when_told(client, long_job) -> None:
    job = fusion.connection_discovery.submit(**long_job)
    wait_until(lambda: job.status() == "running", 20)
    told = [job.progress()]
    while job.status() == "running" and len(told) < 4:
        time.sleep(0.1)
        told.append(job.progress())
    assert told == sorted(told)
    assert 0 < told[0] < 1
    job.cancel()
    asked = time.monotonic()
    with pytest.raises(JobCancelled):
        job.result()
    assert time.monotonic() - asked < 2
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]


def test_a_deadline_ends_a_job_that_waited_too_long(harmed) -> None:
    _, client = harmed
    busy = send(client, "user.slow", 1.0, "deadline")
    operation = mcts.ucb1_selection
    job = client.submit(operation, operation.build(**SMALL), deadline_seconds=0.2)
    with pytest.raises(producers.DeadlineExceeded, match="expected a result before"):
        job.result()
    assert meta_of(client, busy)["result"] == "done"


def test_a_chain_hands_a_result_of_ours_to_a_users_task(harmed) -> None:
    _, client = harmed
    app = client._here().app
    first = app.signature("analytics.basic_statistics", ([1.0, 2.0, 6.0],))
    then = app.signature("user.mean_of").set(queue="celery")
    assert (first | then).apply_async().get(timeout=10) == 3.0


def test_a_worker_outlives_its_broker_and_ends_every_job_it_had(tmp_path) -> None:
    options = ("--concurrency=1", "-I", "tests.integration.user_tasks")
    with (
        EmbeddedServer(append_only=True) as server,
        Worker(server.url, tmp_path / "log", *options) as worker,
        Client(server.url, timeout=60) as client,
        redis.Redis.from_url(server.url) as raw,
    ):
        running = send(client, "user.wait", 3.0)
        wait_until(lambda: held(raw) == 1, 10)
        waiting = mcts.ucb1_selection.submit(**SMALL)
        wait_until(lambda: held(raw) == 2, 10)
        server.kill()
        time.sleep(4)  # the running job ends while nobody can be told
        server.start()
        assert meta_of(client, running, 60)["result"] == "done"
        assert waiting.result().chosen.tolist() == [0]
        assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
        assert worker.alive()
        wait_until(lambda: held(raw) + raw.llen("celery") + raw.llen("mcts") == 0, 30)


def test_a_worker_outlives_a_full_broker_and_ends_every_job_it_had(tmp_path) -> None:
    options = ("--concurrency=1", "-I", "tests.integration.user_tasks")
    with (
        EmbeddedServer() as server,
        Worker(server.url, tmp_path / "log", *options) as worker,
        Client(server.url, timeout=30) as client,
        redis.Redis.from_url(server.url) as raw,
    ):
        running = send(client, "user.text", 1.0, 100_000)
        wait_until(lambda: held(raw) == 1, 10)
        jobs = [mcts.ucb1_selection.submit(**SMALL) for _ in range(8)]
        wait_until(lambda: held(raw) == 2, 10)
        psutil.Process(worker.pid).suspend()  # so that some jobs are taken while it is full
        analytics_job = analytics.basic_statistics.submit([1.0, 2.0])
        raw.config_set("maxmemory", "1mb")
        psutil.Process(worker.pid).resume()
        time.sleep(3)  # the running job ends while its result finds no room
        assert raw.get(f"celery-task-meta-{running}") is None
        raw.config_set("maxmemory", "0")
        assert len(meta_of(client, running, 30)["result"]) == 100_000
        assert [job.result().chosen.tolist() for job in jobs] == [[0]] * 8
        assert analytics_job.result().count == 2
        assert worker.alive()
        wait_until(lambda: held(raw) + raw.llen("celery") + raw.llen("mcts") == 0, 30)


def test_a_warm_shutdown_lets_the_running_job_end(harmed, raw) -> None:
    worker, client = harmed
    job_id = send(client, "user.slow", 1.0, "warm")
    wait_until(lambda: raw.get("warm:starts") == b"1", 10)
    assert worker.terminate() == 0
    assert client.look(job_id)["result"] == "done"


def test_the_worker_says_in_one_line_what_it_computes_with(shared_worker: Worker) -> None:
    lines = [line for line in shared_worker.log().splitlines() if "gristmill: backend" in line]
    assert len(lines) == 1
    assert "simd" in lines[0]
    assert "***@" in lines[0]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_stops_hands_back_a_job_whose_result_finds_no_room(tmp_path, pool) -> None:
    options = ("--concurrency=1", f"--pool={pool}", "-I", "tests.integration.user_tasks")
    with (
        EmbeddedServer() as server,
        Worker(server.url, tmp_path / "log", *options) as worker,
        Client(server.url, timeout=30) as client,
        redis.Redis.from_url(server.url) as raw,
    ):
        job_id = send(client, "user.text", 0.5, 100_000)
        worker.wait_for_log(f"[{job_id}] received")
        raw.config_set("maxmemory", "1")
        worker.wait_for_log(f"job {job_id}: its state SUCCESS waits")
        assert worker.terminate(30) == 0
        assert raw.llen("celery") == 1
        assert raw.keys("gristmill:inbox:*") == []
        assert client.look(job_id)["status"] == "PENDING"
