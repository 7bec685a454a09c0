"""Many jobs in one message: each with its own end, also where one kills who runs it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.errors import InternalError, JobCancelled
from producers import Client, analytics, mcts
from tests.integration.killing_kernel import DEADLY
from tests.integration.worker import Worker, wait_until

pytestmark = pytest.mark.integration

PREFIX = "batches:"
SMALL: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "log"
    options = ("--concurrency=2", "-I", "tests.integration.killing_kernel")
    with Worker(server.url, log, *options, prefix=PREFIX) as worker:
        yield worker


@pytest.fixture
def client(worker: Worker) -> Iterator[Client]:
    with Client(worker.url, prefix=PREFIX, timeout=30) as client:
        yield client


def reserved(raw: redis.Redis) -> int:
    return sum(raw.hlen(inbox) for inbox in raw.scan_iter(f"{PREFIX}gristmill:inbox:*"))


def test_a_thousand_jobs_in_three_messages_each_have_their_result(
    client: Client, raw: redis.Redis
) -> None:
    draw = np.random.default_rng(1)
    data = [draw.normal(size=size) for size in draw.integers(1, 300, size=1100)]
    jobs = analytics.basic_statistics.submit_many(data)
    assert len({job.id.partition(".")[0] for job in jobs}) == 3
    for values, job in zip(data, jobs, strict=True):
        assert job.result().mean == pytest.approx(values.mean(), abs=1e-12)
    wait_until(lambda: reserved(raw) == 0, 5)


def test_cancelling_one_of_many_leaves_the_others(client: Client) -> None:
    # So large that each has a message to itself, and the wish comes before the last one's turn.
    draw = np.random.default_rng(2)
    requests = [{"values": draw.normal(size=400_000)} for _ in range(12)]
    jobs = analytics.basic_statistics.submit_many(requests)
    jobs[11].cancel()
    with pytest.raises(JobCancelled):
        jobs[11].result()
    assert all(job.result().count == 400_000 for job in jobs[:11])


def test_only_the_item_that_kills_its_process_is_lost(client: Client, raw: redis.Redis) -> None:
    letters = DeadLetters(raw, Deployment(prefix=PREFIX))
    requests = [SMALL] * 100
    requests[41] = {**SMALL, "visits": [[DEADLY, 1]]}
    jobs = mcts.ucb1_selection.submit_many(requests)
    for index, job in enumerate(jobs):
        if index == 41:
            with pytest.raises(InternalError, match="given up, its process died 2 times"):
                job.result()
        else:
            assert job.result().chosen.tolist() == [0]
    wait_until(lambda: reserved(raw) == 0 and letters.size() == 1, 5)
    (letter,) = letters.list()
    assert (letter.job, letter.task) == (jobs[41].id, "mcts.ucb1_selection")
