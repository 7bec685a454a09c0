"""Canvas: chains, groups, chords and their like, a user's own tasks mixed with our operations."""

import pytest
from celery import chain, chord, group
from celery.canvas import chunks, xmap, xstarmap

from tests.compat.stand import Stand, outcome, outcomes

pytestmark = [pytest.mark.integration, pytest.mark.compat]

VALUES = [1.0, 2.0, 6.0]  # mean 3, median 2
STATISTICS = "analytics.basic_statistics"


def test_a_chain_passes_each_answer_on(stand: Stand) -> None:
    steps = chain(stand.task("add", 1, 2), stand.task("add", 10), stand.task("add", 100))
    result = steps.apply_async()
    assert outcome(result) == ("SUCCESS", 113)
    assert outcome(result.parent) == ("SUCCESS", 13)
    assert outcome(result.parent.parent) == ("SUCCESS", 3)


def test_a_chain_goes_through_an_operation_and_on_to_a_users_task(stand: Stand) -> None:
    steps = stand.task(STATISTICS, VALUES) | stand.task("mean_of") | stand.task("add", 0.5)
    assert outcome(steps.apply_async()) == ("SUCCESS", 3.5)


def test_a_users_answer_is_an_operations_first_array(stand: Stand) -> None:
    steps = stand.task("say", *VALUES) | stand.task(STATISTICS, ddof=0) | stand.task("mean_of")
    assert outcome(steps.apply_async()) == ("SUCCESS", 3.0)


def test_a_chain_ends_where_a_task_fails(stand: Stand) -> None:
    key = stand.key()
    steps = stand.task("add", 1, 2) | stand.task("fail") | stand.task("note_last", key)
    result = steps.apply_async()
    assert outcome(result.parent.parent) == ("SUCCESS", 3)
    assert outcome(result.parent) == ("FAILURE", "ValueError: 3")
    # What comes after the failure did not run, and who waits for it learns of the failure.
    assert outcome(result) == ("FAILURE", "ValueError: 3")
    assert stand.notes(key) == []


def test_a_group_answers_in_order(stand: Stand) -> None:
    members = group([stand.task("add", k, k) for k in range(10)], app=stand.client)
    assert members.apply_async().get(timeout=20) == [2 * k for k in range(10)]


def test_a_group_mixes_operations_with_a_users_tasks(stand: Stand) -> None:
    members = group([stand.task(STATISTICS, VALUES), stand.task("add", 1, 1)], app=stand.client)
    statistics, two = members.apply_async().get(timeout=20)
    assert (statistics["median"], two) == (2.0, 2)


def test_a_failed_member_of_a_group_leaves_the_others_alone(stand: Stand) -> None:
    members = group(
        [stand.task("add", 1, 1), stand.task("fail", "m"), stand.task("add", 2, 2)],
        app=stand.client,
    )
    assert outcomes(members.apply_async()) == [
        ("SUCCESS", 2),
        ("FAILURE", "ValueError: m"),
        ("SUCCESS", 4),
    ]


def test_a_chord_calls_its_body_with_all_answers_in_order(stand: Stand) -> None:
    header = [stand.task("add", k, 0) for k in (3, 1, 2)]
    assert outcome(chord(header, stand.task("say"), app=stand.client).apply_async()) == (
        "SUCCESS",
        [[3, 1, 2]],
    )


def test_a_chord_collects_operations_for_a_users_body(stand: Stand) -> None:
    header = [stand.task(STATISTICS, [k, k + 2.0]) | stand.task("mean_of") for k in range(4)]
    body = stand.task("total")
    assert outcome(chord(header, body, app=stand.client).apply_async()) == ("SUCCESS", 10.0)


def test_an_operation_is_the_body_of_a_chord(stand: Stand) -> None:
    header = [stand.task("add", value, 0) for value in VALUES]
    body = stand.task(STATISTICS) | stand.task("mean_of")
    assert outcome(chord(header, body, app=stand.client).apply_async()) == ("SUCCESS", 3.0)


def test_an_operation_that_refuses_its_request_fails_the_chord(stand: Stand) -> None:
    header = [stand.task("add", 1, 1), stand.task(STATISTICS, [1.0], percentiles=[101])]
    result = chord(header, stand.task("total"), app=stand.client).apply_async()
    state, error = outcome(result)
    assert state == "FAILURE"
    assert error.startswith("ChordError: Dependency ")
    assert "InvalidRequest" in error
    assert "percentiles" in error


def test_a_failed_member_fails_the_chord_and_calls_its_errbacks(stand: Stand) -> None:
    key, ran = stand.key(), stand.key()
    body = stand.task("note_last", ran).on_error(stand.task("note_id", key))
    header = [stand.task("add", 1, 1), stand.task("fail", "m")]
    result = chord(header, body, app=stand.client).apply_async()
    failed = result.parent.results[1].id
    assert outcome(result) == ("FAILURE", f"ChordError: Dependency {failed} raised ValueError('m')")
    stand.wait_for_notes(key, result.id)
    assert stand.notes(ran) == []


def test_a_chord_whose_member_is_revoked_before_its_start_fails(stand: Stand) -> None:
    revoked = stand.task("add", 1, 1).set(countdown=1.0)
    header = [stand.task("add", 1, 1), revoked]
    result = chord(header, stand.task("total"), app=stand.client).apply_async()
    member = result.parent.results[1]
    stand.client.control.revoke(member.id)
    assert outcome(result) == (
        "FAILURE",
        f"ChordError: Dependency {member.id} raised TaskRevokedError('revoked')",
    )
    assert outcome(member) == ("REVOKED", "TaskRevokedError: revoked")


def test_a_chord_whose_running_member_is_terminated_fails(stand: Stand) -> None:
    key = stand.key()
    header = [stand.task("add", 1, 1), stand.task("slow", 30, key)]
    result = chord(header, stand.task("total"), app=stand.client).apply_async()
    member = result.parent.results[1]
    stand.wait_for_notes(key, "begun")
    stand.client.control.revoke(member.id, terminate=True)
    assert outcome(member)[0] == "REVOKED"
    assert outcome(result) == (
        "FAILURE",
        f"ChordError: Dependency {member.id} raised TaskRevokedError('terminated')",
    )


@pytest.mark.parametrize("size", [0, 1])
def test_a_chord_may_be_as_small_as_it_likes(stand: Stand, size: int) -> None:
    header = [stand.task("add", 1, 1) for _ in range(size)]
    assert outcome(chord(header, stand.task("total"), app=stand.client).apply_async()) == (
        "SUCCESS",
        2 * size,
    )


def test_canvases_nest(stand: Stand) -> None:
    adds = group([stand.task("add", k) for k in (1, 2)], app=stand.client)
    inner = chord([stand.task("add", 5, 5), stand.task("add", 6, 6)], stand.task("total"))
    steps = chain(inner, adds, stand.task("total"), stand.task("add", 1000))  # 22, [23, 24], 47
    assert outcome(steps.apply_async()) == ("SUCCESS", 1047)


def test_a_group_after_a_group_is_a_chord_of_groups(stand: Stand) -> None:
    first = group([stand.task("add", k, 0) for k in (1, 2)], app=stand.client)
    second = group([stand.task("total"), stand.task("say")], app=stand.client)
    assert chain(first, second).apply_async().get(timeout=20) == [3, [[1, 2]]]


def test_map_starmap_and_chunks(stand: Stand) -> None:
    pairs = [[k, k] for k in range(7)]
    doubled = [2 * k for k in range(7)]
    task = stand.task("add")
    assert outcome(xstarmap(task, pairs, app=stand.client).apply_async()) == ("SUCCESS", doubled)
    assert outcome(xmap(stand.task("total"), pairs, app=stand.client).apply_async()) == (
        "SUCCESS",
        doubled,
    )
    parts = chunks(task, pairs, 3, app=stand.client).group().apply_async().get(timeout=20)
    assert parts == [doubled[:3], doubled[3:6], doubled[6:]]


def test_links_run_with_the_answer_each(stand: Stand) -> None:
    key = stand.key()
    first = stand.task("add", 2, 3)
    first.link(stand.task("note_last", key))
    first.link(stand.task("add", 1) | stand.task("note_last", key))
    assert outcome(first.apply_async()) == ("SUCCESS", 5)
    stand.wait_for_notes(key, "5", "6")


def test_errbacks_of_both_kinds_learn_of_a_failure(stand: Stand) -> None:
    inside, apart = stand.key(), stand.key()
    failing = stand.task("fail", "sorry")
    failing.link_error(stand.task("note_error", inside))
    failing.link_error(stand.task("note_id", apart))
    result = failing.apply_async()
    assert outcome(result) == ("FAILURE", "ValueError: sorry")
    stand.wait_for_notes(inside, "compat.fail: ValueError: sorry")
    stand.wait_for_notes(apart, result.id)


def test_an_errback_learns_of_an_operations_refusal(stand: Stand) -> None:
    key = stand.key()
    refused = stand.task(STATISTICS, [1.0], percentiles=[101])
    refused.link_error(stand.task("note_id", key))
    result = refused.apply_async()
    assert outcome(result)[0] == "FAILURE"
    stand.wait_for_notes(key, result.id)


def test_an_immutable_signature_takes_no_answer(stand: Stand) -> None:
    immutable = stand.client.signature("compat.add", (20, 3), immutable=True)
    assert outcome((stand.task("add", 1, 1) | immutable).apply_async()) == ("SUCCESS", 23)


def test_a_partial_signature_is_completed_and_a_clone_is_another(stand: Stand) -> None:
    partial = stand.task("say", "last")
    assert outcome(partial.apply_async(("first",))) == ("SUCCESS", ["first", "last"])
    assert outcome(partial.clone(("one",)).apply_async()) == ("SUCCESS", ["one", "last"])
    assert outcome(partial.apply_async()) == ("SUCCESS", ["last"])


@pytest.mark.parametrize(
    ("form", "answer"), [("task", 23), ("chain", 6), ("group", [1, 2, 3]), ("chord", 6)]
)
def test_a_task_is_replaced_by_a_canvas(stand: Stand, form: str, answer: object) -> None:
    steps = stand.task("become", form) | stand.task("say", "after")
    assert outcome(steps.apply_async()) == ("SUCCESS", [answer, "after"])


def test_a_task_starts_a_group_of_its_own(stand: Stand) -> None:
    state, group_id = outcome(stand.task("fan_out", 4).apply_async())
    assert state == "SUCCESS"
    restored = stand.client.GroupResult.restore(group_id, backend=stand.client.backend)
    assert restored.get(timeout=20) == [0, 2, 4, 6]


def test_a_task_calls_an_operation_by_its_name(stand: Stand) -> None:
    state, job = outcome(stand.task("call", STATISTICS, VALUES).apply_async())
    assert state == "SUCCESS"
    assert outcome(stand.client.AsyncResult(job))[1]["median"] == 2.0


def test_a_stamped_canvas_carries_its_stamps(stand: Stand) -> None:
    signature = stand.task("add", 1, 1) | stand.task("add", 1)
    signature.stamp(ticket="t-1")
    assert outcome(signature.apply_async()) == ("SUCCESS", 3)


def test_what_a_task_knows_of_itself(stand: Stand) -> None:
    first, second = stand.task("who"), stand.task("who")
    first.set(headers={"own": "header"}, time_limit=20, soft_time_limit=10, shadow="alias")
    result = (first | second).apply_async()
    state, mine = outcome(result)
    _, parents = outcome(result.parent)
    assert state == "SUCCESS"
    assert mine == {
        "id": result.id,
        "root": result.parent.id,
        "parent": result.parent.id,
        "group": None,
        "retries": 0,
        "priority": 0,
        "routing_key": "celery",
        "redelivered": False,
        "is_eager": False,
        "called_directly": False,
        "timelimit": [None, None],
        "reply_to": True,
        "correlation_id": result.id,
        "own": None,
        "shadow": None,
        "ignore_result": False,
    }
    assert (parents["own"], parents["shadow"], parents["timelimit"]) == (
        "header",
        "alias",
        [20, 10],
    )
    assert (parents["root"], parents["parent"]) == (parents["id"], None)
