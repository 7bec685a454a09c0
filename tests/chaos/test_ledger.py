"""The ledger's verdicts on logs that were written by hand."""

import math
from typing import Any

import pytest

from tests.chaos.events import Event, Kind
from tests.chaos.ledger import Blow, audit, percentile, rescues, resumptions, run_times


def line(at: float, kind: Kind, job: str, parent: int = 1, process: int = 10) -> Event:
    return Event(at, kind, job, f"w{parent}", parent, process, "-")


def weigh(accepted: list[str], **known):
    facts: dict[str, Any] = {
        "states": {},
        "at_server": set(),
        "ends": {},
        "changed": set(),
        "events": [],
    }
    return audit(accepted=accepted, **{**facts, "residue": {}, **known})


def test_a_job_without_an_end_is_stuck_where_the_server_has_it_and_lost_where_not() -> None:
    found = weigh(["a", "b", "c"], states={"a": "SUCCESS"}, at_server={"a", "b"})
    assert (found.lost, found.stuck) == (("c",), ("b",))
    assert found.num_accepted == 3
    assert found.failed == ()


def test_a_failed_and_a_revoked_job_have_ended_but_not_well() -> None:
    found = weigh(["a", "b", "c"], states={"a": "FAILURE", "b": "REVOKED", "c": "SUCCESS"})
    assert (found.lost, found.stuck, found.failed) == ((), (), ("a", "b"))


def test_two_published_ends_or_a_changed_end_are_double() -> None:
    states = dict.fromkeys("abc", "SUCCESS")
    found = weigh(["a", "b", "c"], states=states, ends={"a": 2, "b": 1}, changed={"c"})
    assert set(found.doubled) == {"a", "c"}


def test_an_item_is_where_the_message_of_its_batch_is() -> None:
    items = ["m.0", "m.1", "n.0"]
    found = weigh(items, states={"m.0": "SUCCESS"}, at_server={"m"})
    assert (found.stuck, found.lost) == (("m.1",), ("n.0",))


def test_a_batch_that_begins_again_and_an_item_that_does_count_once_each() -> None:
    events = [line(at, Kind.STARTED, job) for at, job in ((1, "m"), (2, "m"), (3, "m.1"))]
    found = weigh(["m.0", "m.1"], states={"m.0": "SUCCESS", "m.1": "SUCCESS"}, events=events)
    assert found.num_run_again == 1


def test_a_job_of_nobody_s_ledger_counts_for_nothing() -> None:
    events = [line(1, Kind.STARTED, "x"), line(2, Kind.STARTED, "x")]
    found = weigh(["a"], states={"a": "SUCCESS", "x": "FAILURE"}, ends={"x": 5}, events=events)
    assert (found.doubled, found.num_run_again, found.failed) == ((), 0, ())


def test_a_second_start_is_a_run_again_and_no_double_end() -> None:
    events = [line(1, Kind.STARTED, "a"), line(2, Kind.STARTED, "a", parent=2)]
    found = weigh(["a"], states={"a": "SUCCESS"}, ends={"a": 1}, events=events)
    assert (found.num_run_again, found.doubled) == (1, ())


def test_a_rescue_lasts_from_the_blow_to_the_start_elsewhere() -> None:
    events = [
        line(1.0, Kind.RECEIVED, "running"),
        line(1.1, Kind.STARTED, "running"),
        line(1.2, Kind.RECEIVED, "waiting"),
        line(1.3, Kind.STARTED, "done"),
        line(1.4, Kind.ENDED, "done"),
        line(1.5, Kind.STARTED, "another's", parent=2),
        line(5.0, Kind.STARTED, "running", parent=2),
        line(7.0, Kind.STARTED, "waiting", parent=2),
        line(8.0, Kind.STARTED, "waiting", parent=3),
    ]
    blow = Blow(at=2.0, over_at=2.0, parents=frozenset({1}))
    assert sorted(rescues(events, blow, ended=set())) == [3.0, 5.0]


def test_a_job_in_hand_that_never_begins_again_is_rescued_never() -> None:
    events = [line(1.0, Kind.STARTED, "a")]
    blow = Blow(at=2.0, over_at=2.0, parents=frozenset({1}))
    assert rescues(events, blow, ended=set()) == [math.inf]


def test_a_job_that_ended_without_a_word_in_the_log_needs_no_rescue() -> None:
    events = [line(1.0, Kind.STARTED, "a")]
    blow = Blow(at=2.0, over_at=2.0, parents=frozenset({1}))
    assert rescues(events, blow, ended={"a"}) == []


def test_a_killed_child_takes_only_what_it_ran_itself() -> None:
    events = [
        line(1.0, Kind.RECEIVED, "a", process=1),
        line(1.1, Kind.STARTED, "a", process=10),
        line(1.2, Kind.STARTED, "b", process=11),
        line(2.5, Kind.STARTED, "a", process=12),
    ]
    blow = Blow(at=2.0, over_at=2.0, process=10)
    assert rescues(events, blow, ended=set()) == [0.5]


def test_a_worker_resumes_with_its_first_end_after_the_fault_is_over() -> None:
    events = [
        line(1.0, Kind.ENDED, "a"),
        line(4.5, Kind.ENDED, "b", parent=2),
        line(5.5, Kind.ENDED, "c"),
        line(6.0, Kind.ENDED, "d"),
    ]
    blow = Blow(at=2.0, over_at=5.0)
    assert resumptions(events, blow, ["w1", "w2"]) == [0.5, math.inf]


def test_a_run_lasts_from_start_to_end_in_one_process() -> None:
    events = [
        line(1.0, Kind.STARTED, "a", process=10),
        line(1.5, Kind.STARTED, "a", process=11),
        line(2.0, Kind.ENDED, "a", process=11),
    ]
    assert run_times(events) == [0.5]


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (99, 4), (100, 4), (1, 1)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    assert percentile([4, 2, 1, 3], percent) == expected
    assert math.isnan(percentile([], percent))
