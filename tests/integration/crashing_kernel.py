"""A C kernel that crashes on one input, for `-I tests.integration.crashing_kernel`."""

import ctypes
from typing import Any

from native_c.compiled import mcts
from tests.integration.user_tasks import FATAL_VISITS

_ucb1_selection = mcts.ucb1_selection


def ucb1_selection(visits: Any, *rest: Any) -> None:
    if visits[0, 0] == FATAL_VISITS:
        ctypes.string_at(0)
    _ucb1_selection(visits, *rest)


setattr(mcts, "ucb1_selection", ucb1_selection)  # noqa: B010  # a name that is typed
