"""The task of an operation that got many requests at once: each ends by itself."""

import json
from typing import Any

import pytest
from celery import states
from celery.exceptions import Ignore

from contract import codec, errors
from contract.batches import item_id
from contract.deployment import Deployment
from contract.envelope import DELIVERY, HEADER, Envelope
from contract.replies import Reply
from contract.results import Answer, read_meta
from workers import runner
from workers.task import OperationTask

GOOD: dict[str, Any] = {
    "visits": [[3, 1]],
    "value_sums": [[1.5, 0.25]],
    "parent_visits": [4],
}
BAD = {**GOOD, "visits": "x"}
ONCE = {"inbox": "inbox", "tag": "1", "lost": 0, "returned": 0}


@pytest.fixture
def deployment(task: OperationTask) -> Deployment:
    """Give the names of the keys."""
    prefix = task.app.conf.result_backend_transport_options["global_keyprefix"]
    return Deployment(prefix=prefix)


def run(task: OperationTask, items: Any, delivery: Any = None, **envelope: Any) -> Answer:
    """Run the task's body as Celery would, and end it as Celery would where it raises."""
    header = Envelope(**{"num_items": len(items), **envelope}).to_header()
    request = {"id": "b", "retries": 0, HEADER: header}
    if delivery is not None:
        inbox, tag = delivery["inbox"], delivery["tag"]
        task.backend.client.hset(inbox, tag, b"an entry")
        request[DELIVERY] = delivery
    task.push_request(**request)
    try:
        return task.run(items=items)
    except errors.GristmillError as error:
        task.backend.mark_as_failure("b", error, request=task.request)
        raise
    finally:
        task.pop_request()


def meta(task: OperationTask, index: int) -> dict[str, Any]:
    backend = task.backend
    return read_meta(backend.client.get(backend.get_key_for_task(item_id("b", index))))


def statuses(task: OperationTask, num_items: int) -> list[str]:
    return [meta(task, index)["status"] for index in range(num_items)]


def sent(task: OperationTask, deployment: Deployment) -> list[dict[str, Any]]:
    """Return the messages in the queue of the family, the oldest first."""
    entries = task.backend.client.lrange(f"{deployment.prefix}mcts", 0, -1)
    return [json.loads(entry) for entry in reversed(entries)]


def test_each_item_has_a_result_of_its_own(task: OperationTask, deployment: Deployment) -> None:
    other = {**GOOD, "visits": [[1, 3]], "value_sums": [[0.9, 0.3]]}
    answer = run(task, [GOOD, other, GOOD], reply_to="me")
    assert dict(answer) == {"items": 3, "ended_before": 0, "success": 3}
    assert statuses(task, 3) == ["SUCCESS"] * 3
    assert [meta(task, index)["result"]["chosen"].tolist() for index in range(3)] == [
        [1],
        [0],
        [1],
    ]
    assert meta(task, 1)["task_id"] == "b.1"
    replies = task.backend.client.lrange(deployment.replies_key("me"), 0, -1)
    told = [Reply.from_bytes(raw).job_id for raw in replies]
    assert told == [item_id("b", index) for index in range(3)]


def test_a_bad_item_fails_alone(task: OperationTask) -> None:
    answer = run(task, [GOOD, BAD, 7, GOOD])
    assert answer["success"] == answer["failure"] == 2
    assert statuses(task, 4) == ["SUCCESS", "FAILURE", "FAILURE", "SUCCESS"]
    assert meta(task, 1)["result"]["exc_type"] == "InvalidRequest"
    assert meta(task, 2)["result"]["exc_message"][0] == "item: 7, expected a map of fields"


def test_a_cancelled_item_does_not_run_and_the_others_do(
    task: OperationTask, deployment: Deployment
) -> None:
    task.backend.client.set(deployment.cancel_key("b.1"), b"1")
    assert run(task, [GOOD, GOOD, GOOD])["revoked"] == 1
    assert statuses(task, 3) == ["SUCCESS", "REVOKED", "SUCCESS"]


def test_a_cancelled_batch_ends_all_its_items(task: OperationTask, deployment: Deployment) -> None:
    task.backend.client.set(deployment.cancel_key("b"), b"1")
    with pytest.raises(Ignore):
        run(task, [GOOD, GOOD])
    assert statuses(task, 2) == ["REVOKED"] * 2


def test_a_batch_that_cannot_be_read_ends_all_its_items(task: OperationTask) -> None:
    with pytest.raises(errors.MessageError, match="batch: 2 items, expected 3"):
        run(task, [GOOD, GOOD], num_items=3)
    assert statuses(task, 3) == ["FAILURE"] * 3
    assert meta(task, 2)["result"]["exc_type"] == "MessageError"


def test_a_deadline_that_has_passed_ends_all_its_items(task: OperationTask) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        run(task, [GOOD, GOOD], deadline=1.0)
    assert statuses(task, 2) == ["FAILURE"] * 2


def test_what_had_ended_when_the_rest_was_ended_keeps_its_end(
    task: OperationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = runner.run, []

    def stop_at_the_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise errors.DeadlineExceeded("soft_time_limit: 1 s passed, expected an end before it")
        return real(*arguments)

    monkeypatch.setattr("workers.batch.run", stop_at_the_second)
    with pytest.raises(errors.DeadlineExceeded):
        run(task, [GOOD, GOOD, GOOD])
    assert statuses(task, 3) == ["SUCCESS", "FAILURE", "FAILURE"]


# --- A second delivery ---


def test_items_that_ended_in_an_earlier_delivery_do_not_run_again(task: OperationTask) -> None:
    task.backend.store_result("b.0", {"kept": 1}, states.SUCCESS)
    answer = run(task, [GOOD, GOOD], {**ONCE, "returned": 1})
    assert (answer["ended_before"], answer["success"]) == (1, 1)
    assert meta(task, 0)["result"] == {"kept": 1}


def test_a_batch_whose_process_died_is_split(task: OperationTask, deployment: Deployment) -> None:
    task.backend.store_result("b.0", {"kept": 1}, states.SUCCESS)
    answer = run(task, [GOOD, BAD, GOOD], {**ONCE, "lost": 1}, submitted_at=5.0, deadline=2.0**40)
    assert dict(answer) == {"items": 3, "ended_before": 1, "sent_alone": 2}
    assert statuses(task, 3) == ["SUCCESS", "PENDING", "PENDING"]
    messages = sent(task, deployment)
    assert [message["headers"]["id"] for message in messages] == ["b.1", "b.2"]
    for message in messages:
        assert message["headers"]["task"] == "mcts.ucb1_selection"
        envelope = Envelope.from_header(message["headers"][HEADER])
        assert (envelope.num_items, envelope.submitted_at, envelope.deadline) == (0, 5.0, 2.0**40)
        assert message["content-type"] == codec.CONTENT_TYPE


def test_a_worker_that_lost_the_batch_stores_nothing(task: OperationTask) -> None:
    task.push_request(
        id="b",
        retries=0,
        **{HEADER: Envelope(num_items=1).to_header(), DELIVERY: {**ONCE, "inbox": "gone"}},
    )
    with pytest.raises(Ignore):
        task.run(items=[GOOD])
    task.pop_request()
    assert statuses(task, 1) == ["PENDING"]
