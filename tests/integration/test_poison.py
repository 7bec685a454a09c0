"""Jobs that kill the process that runs them: given up, kept as dead letters, and alone in it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.errors import DeadlineExceeded, InternalError
from contract.results import error_from_meta
from native_c import extension
from native_c.errors import ExtensionMissing
from producers import Client, mcts
from tests.integration.user_tasks import DEATHS, FATAL_VISITS
from tests.integration.worker import ROOT, Worker, wait_until

pytestmark = pytest.mark.integration

PREFIX = "poison:"
SMALL: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "log"
    options = ("--concurrency=2", "-I", "tests.integration.user_tasks")
    with Worker(server.url, log, *options, prefix=PREFIX) as worker:
        yield worker


@pytest.fixture
def client(worker: Worker) -> Iterator[Client]:
    with Client(worker.url, prefix=PREFIX, timeout=30) as client:
        yield client


@pytest.fixture
def letters(raw: redis.Redis) -> Iterator[DeadLetters]:
    letters = DeadLetters(raw, Deployment(prefix=PREFIX))
    yield letters
    letters.purge()


def send(client: Client, name: str, *args: object, **options: object) -> str:
    return client._here().app.send_task(name, args, queue="celery", **options).id


def error_of(client: Client, job_id: str, seconds: float = 20) -> Exception:
    wait_until(lambda: client.look(job_id)["status"] == "FAILURE", seconds, lambda: job_id)
    return error_from_meta(client.look(job_id))


def reserved(raw: redis.Redis) -> int:
    """Return how many messages workers hold."""
    inboxes = list(raw.scan_iter(f"{PREFIX}gristmill:inbox:*"))
    return raw.hlen(f"{PREFIX}unacked") + sum(raw.hlen(inbox) for inbox in inboxes)


@pytest.mark.parametrize("death", DEATHS)
def test_a_job_that_kills_its_process_is_given_up_alone(
    death, worker, client, raw, letters
) -> None:
    key = f"{PREFIX}{death}"
    before = time.monotonic()
    job_id = send(client, "user.killer", key, death)
    others = [mcts.ucb1_selection.submit(**SMALL) for _ in range(20)]
    error = error_of(client, job_id)
    took = time.monotonic() - before
    signal = {"stack": "SIGSEGV", "exit": "exitcode 3"}.get(death, death)
    assert isinstance(error, InternalError)
    assert "user.killer: given up, its process died 2 times, the last one of " in str(error)
    assert signal in str(error)
    assert raw.llen(f"{key}:starts") == 2
    assert [other.result().chosen.tolist() for other in others] == [[0]] * 20
    wait_until(lambda: letters.size() == 1, 5)
    (letter,) = letters.list()
    assert (letter.job, letter.task, letter.queue) == (job_id, "user.killer", "celery")
    assert letter.reason == str(error)
    assert json.loads(letter.raw)["headers"]["id"] == job_id
    wait_until(lambda: reserved(raw) == 0, 5)
    assert worker.alive()
    assert took < 8, f"given up after {took:.1f} s"


def test_a_job_whose_kernel_crashes_is_answered_by_numpy(server, tmp_path, raw) -> None:
    try:
        extension.load()
    except ExtensionMissing:
        pytest.skip("without C kernels none of them crashes")
    prefix = "crash:"
    options = ("--concurrency=1", "-I", "tests.integration.crashing_kernel")
    here = {"prefix": prefix, "NATIVE_C_BACKEND": "compiled"}
    with (
        Worker(server.url, tmp_path / "log", *options, **here) as worker,
        Client(server.url, prefix=prefix, timeout=30),
    ):
        fatal = {**SMALL, "visits": [[FATAL_VISITS, 2]], "parent_visits": [668]}
        answer = mcts.ucb1_selection(**fatal)
        assert answer.backend == "fallback"
        assert "A process died while it ran this job" in answer.warnings[0]
        assert answer.chosen.tolist() == [1]
        assert mcts.ucb1_selection(**SMALL).backend == "compiled"
        wait_until(lambda: not list(raw.scan_iter(f"{prefix}gristmill:inbox:*")), 5)
        wait_until(lambda: not raw.exists(f"{prefix}gristmill:counts"), 5)
        assert raw.xlen(f"{prefix}gristmill:dead") == 0
        assert worker.alive()


#: Sends a chain and a chord that begin with a killer, and prints the ids that their callers wait
#: for. In a process of its own: Celery's result objects leave subscriptions and sockets behind.
CANVAS = """
import sys
from celery import chord
from contract.deployment import Deployment
from producers.process import celery_app

app = celery_app(Deployment(url=sys.argv[1], prefix=sys.argv[2]))

def call(name, *args):
    return app.signature(name, args).set(queue="celery")

key = sys.argv[2]
chain = (call("user.killer", key + "chain", "exit") | call("user.add", 1)).apply_async()
header = [call("user.add", 1, 2), call("user.killer", key + "chord", "exit")]
print(chain.id, chord(header, app=app)(call("user.mean_of")).id)
"""


def test_those_who_wait_for_a_killer_are_told(worker, client, raw, letters) -> None:
    command = [sys.executable, "-c", CANVAS, worker.url, PREFIX]
    sent = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for waited_for in sent.stdout.split():
        assert "given up" in str(error_of(client, waited_for))
    wait_until(lambda: letters.size() == 2, 5)


def test_a_hard_time_limit_ends_a_job_in_c_and_is_no_poison(worker, client, raw, letters) -> None:
    before = time.monotonic()
    error = error_of(client, send(client, "user.hang"))
    assert isinstance(error, DeadlineExceeded)
    assert time.monotonic() - before < 6
    wait_until(lambda: reserved(raw) == 0, 5)
    assert letters.size() == 0


def test_a_killer_that_is_replayed_is_judged_anew(worker, client, raw, letters) -> None:
    key = f"{PREFIX}replayed"
    job_id = send(client, "user.killer", key, "exit")
    error_of(client, job_id)
    wait_until(lambda: letters.size() == 1, 5)
    wait_until(lambda: reserved(raw) == 0, 5)
    (letter,) = letters.list()
    raw.delete(f"{PREFIX}gristmill:losses:{job_id}")
    letters.replay(letter.id)
    assert client.look(job_id)["status"] == "PENDING"
    error_of(client, job_id)
    assert raw.llen(f"{key}:starts") == 4
