"""A worker whose C kernel of one operation breaks once it runs: `-I` this module."""

from typing import Any

from celery.signals import worker_process_init

from native_c.compiled import mcts


def _fail(*_: Any) -> None:
    raise ArithmeticError("the kernel is broken")


@worker_process_init.connect
def break_kernel(**_: Any) -> None:
    """Break it in a process of the pool: before, the self-test would find out."""
    vars(mcts)["ucb1_selection"] = _fail
