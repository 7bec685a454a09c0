"""Results: waiting, looking, iterating, forgetting, and what a failed task leaves behind."""

import time

import pytest
from celery import group
from celery.exceptions import TimeoutError as StillWaiting
from celery.result import allow_join_result, result_from_tuple

from tests.compat.stand import Stand, outcome
from tests.integration.worker import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]


def test_get_returns_the_answer_however_often(stand: Stand) -> None:
    result = stand.task("add", 1, 2).apply_async()
    assert [result.get(timeout=20) for _ in range(3)] == [3, 3, 3]
    assert stand.client.AsyncResult(result.id).get(timeout=20) == 3
    assert (result.state, result.ready(), result.successful(), result.failed()) == (
        "SUCCESS",
        True,
        True,
        False,
    )
    assert result.date_done is not None
    assert result.result == result.info == 3


def test_get_raises_what_the_task_raised(stand: Stand) -> None:
    result = stand.task("fail", "sorry").apply_async()
    with pytest.raises(ValueError, match=r"^sorry$"):
        result.get(timeout=20)
    assert (result.state, result.ready(), result.successful(), result.failed()) == (
        "FAILURE",
        True,
        False,
        True,
    )
    assert result.traceback.rstrip().endswith("ValueError: sorry")
    assert isinstance(result.get(propagate=False), ValueError)


def test_waiting_ends_in_time(stand: Stand) -> None:
    result = stand.task("add", 1, 1).set(queue=f"{stand.prefix}deserted").apply_async()
    started = time.monotonic()
    with pytest.raises(StillWaiting):
        result.get(timeout=0.3)
    assert 0.25 < time.monotonic() - started < 5
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)
    stand.redis.delete(f"{stand.prefix}{stand.prefix}deserted")


def test_an_unknown_id_is_pending(stand: Stand) -> None:
    result = stand.client.AsyncResult("nobody")
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)


def test_a_forgotten_result_is_gone(stand: Stand) -> None:
    result = stand.task("add", 1, 2).apply_async()
    result.get(timeout=20)
    assert stand.redis.exists(f"{stand.prefix}celery-task-meta-{result.id}")
    result.forget()
    assert not stand.redis.exists(f"{stand.prefix}celery-task-meta-{result.id}")
    assert stand.client.AsyncResult(result.id).state == "PENDING"


def test_results_and_failures_have_their_time_to_live(stand: Stand) -> None:
    done, failed = stand.task("add", 1, 2).apply_async(), stand.task("fail").apply_async()
    outcome(done), outcome(failed)
    ttl = [stand.redis.ttl(f"{stand.prefix}celery-task-meta-{one.id}") for one in (done, failed)]
    assert ttl == [pytest.approx(24 * 3600, abs=60), pytest.approx(7 * 24 * 3600, abs=60)]


@pytest.mark.parametrize("how", ["by the task", "by the call"])
def test_an_ignored_result_is_not_kept(stand: Stand, how: str) -> None:
    key = stand.key()
    task = stand.task("silent", key)
    if how == "by the call":
        task = stand.task("note", key, "ran").set(ignore_result=True)
    result = task.apply_async()
    stand.wait_for_notes(key, "ran")
    after = stand.task("add", 1, 1).apply_async()
    assert outcome(after) == ("SUCCESS", 2)
    assert not stand.redis.exists(f"{stand.prefix}celery-task-meta-{result.id}")


def test_progress_of_a_users_own_is_seen_while_waiting(stand: Stand) -> None:
    seen: list[dict] = []
    result = stand.task("tell", 3, 0.1).apply_async()
    assert result.get(timeout=20, on_message=seen.append) == "told"
    steps = [message["result"]["step"] for message in seen if message["status"] == "PROGRESS"]
    assert steps
    assert steps == sorted(steps)
    assert seen[-1]["status"] == "SUCCESS"


def test_a_task_that_says_its_own_state_keeps_it(stand: Stand) -> None:
    result = stand.task("ignored", "ODD").apply_async()
    wait_until(lambda: result.state == "ODD", 20)
    assert result.info == {"by": "itself"}
    assert not result.ready()


def test_a_callback_hears_each_answer_of_a_group(stand: Stand) -> None:
    heard: dict[str, int] = {}
    result = group([stand.task("add", k, k) for k in range(4)], app=stand.client).apply_async()
    result.get(timeout=20, callback=heard.__setitem__)
    assert heard == {member.id: 2 * k for k, member in enumerate(result.results)}


def test_then_is_called_with_the_result(stand: Stand) -> None:
    heard: list[int] = []
    result = stand.task("add", 2, 2).apply_async()
    result.then(lambda done: heard.append(done.result))
    result.get(timeout=20)
    assert heard == [4]


def test_a_group_is_asked_how_far_it_is(stand: Stand) -> None:
    members = [stand.task("add", 1, 1), stand.task("add", 2, 2), stand.task("fail")]
    result = group(members, app=stand.client).apply_async()
    wait_until(result.ready, 20)
    assert result.completed_count() == 2
    assert (result.successful(), result.failed(), result.waiting()) == (False, True, False)
    assert len(result) == 3
    with pytest.raises(ValueError, match="no luck"):
        result.get(timeout=20)
    with pytest.raises(ValueError, match="no luck"):
        result.join(timeout=20)
    answers = result.get(timeout=20, propagate=False)
    assert answers[:2] == [2, 4]
    assert isinstance(answers[2], ValueError)


def test_a_group_is_joined_and_iterated(stand: Stand) -> None:
    result = group([stand.task("add", k, k) for k in range(5)], app=stand.client).apply_async()
    doubled = [2 * k for k in range(5)]
    assert result.join(timeout=20) == doubled
    assert result.join_native(timeout=20) == doubled
    native = {task_id: meta["result"] for task_id, meta in result.iter_native(timeout=20)}
    assert [native[member.id] for member in result.results] == doubled
    assert [member.get(timeout=20) for member in result] == doubled


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's
def test_a_group_is_saved_restored_and_forgotten(stand: Stand) -> None:
    result = group([stand.task("add", k, k) for k in range(3)], app=stand.client).apply_async()
    result.save()
    restored = stand.client.GroupResult.restore(result.id)
    assert restored == result
    assert restored.get(timeout=20) == [0, 2, 4]
    restored.delete()
    assert stand.client.GroupResult.restore(result.id) is None
    result.forget()
    assert [member.state for member in result.results] == ["PENDING"] * 3


def test_children_are_collected(stand: Stand) -> None:
    steps = stand.task("add", 1, 1) | stand.task("add", 10)
    last = steps.apply_async()
    last.get(timeout=20)
    first = stand.client.AsyncResult(last.parent.id)
    assert [child.id for child in first.children] == [last.id]
    with allow_join_result():
        assert [value for _, value in first.collect()] == [2, 12]


def test_a_result_survives_the_way_through_a_tuple(stand: Stand) -> None:
    result = (stand.task("add", 1, 1) | stand.task("add", 10)).apply_async()
    again = result_from_tuple(result.as_tuple(), app=stand.client)
    assert (again.get(timeout=20), again.parent.get(timeout=20)) == (12, 2)


def test_a_duplicate_of_a_job_that_succeeded_is_not_run_again(stand: Stand) -> None:
    key = stand.key()
    first = stand.task("note", key, "ran").apply_async()
    assert outcome(first) == ("SUCCESS", "ran")
    stand.task("note", key, "ran").apply_async(task_id=first.id)
    assert outcome(stand.task("add", 1, 1).apply_async()) == ("SUCCESS", 2)
    time.sleep(0.2)
    assert stand.notes(key) == ["ran", "ran"]
