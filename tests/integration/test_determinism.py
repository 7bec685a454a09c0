"""The same bits from every kind of pool and every delivery, as tests/determinism.py promises."""

import json
from typing import Any

import pytest

from contract.families import operation, operations
from contract.operation import Job, fields_of
from producers import Client
from tests.determinism import CASES, assert_agree
from tests.integration.worker import Worker, wait_until

pytestmark = pytest.mark.integration

Answers = dict[str, dict[str, Any]]


def submit_all() -> dict[str, Job[Any]]:
    return {
        name: operation(promise.operation).submit(**make())
        for name, (promise, make) in CASES.items()
    }


def read(job: Job[Any], seconds: float = 60) -> dict[str, Any]:
    return fields_of(job.result(timeout=seconds))


@pytest.fixture(scope="module")
def expected(shared_worker: Worker) -> Answers:
    """Return what a worker with forked processes answers."""
    with Client(shared_worker.url, timeout=60):
        return {name: read(job) for name, job in submit_all().items()}


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--pool=prefork", "--concurrency=2"], {"CELERY_WORKER_POOL_START_METHOD": "fork"}),
        (["--pool=prefork", "--concurrency=2"], {"CELERY_WORKER_POOL_START_METHOD": "spawn"}),
        (["--pool=threads", "--concurrency=3"], {}),
        (["--pool=solo"], {}),
    ],
    ids=["fork", "spawn", "threads", "solo"],
)
def test_every_kind_of_pool_gives_the_same_bits(
    options, environment, expected, server, tmp_path
) -> None:
    prefix, threads = tmp_path.name, {"NATIVE_C_THREADS": "3"}  # the kernels' own, in each pool
    with (
        Worker(server.url, tmp_path / "log", *options, prefix=prefix, **environment, **threads),
        Client(server.url, prefix=prefix, timeout=60),
    ):
        rounds = [submit_all(), submit_all()]  # so that jobs meet in the pool of threads
        used = set()
        for jobs in rounds:
            for name, job in jobs.items():
                answer, promise = read(job), CASES[name][0]
                assert_agree(answer, expected[name], promise.pools)
                if answer["backend"] == "compiled" and promise.pooled:
                    used.add(answer["threads"])
        assert used in (set(), {1, 3}, {3})


def test_a_message_that_is_delivered_twice_gives_the_same_bits(server, raw, tmp_path) -> None:
    prefix = f"{tmp_path.name}:"
    with Client(server.url, prefix=prefix, timeout=60) as client:
        jobs = submit_all()
        queues = {operation.family for operation in operations().values()}
        messages = {queue: raw.lrange(prefix + queue, 0, -1) for queue in sorted(queues)}
        assert sum(map(len, messages.values())) == len(CASES)
        with Worker(server.url, tmp_path / "log", "--concurrency=2", prefix=prefix) as worker:
            first = {name: read(job) for name, job in jobs.items()}
            for job in jobs.values():
                assert raw.delete(f"{prefix}celery-task-meta-{job.id}") == 1
            for queue, texts in messages.items():
                raw.lpush(prefix + queue, *(redelivered(text) for text in reversed(texts)))
            for name, job in jobs.items():
                promise = CASES[name][0]
                again = client.job(promise.operation, job.id)
                assert_agree(read(again), first[name], promise.redelivery)
                worker.wait_for_log(f"[{job.id}] succeeded", times=2)


def redelivered(text: bytes) -> str:
    """Return a queue entry as kombu puts it back when its worker is gone."""
    message = json.loads(text)
    message["headers"]["redelivered"] = True
    message["properties"]["delivery_info"]["redelivered"] = True
    return json.dumps(message)


@pytest.mark.timeout(300)  # the second run of a long job is on NumPy, and the machine may be busy
def test_a_job_whose_process_died_runs_on_numpy_as_near_as_backends_are(own) -> None:
    worker, _ = own
    promise, _ = CASES["fusion.connection_discovery-nearest"]
    discovery = operation(promise.operation)
    undisturbed: dict[str, Any] = {"kernel_seconds": 0.0}
    copies = 8
    while undisturbed["kernel_seconds"] < 0.5:  # long enough to be met in its middle
        copies *= 2
        undisturbed = read(discovery.submit(**many_windows(copies)), 100)
    job = discovery.submit(**many_windows(copies))
    wait_until(lambda: job.status() == "running", 20, worker.log)
    worker.children()[0].kill()
    found = read(job, 150)
    assert found["backend"] == "fallback"
    if undisturbed["backend"] == "compiled":
        (warning,) = found.pop("warnings")
        assert "A process died while it ran this job" in warning
        del undisturbed["warnings"]
        assert_agree(found, undisturbed, promise.backends)
    else:
        assert_agree(found, undisturbed, promise.redelivery)


def many_windows(copies: int) -> dict[str, Any]:
    """Return a request of so many times the windows that the promises have."""
    _, make = CASES["fusion.connection_discovery-nearest"]
    request = make()
    for name in ("embeddings", "modalities", "timestamps_ms"):
        request[name] = request[name].repeat(copies, axis=0)
    return request
