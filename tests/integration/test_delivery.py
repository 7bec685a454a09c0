"""What becomes of reserved jobs when their worker dies, stands still, stops or loses its broker."""

import contextlib
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from contract.deployment import Deployment
from contract.transport import scripts
from contract.transport.inbox import Inbox
from gristmill.server import EmbeddedServer
from producers import Client
from tests.integration.worker import Worker, held, wait_until

pytestmark = pytest.mark.integration

TASKS = ("-I", "tests.integration.user_tasks")


class Stand:
    """A deployment of its own, with workers that may be harmed."""

    def __init__(self, url: str, prefix: str, folder: Path) -> None:
        self.url, self.prefix, self._folder = url, prefix, folder
        self.raw = redis.Redis.from_url(url)
        self._numbers = itertools.count()

    def worker(self, *options: str, **environment: str) -> Worker:
        log = self._folder / f"log{next(self._numbers)}"
        options = (*TASKS, *(options or ("--concurrency=1",)))
        return Worker(self.url, log, *options, prefix=self.prefix, **environment)

    def client(self) -> Client:
        return Client(self.url, prefix=self.prefix, timeout=30)

    def send(self, client: Client, seconds: float, key: str, *more: str) -> str:
        arguments = (seconds, f"{self.prefix}{key}", *more)
        return client._here().app.send_task("user.slow", arguments, queue="celery").id

    def starts(self, key: str) -> int:
        return int(self.raw.get(f"{self.prefix}{key}:starts") or 0)

    def held(self) -> int:
        return held(self.raw, self.prefix)

    def waiting(self) -> list[str]:
        """Return the ids that wait in the queue, the next one first."""
        entries: Any = self.raw.lrange(f"{self.prefix}celery", 0, -1)
        return [entry.decode().split('"id": "')[1][:36] for entry in reversed(entries)]


@pytest.fixture
def stand(server, tmp_path, request) -> Iterator[Stand]:
    name = re.sub(r"\W", "-", request.node.name)  # which `SCAN` would take for a pattern
    stand = Stand(server.url, f"{name}:", tmp_path)
    yield stand
    stand.raw.close()


@pytest.fixture
def other_worker(stand: Stand) -> Iterator[None]:
    """Do what every worker does beside its jobs: renew a lease, and look for those that ran out."""
    inbox = Inbox(stand.raw, Deployment(prefix=stand.prefix))
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.3):
            inbox.reserve((), 0)

    thread = threading.Thread(target=look)
    thread.start()
    yield
    is_over.set()
    thread.join()


def done(client: Client, job_ids: list[str], seconds: float = 30) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if all(client.look(job_id)["status"] == "SUCCESS" for job_id in job_ids):
            return True
        time.sleep(0.05)
    return False


def test_a_killed_parent_loses_nothing_and_its_jobs_run_elsewhere_in_time(stand: Stand) -> None:
    options = ("--concurrency=2",)
    with stand.worker(*options) as one, stand.worker(*options), stand.client() as client:
        jobs = [stand.send(client, 0.05, f"job{number}") for number in range(60)]
        wait_until(lambda: sum(client.look(job)["status"] == "SUCCESS" for job in jobs) > 10, 20)
        long = stand.send(client, 0.5, "long")
        os.kill(one.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert done(client, [*jobs, long])
        assert time.monotonic() - killed < 6 + 2  # two more for the jobs themselves
        wait_until(lambda: stand.held() == 0, 6)
        twice = sum(stand.starts(f"job{number}") - 1 for number in range(60))
        assert twice <= 2 + 2 + 4  # what ran, what had ended, what waited: at most what it held


def test_a_job_of_a_killed_parent_runs_again_within_six_seconds(stand: Stand) -> None:
    with stand.worker(), stand.worker(), stand.client() as client:
        job = stand.send(client, 2, "job")
        wait_until(lambda: stand.starts("job") == 1, 10)
        child: Any = stand.raw.get(f"{stand.prefix}job:pid")
        os.kill(psutil.Process(int(child)).ppid(), signal.SIGKILL)
        wait_until(lambda: stand.starts("job") == 2, 6)
        assert done(client, [job])
        wait_until(lambda: stand.held() == 0, 3)


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_healthy_job_that_outlasts_the_lease_runs_once(stand, other_worker, pool) -> None:
    with stand.worker(f"--pool={pool}", "--concurrency=1") as worker, stand.client() as client:
        job = stand.send(client, scripts.LEASE_SECONDS + 2, "job")
        behind = stand.send(client, 0, "behind")
        assert done(client, [job, behind])
        assert (stand.starts("job"), stand.starts("behind")) == (1, 1)
        wait_until(lambda: stand.held() == 0, 3)
        assert worker.terminate() == 0


def test_a_parent_that_stood_still_lets_go_of_what_was_taken(stand, other_worker) -> None:
    with (
        stand.worker(CELERY_WORKER_PREFETCH_MULTIPLIER="4") as worker,
        stand.client() as client,
    ):
        first = stand.send(client, 1, "first")
        wait_until(lambda: stand.starts("first") == 1, 10)
        behind = [stand.send(client, 0, f"behind{number}") for number in range(3)]
        wait_until(lambda: stand.held() == 4, 5)
        psutil.Process(worker.pid).suspend()
        wait_until(lambda: len(stand.waiting()) == 4, 6)
        assert stand.waiting() == [first, *behind]
        assert stand.held() == 0
        psutil.Process(worker.pid).resume()
        assert done(client, [first, *behind])
        wait_until(lambda: stand.held() == 0, 3)
        assert [stand.starts(f"behind{number}") for number in range(3)] == [1, 1, 1]
        assert worker.alive()


def test_a_worker_that_stops_hands_back_at_once_what_waits_and_in_order(stand: Stand) -> None:
    with (
        stand.worker(CELERY_WORKER_PREFETCH_MULTIPLIER="3") as worker,
        stand.client() as client,
    ):
        running = stand.send(client, scripts.LEASE_SECONDS + 1, "running")
        wait_until(lambda: stand.starts("running") == 1, 10)
        behind = [stand.send(client, 0, f"behind{number}") for number in range(5)]
        wait_until(lambda: stand.held() == 3, 5)
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: stand.waiting() == behind, 2)  # while the first one runs
        assert stand.held() == 1
        wait_until(lambda: not worker.alive(), 15)
        assert client.look(running)["status"] == "SUCCESS"
        assert stand.starts("running") == 1
        assert stand.held() == 0
        assert stand.waiting() == behind
        assert stand.raw.zcard(f"{stand.prefix}gristmill:leases") == 0


@contextlib.contextmanager
def a_job_that_its_process_has_not_noticed(
    stand: Stand, worker: Worker, client: Client, size: int
) -> Iterator[tuple[str, str]]:
    """Let a worker give a job to a process that stands still, and hold another one behind it."""
    # One that is not up yet, as on a slow machine, is given nothing.
    assert done(client, [stand.send(client, 0, "before")])
    wait_until(lambda: stand.held() == 0, 10)
    (process,) = worker.children()
    process.suspend()
    try:
        job = stand.send(client, 0.1, "job", "x" * size)
        worker.wait_for_log(f"[{job}] received")
        behind = stand.send(client, 0, "behind")
        wait_until(lambda: stand.held() == 2, 10)
        time.sleep(0.2)  # until the pipe is full of the first one
        yield job, behind
    finally:
        process.resume()


@pytest.mark.parametrize("size", [0, 1_000_000])  # more than a pipe takes at once
def test_a_worker_that_stops_right_after_it_took_a_job_ends_it_and_itself(stand, size) -> None:
    with stand.worker() as worker, stand.client() as client:
        with a_job_that_its_process_has_not_noticed(stand, worker, client, size) as (job, behind):
            os.kill(worker.pid, signal.SIGTERM)
            worker.wait_for_log("Warm shutdown")
            if not size:  # else its process must read on first
                wait_until(lambda: stand.waiting() == [behind], 10)
        wait_until(lambda: not worker.alive(), 20)
        assert client.look(job)["status"] == "SUCCESS"
        assert stand.starts("job") == 1
        assert (stand.waiting(), stand.held()) == ([behind], 0)
        assert "FENCED" not in worker.log()


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_job_that_its_process_has_runs_once_though_the_worker_reconnects(stand, size) -> None:
    with stand.worker() as worker, stand.client() as client:
        with a_job_that_its_process_has_not_noticed(stand, worker, client, size) as (job, behind):
            stand.raw.client_kill_filter(_type="normal", skipme=True)
            worker.wait_for_log("Connection to broker lost")
            if not size:
                worker.wait_for_log(f"[{behind}] received", times=2)
        assert done(client, [job, behind])
        assert (stand.starts("job"), stand.starts("behind")) == (1, 1)
        wait_until(lambda: stand.held() == 0, 10)
        assert "FENCED" not in worker.log()


def test_a_worker_that_stops_for_long_logs_no_faults(stand: Stand) -> None:
    with stand.worker() as worker, stand.client() as client:
        job = stand.send(client, scripts.LEASE_SECONDS + 4, "job")
        wait_until(lambda: stand.starts("job") == 1, 10)
        assert worker.terminate(60) == 0
        assert client.look(job)["status"] == "SUCCESS"
        assert "Error in timer" not in worker.log()
        assert "Traceback" not in worker.log()
        assert stand.held() == 0


def test_a_worker_that_is_told_to_quit_hands_back_what_runs_too(stand: Stand) -> None:
    environment = {"CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": "0.5"}
    with stand.worker(**environment) as worker, stand.client() as client:
        running = stand.send(client, 20, "running")
        wait_until(lambda: stand.starts("running") == 1, 10)
        behind = stand.send(client, 0, "behind")
        wait_until(lambda: stand.held() == 2, 5)
        os.kill(worker.pid, signal.SIGQUIT)
        wait_until(lambda: not worker.alive(), 15)
        assert stand.waiting() == [running, behind]
        assert stand.held() == 0
        assert stand.raw.zcard(f"{stand.prefix}gristmill:leases") == 0
        assert not stand.raw.exists(f"{stand.prefix}gristmill:counts")


def test_a_job_runs_on_while_its_worker_reconnects(stand: Stand) -> None:
    with stand.worker() as worker, stand.client() as client:
        running = stand.send(client, 3, "running")
        wait_until(lambda: stand.starts("running") == 1, 10)
        behind = [stand.send(client, 0, f"behind{number}") for number in range(4)]
        for _ in range(3):
            cut = stand.raw.client_list()
            for each in cut:
                if each["addr"] != stand.raw.client_info()["addr"] and each["cmd"] != "ping":
                    stand.raw.execute_command("CLIENT", "KILL", "ID", each["id"])
            time.sleep(0.5)
        assert done(client, [running, *behind])
        assert stand.starts("running") == 1
        assert worker.alive()
        wait_until(lambda: stand.held() == 0, 3)
        assert not stand.raw.exists(f"{stand.prefix}gristmill:counts")


def test_an_idle_worker_asks_once_a_second_and_sleeps(tmp_path: Path) -> None:
    with EmbeddedServer() as server, Stand(server.url, "idle:", tmp_path).worker() as worker:
        raw = redis.Redis.from_url(server.url)
        time.sleep(1)
        parent = psutil.Process(worker.pid)

        def calls() -> int:
            stats = raw.info("commandstats")
            names = ("eval", "evalsha", "blmove", "brpop")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)

        asked, busy = calls(), sum(parent.cpu_times()[:2])
        time.sleep(4)
        assert calls() - asked <= 6
        assert sum(parent.cpu_times()[:2]) - busy < 0.2
