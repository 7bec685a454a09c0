"""A kernel that kills its process for one request: `-I tests.integration.killing_kernel`."""

import os
import signal
from typing import Any

from celery.signals import worker_process_init

import native_c.mcts

#: Visits of the first child that no process survives.
DEADLY = 666


@worker_process_init.connect(weak=False)
def replace(**_: Any) -> None:
    """Take the place of the real kernel, in the children of a worker alone."""
    real = native_c.mcts.ucb1_selection

    def ucb1_selection(**fields: Any) -> Any:
        if fields["visits"][0, 0] == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(**fields)

    setattr(native_c.mcts, "ucb1_selection", ucb1_selection)  # noqa: B010  # mypy knows the type
