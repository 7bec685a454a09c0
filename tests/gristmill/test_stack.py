"""A whole deployment started from one object, and what it says when a part does not start."""

from pathlib import Path

import pytest

from gristmill import stack
from gristmill.stack import Stack, StackError
from producers import Client, mcts
from tests.gristmill.processes import alive

pytestmark = pytest.mark.integration


def test_a_stack_serves_jobs_and_is_gone_afterwards(tmp_path: Path) -> None:
    with Stack(concurrency=1, logs=tmp_path) as running, Client(running.url):
        assert running.ended == ""
        assert mcts.ucb1_selection([[1, 2]], [[0.5, 1.0]], [3]).chosen.tolist() == [0]
        pid = running.server.pid
    assert not alive(pid)
    assert running.ended == "server"
    log = (tmp_path / "worker.log").read_text()
    assert "ready." in log
    assert "Warm shutdown" in log


def test_a_worker_that_dies_at_start_is_named(tmp_path: Path) -> None:
    broken = Stack(logs=tmp_path, environment={"CELERY_BROKER_URL": "nonsense://"})
    with pytest.raises(StackError, match="worker: ended at start"):
        broken.start()
    assert not broken.server.running
    assert "nonsense" in (tmp_path / "worker.log").read_text()


def test_a_worker_that_does_not_answer_is_named_and_stopped(tmp_path: Path) -> None:
    elsewhere = {"GRISTMILL_PREFIX": "elsewhere:"}
    deaf = Stack(concurrency=1, logs=tmp_path, environment=elsewhere, start_timeout=0.1)
    with pytest.raises(StackError, match="worker: no answer, expected one within 0"):
        deaf.start()
    assert deaf.worker is not None
    assert deaf.worker.status is not None
    assert not deaf.server.running


def test_flower_is_asked_for_in_vain_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "flower_is_installed", lambda: False)
    bare = Stack(logs=tmp_path, flower=True)
    with pytest.raises(StackError, match=r"flower: not installed, expected .pip install"):
        bare.start()
    assert not bare.server.running
