"""Celery's time limits for a job of ours: looked at between its steps, in every pool.

Celery's pool of processes ends a job at its soft limit by a signal whose handler raises wherever
the process happens to be: while a result is stored too, or in the next job when it comes late. A
job of ours steps at least every 50 ms, so here the signal leaves a note, and the job ends where it
looks for one. Pools of threads have no limits in Celery; here they have both. What cannot step, a
kernel that hangs in C, is ended by the pool of processes at the hard limit, and by nothing else.
"""

import signal
import time
from typing import Any, Final

from billiard.pool import soft_timeout_sighandler
from billiard.process import current_process
from celery import current_task

from contract.errors import DeadlineExceeded

#: The signal of billiard's pool for a soft limit; where there is none, nothing is sent.
_SOFT_SIGNAL: Final = getattr(signal, "SIGUSR1", None)

#: A signal that comes this much before its time was meant for the job before, in parts of the time.
_EARLY: Final = 0.9


class TimeLimits:
    """The hard and the soft limit of one job, from its start on."""

    def __init__(self, hard: float | None, soft: float | None) -> None:
        """Begin to count; `hard` and `soft` are seconds, None or 0 for none."""
        self._began_at = time.monotonic()
        self._soft = soft or None
        # A pool of processes keeps the hard limit itself, and better: two ends would race.
        self._hard = None if _is_in_pool() else hard or None
        self._is_soft_told = False

    @classmethod
    def of(cls, task: Any) -> "TimeLimits":
        """Return the limits of the job that `task` runs: the message's, else the settings'."""
        hard, soft = task.request.timelimit or (None, None)
        limits = cls(hard or task.time_limit, soft or task.soft_time_limit)
        _listen(limits)
        return limits

    def tell_soft(self) -> None:
        """Take note that the pool's soft limit has passed."""
        self._is_soft_told = self._soft is None or self._passed() >= self._soft * _EARLY

    def check(self) -> None:
        """Raise `DeadlineExceeded`, naming the limit, once one has passed."""
        for name, limit in (("time_limit", self._hard), ("soft_time_limit", self._soft)):
            if limit is not None and self._passed() >= limit:
                raise _exceeded(name, limit)
        if self._is_soft_told:
            raise _exceeded("soft_time_limit", self._soft)

    def _passed(self) -> float:
        return time.monotonic() - self._began_at


def _exceeded(name: str, limit: float | None) -> DeadlineExceeded:
    passed = "passed" if limit is None else f"{limit:g} s passed"
    return DeadlineExceeded(f"{name}: {passed}, expected an end before it")


def _is_in_pool() -> bool:
    return bool(current_process().name != "MainProcess")


#: The limits of the job that this process runs, or ran last, for the signal.
_latest: TimeLimits | None = None


def _listen(limits: TimeLimits) -> None:
    """Let the pool's signal for soft limits reach `limits`; in a pool of processes alone."""
    global _latest
    # Billiard installs its handler after all that we could hook, so ours comes with the first job.
    if _SOFT_SIGNAL is None or not _is_in_pool():
        return
    _latest = limits
    if signal.getsignal(_SOFT_SIGNAL) is soft_timeout_sighandler:
        signal.signal(_SOFT_SIGNAL, _on_soft_signal)


def _on_soft_signal(signum: int, frame: Any) -> None:
    """Raise in a user's task, as billiard does; leave a note for a job of ours."""
    task = current_task._get_current_object() if current_task else None
    if task is None or getattr(task, "keeps_time", False):
        # No task: the job has ended, and the process may be anywhere.
        if _latest is not None:
            _latest.tell_soft()
    else:
        soft_timeout_sighandler(signum, frame)
