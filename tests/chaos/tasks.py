"""Tasks of a user's own, some of them harmful, and a faulty kernel: `-I tests.chaos.tasks`."""

import ctypes
import os
import signal
import sys
import time
from typing import Any, Final

import numpy as np

import native_c.compiled.mcts as compiled
from native_c import mcts
from tests.chaos import recorder
from workers import app

__all__ = ["recorder"]

#: An exploration weight that makes our C kernel crash, as a fault in it would, and one that no
#: process survives, whatever computes.
CRASHING: Final = 1234.5
DEADLY: Final = 4321.5


@app.task(name="chaos.series")
def series(seed: int, size: int) -> list[float]:
    """Return numbers for the next task of a chain."""
    return np.random.default_rng(seed).normal(size=size).tolist()


@app.task(name="chaos.mean")
def mean(statistics: dict[str, Any]) -> float:
    """Take what an operation of ours returned, as the last task of a chain."""
    return float(statistics["mean"])


@app.task(name="chaos.nap")
def nap(seconds: float) -> float:
    """Hold a process for a while."""
    time.sleep(seconds)
    return seconds


@app.task(name="chaos.die")
def die(how: str) -> None:
    """End the process that runs it, each time."""
    _DEATHS[how]()


def _overflow() -> None:
    sys.setrecursionlimit(2**31 - 1)

    def deeper(values: Any) -> Any:
        return sorted([1, 2], key=lambda _: deeper(values))

    deeper(())


_DEATHS: Final = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stack": _overflow,
}


_facade, _kernel = mcts.ucb1_selection, compiled.ucb1_selection


def _deadly(*args: Any, **kwargs: Any) -> Any:
    if kwargs.get("exploration") == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return _facade(*args, **kwargs)


def _crashing(*args: Any, **kwargs: Any) -> Any:
    if CRASHING in [value for value in (*args, *kwargs.values()) if isinstance(value, float)]:
        ctypes.string_at(0)
    return _kernel(*args, **kwargs)


mcts.ucb1_selection = _deadly
compiled.ucb1_selection = _crashing
