"""The pool of processes: a dead one is noticed although the kernel is slow to say so."""

from types import SimpleNamespace
from typing import Any

import click
import pytest
from celery.bin.worker import WorkersPool, worker
from celery.concurrency.asynpool import AsynPool

import celeryconfig
from workers.prefork import ROUND_SECONDS, Pool, TaskPool


class Hub:
    """An event loop whose time a test makes pass."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_later(self, seconds: float, call: Any, *args: Any) -> None:
        self.due.append((seconds, call, args))

    def pass_time(self) -> float:
        seconds, call, args = self.due.pop()
        call(*args)
        return seconds


@pytest.fixture
def pool(monkeypatch) -> Any:
    """Make a pool of one process, which is gone after so many looks."""
    pool: Any = Pool.__new__(Pool)
    pool._pool, pool.looks, pool.gone_after = ["the process"], 0, 1

    def look() -> None:
        pool.looks += 1
        if pool.looks >= pool.gone_after:
            pool._pool = []

    pool.maintain_pool = look
    monkeypatch.setattr(AsynPool, "_untrack_child_process", lambda *_: None)
    return pool


def test_a_process_that_is_gone_is_looked_at_once(pool) -> None:
    hub = Hub()
    pool._event_process_exit(hub, "the process")
    assert (pool.looks, hub.due) == (1, [])


def test_a_process_on_its_way_out_is_looked_at_until_it_is_gone(pool) -> None:
    hub, pool.gone_after, waited = Hub(), 4, 0.0
    pool._event_process_exit(hub, "the process")
    while hub.due:
        waited += hub.pass_time()
    assert pool.looks == 4
    assert waited < 0.1


def test_a_process_that_closed_its_pipe_and_lives_is_left_to_the_rounds(pool) -> None:
    hub, pool.gone_after = Hub(), 1000
    pool._event_process_exit(hub, "the process")
    while hub.due:
        hub.pass_time()
    assert pool.looks < 10
    assert pool.timers == {pool.maintain_pool: ROUND_SECONDS}


@pytest.mark.parametrize(
    "name", ["_event_process_exit", "_flush_writer", "flush", "maintain_pool", "timers"]
)
def test_what_is_overridden_or_called_is_still_celerys(name: str) -> None:
    assert hasattr(AsynPool, name)


def test_prefork_means_our_pool_and_other_pools_are_celerys_own() -> None:
    context = click.Context(worker)
    context.obj = SimpleNamespace(app=SimpleNamespace(conf=celeryconfig))
    chosen = [WorkersPool().convert(name, None, context) for name in ("prefork", "threads")]
    assert chosen[0] is TaskPool
    assert chosen[1].__name__ == "TaskPool"
    assert chosen[1].__module__ == "celery.concurrency.thread"
