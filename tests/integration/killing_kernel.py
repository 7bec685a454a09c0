"""A kernel that kills its process for one request: `-I tests.integration.killing_kernel`."""

import os
import signal
from typing import Any

import native_c.mcts

#: Visits of the first child that no process survives.
DEADLY = 666

_real = native_c.mcts.ucb1_selection


def ucb1_selection(**fields: Any) -> Any:
    """Compute as ever, unless the request is the deadly one."""
    if fields["visits"][0, 0] == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return _real(**fields)


setattr(native_c.mcts, "ucb1_selection", ucb1_selection)  # noqa: B010  # mypy knows the type
