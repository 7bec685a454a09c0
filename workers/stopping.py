"""Tells the processes of a pool that their worker stops, so that none of them waits for ever.

A job's process waits for a broker that cannot take the job's result (`contract.results`): for as
long as it takes, but no longer than its worker lives.
"""

import contextlib
import os
import signal
from typing import Any

from billiard.process import active_children
from celery import signals
from celery.platforms import EX_OK
from celery.worker import state

#: Celery and billiard leave this one to whoever wants it.
_SIGNAL = getattr(signal, "SIGUSR2", None)


def connect() -> None:
    """Attach to Celery's signals, on systems that have some of their own."""
    if _SIGNAL is not None:
        signals.worker_process_init.connect(listen, weak=False)
        signals.worker_shutting_down.connect(tell_children, weak=False)


def listen(**_: Any) -> None:
    """Make a process of the pool know when it is told."""
    if _SIGNAL is not None:
        signal.signal(_SIGNAL, _note)


def tell_children(**_: Any) -> None:
    """Tell every process of the pool that the worker stops."""
    for child in active_children():
        if child.pid and _SIGNAL is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, _SIGNAL)


def _note(*_: Any) -> None:
    state.should_stop = EX_OK  # what the worker's own process notes
