"""Where ours differs on purpose: both outcomes, each with the reason that docs/celery.md gives."""

import ast
from pathlib import Path

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.compat.conftest import Stands
from tests.compat.monitor import Monitor
from tests.compat.stand import STANDS, Stand, client_of, outcome
from tests.integration.worker import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.compat]

STATISTICS = "analytics.basic_statistics"


def test_every_difference_stands_on_the_page() -> None:
    page = " ".join((ROOT / "docs" / "celery.md").read_text().split())
    reasons = {
        str(node.value.value)
        for file in Path(__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "because"
        if isinstance(node.value, ast.Constant)
    }
    assert reasons
    assert [reason for reason in sorted(reasons) if reason not in page] == []


def test_what_follows_a_revoked_task_in_a_chain(stand: Stand) -> None:
    first = stand.task("add", 1, 1).set(countdown=0.5)
    result = (first | stand.task("add", 1)).apply_async()
    result.parent.revoke()
    assert outcome(result.parent) == ("REVOKED", "TaskRevokedError: revoked")
    ended = stand.on(
        stock=("PENDING", "still waiting"),
        ours=("REVOKED", "TaskRevokedError: revoked"),
        because="What follows a revoked job in a chain is revoked too",
    )
    assert outcome(result, 3) == ended


def test_a_second_end_of_a_task(stand: Stand) -> None:
    key = stand.key()
    first = stand.task("again", key, 0.0, "once").set(retry=False)
    task_id = first.apply_async().id
    assert outcome(stand.client.AsyncResult(task_id))[0] == "FAILURE"
    stand.task("add", 1, 1).apply_async(task_id=task_id)
    stand.task("note", key, "after").apply_async().get(timeout=20)
    stand.task("note", key, "after").apply_async().get(timeout=20)
    assert outcome(stand.client.AsyncResult(task_id)) == stand.on(
        stock=("SUCCESS", 2),
        ours=("FAILURE", "ValueError: once"),
        because="The first end of a job stands",
    )


def test_long_arguments_in_what_monitors_see(stand: Stand) -> None:
    """By an event, for `inspect` shows the arguments themselves, in either stand."""
    given = [float(k) for k in range(5)]
    with Monitor(stand) as monitor:
        job = stand.task(STATISTICS, given).apply_async()
        assert outcome(job)[0] == "SUCCESS"
        monitor.wait_for(job.id, "task-received", "task-started", "task-succeeded")
        assert monitor.event(job.id, "task-received")["args"] == stand.on(
            stock="([0.0, 1.0, 2.0, 3.0, 4.0],)",
            ours="([0.0, 1.0, 2.0, ...],)",
            because="The arguments are shown in a short line",
        )


def test_a_compressed_message(stand: Stand) -> None:
    users = stand.task("add", 1, 2).apply_async(compression="zlib")
    assert outcome(users) == ("SUCCESS", 3)
    job = stand.task(STATISTICS, [1.0, 2.0, 6.0]).apply_async(compression="zlib")
    assert outcome(job)[0] == stand.on(
        stock="SUCCESS",
        ours="FAILURE",
        because="A compressed job of an operation is refused",
    )


def test_a_task_that_nobody_knows(stand: Stand) -> None:
    state, error = outcome(stand.task("nobodys").apply_async())
    assert (state, error.partition(":")[0]) == ("FAILURE", "NotRegistered")


@pytest.mark.parametrize("name", STANDS[::2])
def test_messages_of_celerys_first_protocol(stands: Stands, name: str) -> None:
    stand = stands.stand(name, "--concurrency=2")
    with client_of("stock", stand.worker.url, stand.prefix) as old:
        old.conf.task_protocol = 1
        assert outcome(_send(old, "compat.add", 1, 2)) == ("SUCCESS", 3)
        assert outcome(_send(old, STATISTICS, [1.0, 2.0, 6.0]))[1]["median"] == 2.0


def _send(client: Celery, name: str, *args: object) -> AsyncResult:
    return client.send_task(name, args)
