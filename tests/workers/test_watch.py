"""What monitors make of the events of a job that tells its progress."""

import itertools
from typing import Any

import pytest
from celery.events.state import State

from workers.watch import REVOKED_EVENT

_clock = itertools.count(1000)


def shown(*events: tuple[str, dict[str, Any]]) -> Any:
    """Return the job as Celery's monitors, Flower among them, know it after such events."""
    state = State()
    for kind, fields in events:
        at = next(_clock)
        state.event(
            {
                "type": f"task-{kind}",
                "uuid": "7",
                "hostname": "worker",
                "clock": at,
                "timestamp": float(at),
                "local_received": float(at),
                "utcoffset": 0,
                "pid": 1,
                **fields,
            }
        )
    return state.tasks["7"]


RUNNING: tuple[Any, ...] = (("received", {"name": "mcts.ucb1_selection"}), ("started", {}))
PROGRESS = ("progress", {"result": "42 %, about 3 s left"})


def test_progress_is_a_state_with_words() -> None:
    task = shown(*RUNNING, PROGRESS)
    assert (task.state, task.result) == ("PROGRESS", "42 %, about 3 s left")


@pytest.mark.parametrize(
    ("event", "state", "result"),
    [
        (("revoked", {"terminated": True, **REVOKED_EVENT}), "REVOKED", None),
        (("succeeded", {"result": "done", "runtime": 1.0}), "SUCCESS", "done"),
        (("failed", {"exception": "InvalidRequest()"}), "FAILURE", "42 %, about 3 s left"),
    ],
)
def test_the_end_of_a_job_counts_for_more_than_its_progress(event, state, result) -> None:
    task = shown(*RUNNING, PROGRESS, event)
    assert (task.state, task.result) == (state, result)
