"""Celery's own ways to combine tasks, seen by a stock client, over our results."""

import json
import time
import uuid
from collections.abc import Iterator

import pytest
import redis
from celery import Celery, chain, chord, group

from tests.integration.worker import Worker, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

PREFIX = "canvas:"


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("canvas") / "log"
    options = ("--concurrency=2", "-I", "tests.integration.user_tasks")
    with Worker(server.url, log, *options, prefix=PREFIX) as worker:
        yield worker


@pytest.fixture
def stock(worker: Worker) -> Iterator[Celery]:
    """Give a Celery that has never heard of us."""
    app = Celery(broker=worker.url, backend=worker.url, set_as_current=False)
    app.conf.update(
        broker_transport_options={"global_keyprefix": PREFIX},
        result_backend_transport_options={"global_keyprefix": PREFIX},
        task_default_queue="celery",
    )
    yield app
    app.backend.client.close()
    app.close()


def test_a_group_gives_all_its_results(stock: Celery) -> None:
    adds = group(stock.signature("user.add", (k, 1.0)) for k in range(8))
    assert adds.apply_async().get(timeout=20) == [k + 1.0 for k in range(8)]


def test_a_chord_runs_its_body_once_with_every_part(stock: Celery) -> None:
    parts = [stock.signature("user.add", (k, 1.0)) for k in range(8)]
    body = chord(parts, stock.signature("user.total"))
    assert body.apply_async().get(timeout=20) == sum(k + 1.0 for k in range(8))


def test_a_chord_with_a_part_that_fails_fails(stock: Celery) -> None:
    parts = [stock.signature("user.add", (1, 1.0)), stock.signature("user.fail")]
    with pytest.raises(Exception, match="as it should"):
        chord(parts, stock.signature("user.total")).apply_async().get(timeout=20)


def test_a_chord_of_chains_runs(stock: Celery) -> None:
    add = stock.signature("user.add", (1.0,))
    steps = [chain(stock.signature("user.add", (k, 1.0)), add.clone()) for k in range(3)]
    assert chord(steps, stock.signature("user.total")).apply_async().get(timeout=20) == 9.0


def test_a_chain_gives_its_last_result_and_each_on_its_way(stock: Celery) -> None:
    add = stock.signature("user.add", (2.0,))
    last = chain(stock.signature("user.add", (1.0, 1.0)), add, add.clone()).apply_async()
    assert last.get(timeout=20) == 6.0
    assert (last.parent.get(timeout=5), last.parent.parent.get(timeout=5)) == (4.0, 2.0)


def test_a_chain_that_fails_in_its_middle_fails_at_its_end(stock: Celery) -> None:
    steps = [stock.signature("user.fail"), stock.signature("user.add", (2.0,))]
    last = chain(stock.signature("user.add", (1.0, 1.0)), *steps).apply_async()
    with pytest.raises(ValueError, match="as it should"):
        last.get(timeout=20)
    # Without what its parents tell: the end of the chain has an end of its own.
    wait_until(lambda: stock.AsyncResult(last.id).state == "FAILURE", 10)


def test_a_job_that_is_tried_again_ends_with_its_last_try(stock: Celery) -> None:
    assert stock.send_task("user.flaky").get(timeout=20) == 1


def test_a_task_that_is_acknowledged_before_it_runs_ends(stock: Celery) -> None:
    early = stock.signature("user.early", (0.5,))
    assert early.apply_async().get(timeout=20) == 0.5
    chain_of_two = chain(early, stock.signature("user.add", (1.0,)))
    assert chain_of_two.apply_async().get(timeout=20) == 1.5
    assert chord([early, early.clone()], stock.signature("user.total")).delay().get(timeout=20) == 1


def test_a_task_whose_result_nobody_wants_stores_none(stock: Celery, worker: Worker) -> None:
    silent = stock.send_task("user.silent")
    asked = stock.send_task("user.add", (1.0, 2.0), ignore_result=True)
    for job in (silent, asked):
        worker.wait_for_log(f"[{job.id}] succeeded")
        assert stock.AsyncResult(job.id).state == "PENDING"


def test_an_errback_is_called_once(stock: Celery, worker: Worker) -> None:
    errback = stock.signature("user.silent", immutable=True).set(task_id=str(uuid.uuid4()))
    stock.send_task("user.fail", link_error=errback)
    worker.wait_for_log(f"[{errback.id}] succeeded")
    time.sleep(0.3)
    assert worker.log().count(f"[{errback.id}] succeeded") == 1


def test_a_message_that_comes_twice_has_one_result(stock: Celery, worker, server) -> None:
    with redis.Redis.from_url(server.url) as raw:
        job_id = str(uuid.uuid4())
        key = f"{PREFIX}celery-task-meta-{job_id}"
        stock.send_task("user.add", (1.0, 2.0), task_id=job_id, queue="elsewhere")
        entry = raw.rpop(f"{PREFIX}elsewhere")
        other = json.loads(entry)
        other["properties"]["delivery_tag"] = str(uuid.uuid4())
        raw.lpush(f"{PREFIX}celery", entry, json.dumps(other))
        worker.wait_for_log(f"[{job_id}] succeeded")
        first = raw.get(key)
        worker.wait_for_log(f"[{job_id}] succeeded", times=2)
        assert raw.get(key) == first
        assert stock.AsyncResult(job_id).get(timeout=5) == 3.0
