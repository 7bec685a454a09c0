"""Tasks of a user's own, which run in the same workers: `-I tests.integration.user_tasks`."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import native_c
from workers import app

#: Number of visits at which the kernel of UCB1 crashes, where `crashing_kernel` is loaded.
FATAL_VISITS = 666


@app.task(name="user.add")
def add(left: float, right: float) -> float:
    return left + right


@app.task(name="user.total")
def total(parts: list[float]) -> float:
    """End a chord."""
    return sum(parts)


@app.task(name="user.fail")
def fail(*_: object) -> None:
    raise ValueError("as it should")


@app.task(name="user.early", acks_late=False)
def early(seconds: float) -> float:
    """Be acknowledged before it begins, and wait until Redis has forgotten the message."""
    time.sleep(seconds)
    return seconds


@app.task(name="user.flaky", bind=True, max_retries=2)
def flaky(self) -> int:
    """Succeed at the second try."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="user.silent", ignore_result=True)
def silent() -> str:
    return "nobody asks"


@app.task(name="user.mean_of")
def mean_of(result: dict) -> float:
    """Take what an operation of ours returned, as the next task of a chain."""
    return result["mean"]


@app.task(name="user.hoard")
def hoard() -> float:
    return float(np.empty(2**50)[0])


@app.task(name="user.wait")
def wait(seconds: float) -> str:
    """Wait, and ask the broker for nothing."""
    time.sleep(seconds)
    return "done"


@app.task(name="user.relay")
def relay(seconds: float) -> str:
    """Wait, and send a job of its own."""
    time.sleep(seconds)
    return add.delay(1, 2).id


@app.task(name="user.late_flaky", bind=True, max_retries=2)
def late_flaky(self, seconds: float) -> int:
    """Wait, and succeed at the second try."""
    if self.request.retries == 0:
        time.sleep(seconds)
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="user.note", bind=True)
def note(self, words: object, key: str) -> object:
    """Put what it got on a list in Redis, so that a test sees how often it ran."""
    self.backend.client.rpush(key, str(words))
    return words


@app.task(name="user.begin", bind=True)
def begin(self, seconds: float, key: str) -> str:
    """Say that it has begun, then ask the broker for nothing."""
    self.backend.client.incr(key)
    time.sleep(seconds)
    return "done"


@app.task(name="user.text")
def text(seconds: float, size: int) -> str:
    """Wait, and return a text of so many characters."""
    time.sleep(seconds)
    return size * "x"


@app.task(name="user.slow", bind=True)
def slow(self, seconds: float, key: str, _: str = "") -> str:
    """Count starts and ends in Redis, so that a test sees how often it ran."""
    self.backend.client.set(f"{key}:pid", os.getpid())
    self.backend.client.incr(f"{key}:starts")
    time.sleep(seconds)
    self.backend.client.incr(f"{key}:ends")
    return "done"


def overflow(_: int = 0) -> list[Any]:
    """Recur through C until its stack is full."""
    sys.setrecursionlimit(10**9)
    return list(map(overflow, [0]))


#: Ways for a process to die, by what it dies of.
DEATHS: dict[str, Callable[[], Any]] = {
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": os.abort,
    "stack": overflow,
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
}


@app.task(name="user.killer", bind=True)
def killer(self, key: str, death: str = "SIGKILL") -> None:
    """Kill the process that runs it, each time."""
    self.backend.client.rpush(f"{key}:starts", native_c.current().name)
    DEATHS[death]()


@app.task(name="user.hang", time_limit=1)
def hang() -> None:
    """Be in C for longer than the hard time limit."""
    ctypes.CDLL(None).sleep(60)
