"""What a worker of the suite loads beside its own code: a line in the log for each start and end.

It attaches to Celery's signals, so that a worker of ours and a stock one are watched alike.
"""

import os
from typing import Any

from celery import signals

from tests.chaos.events import Kind, Log

log = Log.from_environment()


@signals.worker_ready.connect(weak=False)
def _ready(**_: Any) -> None:
    log.write(Kind.READY, note=str(os.getpid()))


@signals.task_received.connect(weak=False)
def _received(request: Any, **_: Any) -> None:
    log.write(Kind.RECEIVED, request.id)


@signals.task_prerun.connect(weak=False)
def _started(task_id: str, **_: Any) -> None:
    log.write(Kind.STARTED, task_id)


@signals.task_postrun.connect(weak=False)
def _ended(task_id: str, state: str | None = None, **_: Any) -> None:
    log.write(Kind.ENDED, task_id, state or "-")
