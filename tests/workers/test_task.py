"""The task of an operation: answers, cancelling, deadlines, progress, a broker that is gone."""

import re
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery
from celery.exceptions import Ignore

import native_c.mcts
from contract import codec, errors
from contract.deployment import Deployment
from contract.envelope import DELIVERY, HEADER, Delivery, Envelope
from contract.events import Events
from contract.families import operations
from contract.results import Answer, read_meta
from workers.progress import REPORT_SECONDS
from workers.task import OperationTask, Task
from workers.watch import LOOK_SECONDS, PROGRESS, Watch

FIELDS: dict[str, Any] = {"visits": [[3, 1]], "value_sums": [[1.5, 0.25]], "parent_visits": [4]}
ANSWER = {"scores": np.zeros((1, 1)), "chosen": np.zeros(1, int)}


def run(task: OperationTask, header: Any = None, job_id: Any = "7", **fields: Any) -> Any:
    """Run the task's body as Celery would."""
    request = {"id": job_id, "retries": 0} | ({HEADER: header} if header is not None else {})
    request |= {name: fields.pop(name) for name in ("timelimit", DELIVERY) if name in fields}
    task.push_request(**request)
    try:
        return task.run(**(fields or FIELDS))
    finally:
        task.pop_request()


def header(**fields: Any) -> dict[str, Any]:
    return Envelope(**fields).to_header()


def meta(task: OperationTask, job_id: str = "7") -> dict[str, Any]:
    backend = task.backend
    return read_meta(backend.client.get(backend.get_key_for_task(job_id)))


def cancel(task: OperationTask, job_id: str = "7") -> None:
    prefix = task.app.conf.result_backend_transport_options["global_keyprefix"]
    task.backend.client.set(f"{prefix}gristmill:cancel:{job_id}", "1")


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """Put a kernel of 200 steps of 5 ms in the place of the real one; count them."""
    taken: list[int] = []

    def kernel(**fields: Any) -> Generator[float, None, dict[str, Any]]:
        for step in range(200):
            time.sleep(0.005)
            taken.append(step)
            yield step / 200
        return ANSWER

    monkeypatch.setattr(native_c.mcts, "ucb1_selection", kernel)
    return taken


# --- Deliveries ---

ONCE = {"inbox": "inbox", "tag": "1", "lost": 0, "returned": 0}


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({}, True),
        ({DELIVERY: ONCE}, True),
        ({DELIVERY: {**ONCE, "lost": 1}}, False),
        ({DELIVERY: {**ONCE, "returned": 1}}, False),
        ({"delivery_info": {"redelivered": True}}, False),
    ],
)
@pytest.mark.parametrize("ended", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_job_that_ended_in_an_earlier_delivery_does_not_run_again(
    task: OperationTask, changes: dict[str, Any], runs: bool, ended: str
) -> None:
    task.backend.store_result("7", errors.ComputeError("x") if ended != "SUCCESS" else {}, ended)
    task.push_request(**{"id": "7", "retries": 0, "delivery_info": {}, **changes})
    try:
        if runs:
            task.before_start("7", (), {})
        else:
            with pytest.raises(Ignore, match="job 7: ended in an earlier delivery"):
                task.before_start("7", (), {})
    finally:
        task.pop_request()
    assert meta(task)["status"] == ended


def test_a_second_delivery_of_a_job_that_has_not_ended_runs(task: OperationTask) -> None:
    task.push_request(id="7", retries=0, **{DELIVERY: {**ONCE, "lost": 1}})
    task.before_start("7", (), {})
    task.pop_request()


# --- What it is ---


def test_a_task_is_its_operation(task: OperationTask) -> None:
    assert task.name == task.operation.name == "mcts.ucb1_selection"
    assert task.__doc__ == task.operation.__doc__
    assert task.app.tasks["mcts.ucb1_selection"] is task
    assert task.Request == "workers.request:Request"
    assert task.serializer == codec.SERIALIZER


def test_every_operation_of_every_family_is_a_task_of_the_workers() -> None:
    from workers import app

    for name, declared in operations().items():
        assert isinstance(app.tasks[name], OperationTask)
        assert app.tasks[name].operation is declared


def test_a_users_own_task_is_mended_too(app: Celery) -> None:
    @app.task(name="user.own")
    def own() -> None: ...

    assert isinstance(own, Task)
    assert own.Request == "workers.request:Request"


def test_a_message_is_acknowledged_when_its_result_is_stored(task: OperationTask) -> None:
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.acks_on_failure
    assert task.acks_on_timeout


# --- Answers ---


def test_our_job_gets_arrays(task: OperationTask) -> None:
    answer = run(task, header(submitted_at=1.0))
    assert isinstance(answer, Answer)
    assert isinstance(answer["scores"], np.ndarray)
    assert answer["chosen"].tolist() == [1]
    assert answer["queue_seconds"] > 1e9


def test_a_json_job_gets_json(task: OperationTask) -> None:
    answer = run(task)
    assert answer["chosen"] == [1]
    assert isinstance(answer["scores"], list)
    assert answer["queue_seconds"] is None


def test_the_first_array_may_come_by_position(task: OperationTask) -> None:
    task.push_request(id="7")
    fields = dict(FIELDS)
    assert task.run(fields.pop("visits"), **fields)["chosen"] == [1]
    task.pop_request()


@pytest.mark.parametrize(
    "malformed", ["text", [], 7, {}, {"version": 2}, {"version": 1, "deadline": "soon"}]
)
def test_a_malformed_envelope_is_a_message_error(task: OperationTask, malformed: Any) -> None:
    with pytest.raises(errors.MessageError):
        run(task, malformed)


def test_a_wrong_request_is_refused(task: OperationTask) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^parent_visits: "):
        run(task, None, "7", **{**FIELDS, "parent_visits": [0]})


# --- Cancelling ---


@pytest.mark.parametrize("form", ["ours", "json"])
def test_a_job_that_was_cancelled_in_the_queue_does_not_run(task, steps, form: str) -> None:
    cancel(task)
    with pytest.raises(Ignore):
        run(task, header() if form == "ours" else None)
    assert steps == []
    assert meta(task)["status"] == "REVOKED"


def test_a_running_job_stops_within_the_time_of_two_looks(task, steps, monkeypatch) -> None:
    looks: list[float] = []
    check = Watch.check

    def cancel_then_check(watch: Watch) -> None:
        if len(looks) == 1:
            cancel(task)
        looks.append(time.monotonic())
        check(watch)

    monkeypatch.setattr(Watch, "check", cancel_then_check)
    with pytest.raises(Ignore):
        run(task, header())
    assert len(looks) == 2
    assert len(steps) < 100
    assert meta(task)["status"] == "REVOKED"


def test_the_wish_to_cancel_is_looked_for_forty_times_a_second_at_most(task, monkeypatch) -> None:
    task.push_request(id="7")
    watch, looks = Watch(task), []
    monkeypatch.setattr(watch, "check", lambda: looks.append(1))
    monkeypatch.setattr(task, "update_state", lambda **_: None)
    ends_at = time.monotonic() + 0.55
    while time.monotonic() < ends_at:
        watch(0.5)
    task.pop_request()
    assert LOOK_SECONDS == 0.025
    assert 10 <= len(looks) <= 22


def test_a_cancelled_job_of_another_deployment_runs(task: OperationTask) -> None:
    task.backend.client.set("gristmill:cancel:7", "1")
    task.backend.client.set("elsewhere:gristmill:cancel:7", "1")
    assert run(task, header())["chosen"].tolist() == [1]


# --- Deadlines ---


def test_a_job_that_comes_too_late_does_not_run(task: OperationTask, steps) -> None:
    with pytest.raises(errors.DeadlineExceeded, match=r"^deadline: passed .* expected a result"):
        run(task, header(deadline=time.time() - 1))
    assert steps == []


def test_a_job_that_takes_too_long_is_ended(task: OperationTask, steps) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        run(task, header(deadline=time.time() + 0.15))
    assert len(steps) < 100


def test_a_job_that_is_in_time_is_not_ended(task: OperationTask) -> None:
    assert run(task, header(deadline=time.time() + 60))["chosen"].tolist() == [1]


# --- Time limits, where the pool has none ---


@pytest.mark.parametrize(
    ("limits", "name"), [([None, 0.15], "soft_time_limit"), ([0.15, None], "time_limit")]
)
def test_a_job_ends_within_a_step_of_its_limit(task, steps, limits: list, name: str) -> None:
    with pytest.raises(errors.DeadlineExceeded, match=rf"^{name}: 0\.15 s passed, expected an end"):
        run(task, header(), timelimit=limits)
    assert 0 < len(steps) < 60


def test_the_limits_of_the_settings_count_where_the_message_has_none(task, steps) -> None:
    task.soft_time_limit = 0.1
    with pytest.raises(errors.DeadlineExceeded, match=r"^soft_time_limit: 0\.1 s"):
        run(task, header())
    with pytest.raises(errors.DeadlineExceeded, match=r"^soft_time_limit: 0\.2 s"):
        run(task, header(), timelimit=[None, 0.2])


def test_a_job_within_its_limits_is_not_ended(task: OperationTask) -> None:
    assert run(task, header(), timelimit=[60, 30])["chosen"].tolist() == [1]


# --- The message that another worker has now ---


@pytest.fixture
def inbox(task: OperationTask) -> str:
    """Keep a message of the job in an inbox, as our transport does."""
    prefix = task.app.conf.result_backend_transport_options["global_keyprefix"]
    inbox = f"{prefix}gristmill:inbox:here"
    task.backend.client.hset(inbox, "tag", b"entry")
    return inbox


def delivery(inbox: str, **counts: int) -> dict[str, Any]:
    return Delivery(inbox=inbox, tag="tag", **counts).to_header()


def test_a_job_whose_worker_lost_its_lease_ends_without_a_word(task, steps, inbox, caplog) -> None:
    check, looks = Watch.check, []

    def lose_then_check(watch: Watch) -> None:
        looks.append(1)
        if len(looks) == 3:
            task.backend.client.delete(inbox)
        check(watch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "check", lose_then_check)
        with pytest.raises(Ignore):
            run(task, header(), **{DELIVERY: delivery(inbox)})
    assert len(steps) < 100
    assert meta(task)["status"] == "PENDING"
    assert "job 7: its worker's lease has ended: ended without a result" in caplog.text
    prefix = task.app.conf.result_backend_transport_options["global_keyprefix"]
    counted = Events(task.backend.client, Deployment(prefix=prefix)).read()
    assert counted["fenced"] == {("run",): 1}


def test_a_job_that_is_another_workers_already_does_not_start(task, steps, inbox) -> None:
    task.backend.client.delete(inbox)
    cancel(task)  # which is up to the other worker
    with pytest.raises(Ignore):
        run(task, header(), **{DELIVERY: delivery(inbox)})
    assert steps == []
    assert meta(task)["status"] == "PENDING"


def test_a_job_in_its_workers_hands_runs(task: OperationTask, inbox: str) -> None:
    assert run(task, header(), **{DELIVERY: delivery(inbox)})["chosen"].tolist() == [1]


def test_a_message_that_was_acknowledged_before_it_ran_is_nobodys(task, inbox) -> None:
    task.acks_late = False
    task.backend.client.delete(inbox)
    assert run(task, header(), **{DELIVERY: delivery(inbox)})["chosen"].tolist() == [1]


@pytest.mark.parametrize(
    ("counts", "is_doubted", "words"),
    [
        ({"lost": 1}, True, "A process died while it ran this job (times: 1): this answer is Num"),
        ({"returned": 3}, True, "Workers were lost while they held this job (times: 3): this"),
        ({"returned": 2}, False, ""),
        ({}, False, ""),
    ],
)
def test_a_job_that_cost_a_process_runs_on_numpy_and_says_so(
    task, inbox, counts: dict[str, int], is_doubted: bool, words: str
) -> None:
    before = native_c.current().name
    answer = run(task, header(), **{DELIVERY: delivery(inbox, **counts)})
    assert answer["chosen"].tolist() == [1]
    assert answer["backend"] == ("fallback" if is_doubted else before)
    if before == "compiled":
        assert [text[: len(words)] for text in answer["warnings"]] == [words] * is_doubted


# --- Progress ---


def test_a_long_job_tells_its_progress_four_times_a_second_at_most(task, steps) -> None:
    told: list[dict[str, Any]] = []
    store = task.backend.store_result

    def note(job_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        told.append({"state": state, "result": result})
        return store(job_id, result, state, *args, **kwargs)

    task.backend.store_result = note
    run(task, header())
    assert REPORT_SECONDS == 0.25
    assert 2 <= len(told) <= 5
    assert {one["state"] for one in told} == {PROGRESS}
    done = [one["result"]["progress"] for one in told]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] < 1
    assert meta(task)["result"]["progress"] == done[-1]
    # 200 steps of 5 ms and a little: what is left is as much of that as is not done.
    for one in told:
        left = (1 - one["result"]["progress"]) * 200 * 0.005
        assert left * 0.8 < one["result"]["remaining_seconds"] < left * 2 + 0.5


def test_monitors_hear_of_progress_once_a_second_at_most(task, steps, monkeypatch) -> None:
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(
        task, "send_event", lambda kind, **fields: heard.append({"kind": kind, **fields})
    )
    monkeypatch.setattr("workers.watch.EVENT_SECONDS", 0.4)
    run(task, header())
    assert 1 <= len(heard) <= 2
    assert heard[0]["kind"] == "task-progress"
    assert re.fullmatch(r"\d+ %, about \d s left", heard[0]["result"])


def test_a_monitor_that_cannot_be_told_ends_no_job(task, steps, monkeypatch) -> None:
    monkeypatch.setattr("workers.watch.EVENT_SECONDS", 0.3)
    monkeypatch.setattr(task, "send_event", Gone().anything)
    assert run(task, header())["chosen"].tolist() == [0]


def test_a_short_job_stores_nothing_on_its_way(task: OperationTask) -> None:
    run(task, header())
    assert meta(task)["status"] == "PENDING"


# --- A broker that is gone ---


class Gone:
    """A Redis that answers nothing."""

    def __getattr__(self, name: str) -> Any:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise redis.ConnectionError("gone")

        return fail


@pytest.fixture
def gone(task: OperationTask, monkeypatch) -> None:
    monkeypatch.setattr(task.backend, "client", Gone())


def test_a_job_that_cannot_ask_the_broker_before_it_starts_runs_all_the_same(task, gone) -> None:
    assert run(task, header())["queue_seconds"] is None


def test_a_running_job_outlives_a_broker_that_is_gone_for_a_while(task, steps, monkeypatch) -> None:
    monkeypatch.setattr("workers.watch.PATIENCE_SECONDS", 0.05)
    original = Watch.check
    looks: list[bool] = []

    def check(watch: Watch) -> None:
        looks.append(bool(looks))
        if len(looks) == 2:
            monkeypatch.setattr(watch, "_redis", Gone())
            monkeypatch.setattr(task, "update_state", Gone().anything)
        original(watch)

    monkeypatch.setattr(Watch, "check", check)
    assert run(task, header())["chosen"].tolist() == [0]
    assert len(looks) > 3


def test_a_transient_error_is_tried_again_and_no_other(task: OperationTask, monkeypatch) -> None:
    tries: list[str] = []

    def failing(error: Exception) -> Any:
        def kernel(**fields: Any) -> Any:
            tries.append(type(error).__name__)
            raise error

        return kernel

    for error in (errors.TransientError("x"), errors.ComputeError("x"), errors.InternalError("x")):
        monkeypatch.setattr(native_c.mcts, "ucb1_selection", failing(error))
        result = task.apply(kwargs=FIELDS)
        assert type(result.result) is type(error)
    assert tries == ["TransientError"] * 4 + ["ComputeError", "InternalError"]


def test_another_try_keeps_the_envelope_and_the_codec(task: OperationTask) -> None:
    envelope = header(submitted_at=5.0, deadline=1e10)
    task.push_request(id="7", retries=0, **{HEADER: envelope})
    again = task.signature_from_request(task.request, (), FIELDS)
    task.pop_request()
    assert again.options["headers"][HEADER] == envelope
    assert task._get_exec_options()["serializer"] == codec.SERIALIZER
    assert again.options["task_id"] == "7"
