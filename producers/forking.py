"""Keeps forks out of code that takes locks: a child could never give back another thread's lock.

Celery, kombu and the import system take such locks, for moments, while they set up a connection or
publish for the first time.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Longest wait of a fork, in seconds: for a thread that a silent broker holds it does not wait.
_PATIENCE: Final = 1.0

_changed = threading.Condition(threading.Lock())
_inside = 0
_is_forking = False


@contextmanager
def without_fork() -> Iterator[None]:
    """Let no fork of this process begin while the block runs, for a second at most."""
    global _inside
    with _changed:
        while _is_forking:
            _changed.wait()
        _inside += 1
    try:
        yield
    finally:
        with _changed:
            # A fork that ran out of patience has begun to count anew in its child.
            _inside = max(0, _inside - 1)
            _changed.notify_all()


def _before() -> None:
    global _is_forking
    with _changed:
        _changed.wait_for(lambda: not _is_forking, _PATIENCE)  # another thread's fork
        _is_forking = True
        _changed.wait_for(lambda: _inside == 0, _PATIENCE)


def _after_in_parent() -> None:
    global _is_forking
    with _changed:
        _is_forking = False
        _changed.notify_all()


def _after_in_child() -> None:
    global _changed, _inside, _is_forking
    _changed, _inside, _is_forking = threading.Condition(threading.Lock()), 0, False


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
