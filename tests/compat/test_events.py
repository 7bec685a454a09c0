"""Task events, as Flower and other monitors live on them."""

import time
from collections.abc import Iterator

import pytest

from tests.compat.conftest import Stands
from tests.compat.monitor import Monitor
from tests.compat.stand import SCALED, STANDS, Stand, outcome
from tests.integration.worker import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]


@pytest.fixture(scope="session", params=["stock", "ours-by-a-stock-client"])
def stand(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Listen with Celery's own client, as monitors do."""
    return stands.stand(request.param, "--concurrency=2")


@pytest.fixture
def monitor(stand: Stand) -> Iterator[Monitor]:
    with Monitor(stand) as monitor:
        yield monitor


def test_a_success_is_told_step_by_step(stand: Stand, monitor: Monitor) -> None:
    result = stand.task("add", 1, 2).apply_async()
    assert outcome(result) == ("SUCCESS", 3)
    monitor.wait_for(result.id, "task-received", "task-started", "task-succeeded")
    task = monitor.state.tasks[result.id]
    assert (task.name, task.state, task.args, task.kwargs) == (
        "compat.add",
        "SUCCESS",
        "(1, 2)",
        "{}",
    )
    assert task.result == "3"
    assert 0 < task.runtime < 5
    assert task.received <= task.started <= task.succeeded
    assert (task.root_id, task.parent_id, task.retries) == (result.id, None, 0)
    assert task.worker.alive
    assert monitor.event(result.id, "task-started")["pid"] > 0


def test_a_failure_is_told_with_its_reason(stand: Stand, monitor: Monitor) -> None:
    result = stand.task("fail", "sorry").apply_async()
    outcome(result)
    monitor.wait_for(result.id, "task-received", "task-started", "task-failed")
    task = monitor.state.tasks[result.id]
    assert (task.state, task.exception) == ("FAILURE", "ValueError('sorry')")
    assert "ValueError: sorry" in task.traceback


def test_retries_are_told(stand: Stand, monitor: Monitor) -> None:
    result = stand.task("flaky", stand.key(), 1).apply_async()
    assert outcome(result) == ("SUCCESS", 1)
    told = ["task-received", "task-started"] * 2 + ["task-retried", "task-succeeded"]
    # The second delivery is received while the worker still hears how the first one ended.
    wait_until(lambda: sorted(monitor.of(result.id)) == sorted(told), 10)
    assert monitor.of(result.id)[-1] == "task-succeeded"
    assert monitor.event(result.id, "task-retried")["exception"] == "ConnectionError('not yet')"


def test_a_revoked_task_is_told_and_how(stand: Stand, monitor: Monitor) -> None:
    key = stand.key()
    result = stand.task("slow", 60, key).apply_async()
    stand.wait_for_notes(key, "begun")
    result.revoke(terminate=True)
    outcome(result)
    monitor.wait_for(result.id, "task-received", "task-started", "task-revoked")
    event = monitor.event(result.id, "task-revoked")
    assert (event["terminated"], event["expired"]) == (True, False)
    assert event["signum"] == 15
    late = stand.task("add", 1, 1).apply_async(countdown=0.5, expires=0.1)
    outcome(late)
    monitor.wait_for(late.id, "task-received", "task-revoked")
    event = monitor.event(late.id, "task-revoked")
    assert (event["terminated"], event["expired"]) == (False, True)


def test_a_rejected_task_is_told(stand: Stand, monitor: Monitor) -> None:
    result = stand.task("refuse", stand.key(), False).apply_async()
    outcome(result)
    monitor.wait_for(result.id, "task-received", "task-started", "task-failed", "task-rejected")


def test_an_operation_is_told_like_any_task(stand: Stand, monitor: Monitor) -> None:
    result = stand.task("analytics.basic_statistics", [1.0, 2.0, 6.0]).apply_async()
    outcome(result)
    monitor.wait_for(result.id, "task-received", "task-started", "task-succeeded")
    task = monitor.state.tasks[result.id]
    assert task.args == "([1.0, 2.0, 6.0],)"
    assert "median" in task.result


def test_a_chain_tells_whose_child_is_whose(stand: Stand, monitor: Monitor) -> None:
    result = (stand.task("add", 1, 1) | stand.task("add", 1)).apply_async()
    assert outcome(result) == ("SUCCESS", 3)
    monitor.wait_for(result.id, "task-received", "task-started", "task-succeeded")
    task = monitor.state.tasks[result.id]
    assert (task.root_id, task.parent_id) == (result.parent.id, result.parent.id)


def test_a_worker_tells_that_it_lives(stand: Stand, monitor: Monitor) -> None:
    (worker,) = monitor.state.alive_workers()
    assert worker.sw_ident == "py-celery"
    assert worker.pid == stand.worker.pid


def test_what_celery_is_set_to_tell_stays_told(stand: Stand, monitor: Monitor) -> None:
    assert stand.tell("disable_events") == {"ok": "task events already disabled"}
    result = stand.task("add", 1, 1).apply_async()
    outcome(result)
    monitor.wait_for(result.id, "task-received", "task-started", "task-succeeded")


@pytest.mark.parametrize("name", STANDS[:2])
def test_events_are_turned_on_and_off(stands: Stands, name: str) -> None:
    options, variables = SCALED
    stand = stands.stand(name, *options, **variables)
    with Monitor(stand) as monitor:
        assert stand.tell("enable_events") == {"ok": "task events enabled"}
        heard = stand.task("add", 2, 2).apply_async()
        outcome(heard)
        monitor.wait_for(heard.id, "task-received", "task-started", "task-succeeded")
        assert stand.tell("disable_events") == {"ok": "task events disabled"}
        silent = stand.task("add", 1, 1).apply_async()
        outcome(silent)
        time.sleep(0.2)
        assert monitor.of(silent.id) == []
