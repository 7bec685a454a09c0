"""Celery's own commands, such as `celery -A workers call` and `celery -A workers beat`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.conftest import Stands
from tests.compat.stand import APPS, STANDS, Stand, outcome
from tests.integration.worker import ROOT, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]

QUEUES = ["inspect", "active_queues"]


@pytest.fixture(scope="session", params=STANDS[:2])
def stand(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Give orders by the app of the worker, as its operator does."""
    return stands.stand(request.param, "--concurrency=2")


def command(stand: Stand, *words: str, app: str = "", **variables: str) -> subprocess.Popen[str]:
    """Start `celery -A <the stand's app> ...`."""
    environment = {"GRISTMILL_URL": stand.worker.url, "GRISTMILL_PREFIX": stand.prefix, **variables}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", app or APPS[stand.name][0], *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def said(started: subprocess.Popen[str], status: int = 0) -> str:
    """Return what a command prints until it ends."""
    text, _ = started.communicate(timeout=60)
    assert started.returncode == status, text
    return text


def test_tasks_are_called_and_their_results_read(stand: Stand) -> None:
    failed = command(stand, "call", "compat.fail", "--kwargs", '{"message": "sorry"}')
    done = command(stand, "call", "analytics.basic_statistics", "--args", "[[1.0, 2.0, 6.0]]")
    failure, statistics = (stand.client.AsyncResult(said(one).strip()) for one in (failed, done))
    assert outcome(failure) == ("FAILURE", "ValueError: sorry")
    assert outcome(statistics)[1]["median"] == 2.0
    trace = command(stand, "result", failure.id, "--traceback")
    answer = command(stand, "result", statistics.id)
    assert "ValueError: sorry" in said(trace)
    assert "'median': 2.0" in said(answer)


def test_workers_are_inspected(stand: Stand) -> None:
    (name,) = stand.client.control.inspect(timeout=10, limit=1).ping()
    asked = [command(stand, *words, "--json") for words in (QUEUES, ["status"])]
    queues, status = (json.loads(said(one).splitlines()[0]) for one in asked)
    assert status == {name: {"ok": "pong"}}
    assert {"analytics", "celery"} <= {queue["name"] for queue in queues[name]}


def test_workers_are_controlled(stand: Stand) -> None:
    key = stand.key()
    running = stand.task("slow", 60, key).apply_async()
    stand.wait_for_notes(key, "begun")
    said(command(stand, "control", "terminate", "SIGKILL", running.id))
    assert outcome(running) == ("REVOKED", "TaskRevokedError: terminated")


def test_a_queue_is_purged(stand: Stand) -> None:
    for number in range(3):
        stand.task("add", number, 1).set(queue="old").apply_async()
    assert "Purged 3 messages" in said(command(stand, "purge", "--force", "--queues", "old"))
    assert stand.redis.llen(f"{stand.prefix}old") == 0


def test_beat_sends_what_is_due(stand: Stand, tmp_path: Path) -> None:
    key = stand.key()
    beat = command(
        stand,
        *("beat", "--schedule", str(tmp_path / "schedule"), "--pidfile="),
        app="tests.compat.scheduled",
        COMPAT_APP=APPS[stand.name][0],
        COMPAT_KEY=key,
    )
    try:
        wait_until(lambda: len(stand.notes(key)) >= 5 or beat.poll() is not None, 30)
    finally:
        beat.send_signal(signal.SIGTERM)
        said(beat)
    assert {"tick", "3.0"} == set(stand.notes(key))
