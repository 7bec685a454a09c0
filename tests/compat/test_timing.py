"""Time: countdown, ETA, expiry, retries, time limits, and what a task refuses."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.compat.stand import Stand, outcome

pytestmark = [pytest.mark.integration, pytest.mark.compat]


def test_a_countdown_is_waited_for(stand: Stand) -> None:
    started = time.monotonic()
    assert outcome(stand.task("add", 1, 2).set(countdown=1.0).apply_async()) == ("SUCCESS", 3)
    assert 0.9 < time.monotonic() - started < 6


def test_an_eta_is_waited_for_and_one_that_has_passed_is_not(stand: Stand) -> None:
    started = time.monotonic()
    soon, past = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (1, -3600))
    first = stand.task("add", 1, 2).apply_async(eta=soon)
    assert outcome(stand.task("add", 2, 2).apply_async(eta=past)) == ("SUCCESS", 4)
    assert first.state == "PENDING"
    assert outcome(first) == ("SUCCESS", 3)
    assert 0.9 < time.monotonic() - started < 6


def test_a_countdown_of_an_operation_is_waited_for(stand: Stand) -> None:
    job = stand.task("analytics.basic_statistics", [1.0, 2.0, 6.0]).apply_async(countdown=0.5)
    assert outcome(job)[1]["median"] == 2.0


def test_a_task_that_expired_before_it_began_is_revoked(stand: Stand) -> None:
    key = stand.key()
    late = stand.task("note", key, "ran").apply_async(countdown=1.0, expires=0.2)
    assert outcome(late) == ("REVOKED", "TaskRevokedError: expired")
    past = datetime.now(UTC) - timedelta(seconds=5)
    assert outcome(stand.task("note", key, "ran").apply_async(expires=past)) == (
        "REVOKED",
        "TaskRevokedError: expired",
    )
    assert stand.notes(key) == []


def test_a_task_that_does_not_expire_in_time_runs(stand: Stand) -> None:
    assert outcome(stand.task("add", 1, 2).apply_async(expires=60)) == ("SUCCESS", 3)


def test_an_error_is_retried_by_itself_until_it_succeeds(stand: Stand) -> None:
    key = stand.key()
    assert outcome(stand.task("flaky", key, 2).apply_async()) == ("SUCCESS", 2)
    assert stand.notes(key) == ["0", "1", "2"]


def test_an_error_that_stays_is_the_outcome_after_the_last_retry(stand: Stand) -> None:
    key = stand.key()
    assert outcome(stand.task("flaky", key, 99).apply_async()) == (
        "FAILURE",
        "ConnectionError: not yet",
    )
    assert stand.notes(key) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("reason", ["out of luck", None])
def test_a_task_that_asks_for_a_retry_gets_its_number_of_them(
    stand: Stand, reason: str | None
) -> None:
    key = stand.key()
    result = stand.task("again", key, 0.05, reason).apply_async()
    state, error = outcome(result)
    assert state == "FAILURE"
    if reason:
        assert error == "ValueError: out of luck"
    else:
        assert error.startswith(f"MaxRetriesExceededError: Can't retry compat.again[{result.id}]")
    assert stand.notes(key) == ["0", "1", "2"]


def test_a_task_that_waits_for_its_retry_says_so(stand: Stand) -> None:
    key = stand.key()
    result = stand.task("again", key, 1.0, "later").apply_async()
    stand.wait_for_notes(key, "0")
    deadline = time.monotonic() + 0.8
    while result.state != "RETRY" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert result.state == "RETRY"
    assert str(result.info) == "later"
    result.revoke()
    assert outcome(result) == ("REVOKED", "TaskRevokedError: revoked")


def test_a_retry_in_a_chain_keeps_its_place(stand: Stand) -> None:
    key = stand.key()
    steps = stand.task("flaky", key, 1) | stand.task("add", 10)
    assert outcome(steps.apply_async()) == ("SUCCESS", 11)


def test_a_soft_limit_lets_a_task_clean_up(stand: Stand) -> None:
    key = stand.key()
    job = stand.task("patient", 30, key).apply_async(soft_time_limit=1, time_limit=20)
    assert outcome(job) == ("SUCCESS", "cleaned up")


def test_a_soft_limit_ends_a_task_that_does_not_know_it(stand: Stand) -> None:
    job = stand.task("slow", 30, stand.key()).apply_async(soft_time_limit=1, time_limit=20)
    assert outcome(job) == ("FAILURE", "SoftTimeLimitExceeded: SoftTimeLimitExceeded()")


def test_a_hard_limit_ends_a_task_for_good(stand: Stand) -> None:
    key = stand.key()
    job = stand.task("slow", 30, key).apply_async(time_limit=1)
    assert outcome(job) == ("FAILURE", "TimeLimitExceeded: TimeLimitExceeded(1,)")
    assert stand.notes(key) == ["begun"]


def test_a_rejected_message_is_gone(stand: Stand) -> None:
    key = stand.key()
    result = stand.task("refuse", key, False).apply_async()
    stand.wait_for_notes(key, "seen")
    assert outcome(result) == ("FAILURE", "Reject: ('not for me', False)")
    assert stand.notes(key) == ["seen"]


def test_a_message_that_is_put_back_is_delivered_again(stand: Stand) -> None:
    key = stand.key()
    assert outcome(stand.task("refuse", key, True).apply_async()) == ("SUCCESS", "accepted")
    assert stand.notes(key) == ["seen", "seen"]
