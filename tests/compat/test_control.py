"""Remote control: revoking, asking a worker what it does, and telling it what to do."""

import time
from collections.abc import Iterator

import pytest
from celery import group

from tests.compat.conftest import Stands
from tests.compat.stand import Stand, outcome, outcomes
from tests.integration.worker import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]

#: Waits until the worker has heard.
ANSWERED = {"reply": True, "timeout": 10.0, "limit": 1}


@pytest.fixture(scope="session", params=["stock", "ours-by-a-stock-client"])
def stand(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Give orders with Celery's own client; test_command_line.py gives them with ours."""
    return stands.stand(request.param, "--concurrency=2")


@pytest.fixture
def busy(stand: Stand) -> Iterator[list[str]]:
    """Keep both processes of the worker busy; return the ids of the two tasks."""
    key = stand.key()
    held = [stand.task("slow", 60, key).apply_async() for _ in range(2)]
    stand.wait_for_notes(key, "begun", "begun")
    yield [one.id for one in held]
    stand.client.control.revoke([one.id for one in held], terminate=True)
    assert [outcome(one)[0] for one in held] == ["REVOKED", "REVOKED"]


def test_a_task_that_waits_is_revoked_and_never_runs(stand: Stand, busy: list[str]) -> None:
    key = stand.key()
    waiting = [stand.task("note", key, "ran").apply_async() for _ in range(6)]
    stand.client.control.revoke([one.id for one in waiting], **ANSWERED)
    stand.client.control.revoke(busy, terminate=True)
    assert [outcome(one) for one in waiting] == [("REVOKED", "TaskRevokedError: revoked")] * 6
    assert stand.notes(key) == []
    assert {one.id for one in waiting} <= set(stand.inspect("revoked"))


def test_a_task_that_runs_is_terminated_and_does_not_run_again(stand: Stand) -> None:
    key = stand.key()
    result = stand.task("slow", 60, key).apply_async()
    stand.wait_for_notes(key, "begun")
    result.revoke(terminate=True)
    assert outcome(result) == ("REVOKED", "TaskRevokedError: terminated")
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)
    assert stand.notes(key) == ["begun"]


def test_a_task_is_killed_by_the_signal_that_is_asked_for(stand: Stand) -> None:
    key = stand.key()
    result = stand.task("slow", 60, key).apply_async()
    stand.wait_for_notes(key, "begun")
    result.revoke(terminate=True, signal="SIGKILL")
    assert outcome(result) == ("REVOKED", "TaskRevokedError: terminated")
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)
    assert stand.notes(key) == ["begun"]


def test_a_task_that_waits_for_its_time_is_revoked(stand: Stand) -> None:
    key = stand.key()
    result = stand.task("note", key, "ran").apply_async(countdown=1.0)
    wait_until(lambda: result.id in _ids(stand.inspect("scheduled")), 10)
    result.revoke()
    assert outcome(result) == ("REVOKED", "TaskRevokedError: revoked")
    assert stand.notes(key) == []


def test_all_members_of_a_group_are_revoked(stand: Stand, busy: list[str]) -> None:
    result = group([stand.task("add", k, k) for k in range(3)], app=stand.client).apply_async()
    result.revoke()
    time.sleep(0.2)
    stand.client.control.terminate(busy)
    assert outcomes(result) == [("REVOKED", "TaskRevokedError: revoked")] * 3


def test_tasks_are_revoked_by_their_stamps(stand: Stand, busy: list[str]) -> None:
    stamped = stand.task("add", 1, 1)
    stamped.stamp(ticket="t-7")
    marked, other = stamped.apply_async(), stand.task("add", 2, 2).apply_async()
    stand.client.control.revoke_by_stamped_headers({"ticket": ["t-7"]}, **ANSWERED)
    stand.client.control.revoke(busy, terminate=True)
    assert outcome(marked) == ("REVOKED", "TaskRevokedError: revoked")
    assert outcome(other) == ("SUCCESS", 4)


def _ids(entries: list[dict]) -> list[str]:
    return [entry.get("request", entry)["id"] for entry in entries]


def test_a_worker_tells_what_it_does_has_and_waits_for(stand: Stand, busy: list[str]) -> None:
    waiting = stand.task("add", 1, 1).apply_async()
    later = stand.task("add", 2, 2).apply_async(countdown=3600)
    wait_until(lambda: _ids(stand.inspect("reserved")) == [waiting.id], 10)
    active = stand.inspect("active")
    assert sorted(_ids(active)) == sorted(busy)
    assert {entry["name"] for entry in active} == {"compat.slow"}
    assert all(entry["worker_pid"] and entry["time_start"] for entry in active)
    wait_until(lambda: later.id in _ids(stand.inspect("scheduled")), 10)
    asked = stand.inspect("query_task", [busy[0], waiting.id, "nobody"])
    assert {task_id: state for task_id, (state, _) in asked.items()} == {
        busy[0]: "active",
        waiting.id: "reserved",
    }
    later.revoke()
    stand.client.control.revoke([waiting.id, *busy], terminate=True)
    assert outcome(waiting) == ("REVOKED", "TaskRevokedError: revoked")


def test_a_worker_answers_what_celery_and_flower_ask(stand: Stand) -> None:
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)
    assert stand.inspect("ping") == {"ok": "pong"}
    registered = stand.inspect("registered")
    assert {"compat.add", "analytics.basic_statistics"} <= set(registered)
    queues = {queue["name"] for queue in stand.inspect("active_queues")}
    assert queues == {"analytics", "fusion", "optimization", "mcts", "celery"}
    stats = stand.inspect("stats")
    assert stats["pool"]["max-concurrency"] == 2
    assert len(stats["pool"]["processes"]) == 2
    assert stats["total"]["compat.add"] > 0
    assert stats["broker"]["transport"] == stand.on(
        stock="redis", ours="gristmill", because="The transport is called `gristmill`"
    )
    assert stand.inspect("conf")["worker_prefetch_multiplier"] == 2
    assert stand.inspect("report")["ok"].startswith("\nsoftware -> celery:5")
    assert stand.inspect("clock")["clock"] > 0
    assert stand.inspect("memsample") is not None


def test_a_worker_that_is_not_addressed_does_not_answer(stand: Stand) -> None:
    (name,) = stand.client.control.inspect(timeout=10, limit=1).ping()
    assert stand.client.control.ping(destination=[name], timeout=10) == [{name: {"ok": "pong"}}]
    assert stand.client.control.ping(destination=["nobody@nowhere"], timeout=0.2) == []


def test_a_rate_limit_spreads_tasks_out_and_is_lifted(stand: Stand) -> None:
    assert "ok" in stand.tell("rate_limit", "compat.note", "4/s")
    key = stand.key()
    started = time.monotonic()
    for word in "abcd":
        stand.task("note", key, word).apply_async()
    stand.wait_for_notes(key, *"abcd")
    took = time.monotonic() - started
    assert 0.6 < took < 8  # the first at once, and one each quarter of a second
    assert "ok" in stand.tell("rate_limit", "compat.note", 0)
    started = time.monotonic()
    last = [stand.task("note", key, word).apply_async() for word in "efghijklmnop"]
    assert [outcome(one)[0] for one in last] == ["SUCCESS"] * 12
    assert time.monotonic() - started < 3


def test_a_rate_limit_of_an_operation_holds(stand: Stand) -> None:
    assert "ok" in stand.tell("rate_limit", "analytics.basic_statistics", "4/s")
    started = time.monotonic()
    jobs = [stand.task("analytics.basic_statistics", [1.0]).apply_async() for _ in range(4)]
    assert [outcome(job)[0] for job in jobs] == ["SUCCESS"] * 4
    assert 0.6 < time.monotonic() - started < 8
    assert "ok" in stand.tell("rate_limit", "analytics.basic_statistics", 0)


def test_a_time_limit_by_name_is_taken_note_of(stand: Stand) -> None:
    assert stand.tell("time_limit", "compat.patient", soft=0.2, hard=30) == {
        "ok": "time limits set successfully"
    }
    # Celery 5.7 binds a task's limits when its worker starts, so the command changes nothing.
    assert outcome(stand.task("patient", 0.6, stand.key()).apply_async()) == ("SUCCESS", "slept")
    stand.tell("time_limit", "compat.patient")


def test_a_pool_grows_and_shrinks(stand: Stand) -> None:
    assert stand.tell("pool_grow", 1) == {"ok": "pool will grow"}
    wait_until(lambda: len(stand.inspect("stats")["pool"]["processes"]) == 3, 10)
    keys = [stand.key() for _ in range(3)]
    held = [stand.task("slow", 0.5, key).apply_async() for key in keys]
    for key in keys:
        stand.wait_for_notes(key, "begun", "ended")
    assert [outcome(one) for one in held] == [("SUCCESS", "slept")] * 3
    assert stand.tell("pool_shrink", 1) == {"ok": "pool will shrink"}
    wait_until(lambda: len(stand.inspect("stats")["pool"]["processes"]) == 2, 10)
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)


def test_consumers_come_and_go(stand: Stand) -> None:
    queue = f"{stand.name}-extra"
    waiting = stand.task("add", 1, 1).set(queue=queue).apply_async()
    time.sleep(0.2)
    assert waiting.state == "PENDING"
    assert stand.tell("add_consumer", queue) == {"ok": f"add consumer {queue}"}
    assert outcome(waiting) == ("SUCCESS", 2)
    assert queue in {entry["name"] for entry in stand.inspect("active_queues")}
    assert stand.tell("cancel_consumer", queue) == {"ok": f"no longer consuming from {queue}"}
    assert queue not in {entry["name"] for entry in stand.inspect("active_queues")}
    left = stand.task("add", 2, 2).set(queue=queue).apply_async()
    time.sleep(1.5)  # longer than any read that was under way
    assert left.state == "PENDING"
    assert stand.redis.llen(f"{stand.prefix}{queue}") == 1
    assert stand.tell("add_consumer", queue) == {"ok": f"add consumer {queue}"}
    assert outcome(left) == ("SUCCESS", 4)
    stand.tell("cancel_consumer", queue)


def test_a_queue_is_purged(stand: Stand) -> None:
    queue = f"{stand.name}-purged"
    waiting = [stand.task("add", 1, 1).set(queue=queue).apply_async() for _ in range(3)]
    with stand.client.connection_for_write() as connection:
        assert connection.default_channel.queue_purge(queue) == 3
    assert stand.redis.llen(f"{stand.prefix}{queue}") == 0
    assert [one.state for one in waiting] == ["PENDING"] * 3


def test_a_worker_is_shut_down_and_finishes_what_it_runs(spare: Stand) -> None:
    key = spare.key()
    running, waiting = (spare.task("slow", 1.0, key).apply_async() for _ in range(2))
    spare.wait_for_notes(key, "begun")
    spare.client.control.shutdown()
    wait_until(lambda: not spare.worker.alive(), 15, spare.worker.log)
    assert outcome(running) == ("SUCCESS", "slept")
    # What had not begun is back in its queue, for the next worker.
    assert (spare.notes(key), waiting.state) == (["begun", "ended"], "PENDING")
    assert spare.redis.llen(f"{spare.prefix}celery") == 1
    assert spare.worker.status() == 0
