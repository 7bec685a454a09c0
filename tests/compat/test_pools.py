"""The core of it in every kind of pool: prefork that scales itself or spawns, threads, solo."""

import time
from typing import Any

import pytest
from celery import chord, group

from tests.compat.conftest import Stands
from tests.compat.stand import SCALED, STANDS, Stand, outcome
from tests.integration.worker import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]

POOLS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "autoscale": SCALED,
    "spawn": (("--concurrency=1",), {"CELERY_WORKER_POOL_START_METHOD": "spawn"}),
    "threads": (("--pool=threads", "--concurrency=2"), {}),
    "solo": (("--pool=solo",), {}),
}


@pytest.fixture(scope="session", params=STANDS[:2])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pooled(stands: Stands, kind: str, pool: str) -> Stand:
    options, variables = POOLS[pool]
    return stands.stand(kind, *options, **variables)


def test_the_core_of_celery_works_in_each_pool(pooled: Stand) -> None:
    key = pooled.key()
    chained = pooled.task("add", 1, 2) | pooled.task("add", 10)
    mixed = pooled.task("analytics.basic_statistics", [1.0, 2.0, 6.0]) | pooled.task("mean_of")
    collected = chord(
        [pooled.task("add", k, k) for k in range(4)], pooled.task("total"), app=pooled.client
    )
    broken = chord(
        [pooled.task("add", 1, 1), pooled.task("fail", "m")],
        pooled.task("total"),
        app=pooled.client,
    )
    sent = {
        "chain": chained.apply_async(),
        "mixed": mixed.apply_async(),
        "chord": collected.apply_async(),
        "error": pooled.task("fail", "sorry").apply_async(),
        "retry": pooled.task("flaky", key, 2).apply_async(),
        "countdown": pooled.task("add", 1, 1).apply_async(countdown=0.5),
        "expired": pooled.task("add", 1, 1).apply_async(countdown=0.5, expires=0.1),
        "replaced": pooled.task("become", "chord").apply_async(),
    }
    ended = {name: outcome(result) for name, result in sent.items()}
    failed = broken.apply_async()
    assert outcome(failed)[1].endswith("raised ValueError('m')")
    assert ended == {
        "chain": ("SUCCESS", 13),
        "mixed": ("SUCCESS", 3.0),
        "chord": ("SUCCESS", 12),
        "error": ("FAILURE", "ValueError: sorry"),
        "retry": ("SUCCESS", 2),
        "countdown": ("SUCCESS", 2),
        "expired": ("REVOKED", "TaskRevokedError: expired"),
        "replaced": ("SUCCESS", 6),
    }
    adds = group([pooled.task("add", k, k) for k in range(30)], app=pooled.client).apply_async()
    assert adds.get(timeout=20) == [2 * k for k in range(30)]


def test_each_pool_is_asked_and_told(pooled: Stand, pool: str) -> None:
    assert pooled.inspect("ping") == {"ok": "pong"}
    assert "compat.add" in pooled.inspect("registered")
    assert pooled.inspect("stats")["pool"]["max-concurrency"] >= 1
    key = pooled.key()
    late = pooled.task("note", key, "ran").apply_async(countdown=0.5)
    late.revoke()
    assert outcome(late) == ("REVOKED", "TaskRevokedError: revoked")
    assert pooled.notes(key) == []


def test_a_worker_that_scales_itself_follows_the_load(stands: Stands, kind: str) -> None:
    options, variables = SCALED
    stand = stands.stand(kind, *options, **variables)
    held = [stand.task("slow", 0.5, stand.key()).apply_async() for _ in range(6)]
    wait_until(lambda: len(stand.worker.children()) == 3, 10, stand.worker.log)
    assert [outcome(one) for one in held] == [("SUCCESS", "slept")] * 6
    wait_until(lambda: len(stand.worker.children()) == 1, 15, stand.worker.log)
    assert stand.tell("autoscale", 2, 1) == {"ok": "autoscale now max=2 min=1"}
    assert stand.tell("autoscale", 3, 1) == {"ok": "autoscale now max=3 min=1"}
    assert "pool_grow is not supported" in stand.tell("pool_grow", 1)["error"]
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)


def test_a_terminated_task_ends_in_each_pool(pooled: Stand, kind: str, pool: str) -> None:
    if pool == "solo":
        pytest.skip("a solo worker hears nothing while a task runs, on both stands")
    key = pooled.key()
    running = pooled.task("slow", 2.0, key).apply_async()
    pooled.wait_for_notes(key, "begun")
    running.revoke(terminate=True)
    if pool == "threads":
        # No thread can be ended from outside: a user's task goes on, and keeps its answer.
        assert outcome(running) == ("SUCCESS", "slept")
    else:
        assert outcome(running) == ("REVOKED", "TaskRevokedError: terminated")
    started = time.monotonic()
    assert outcome(pooled.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)
    assert time.monotonic() - started < 10
