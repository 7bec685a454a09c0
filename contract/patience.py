"""Waiting for a broker that is full or away, in a job that could do nothing else meanwhile."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.log import get_logger

from contract.outages import is_passing

logger = get_logger(__name__)

T = TypeVar("T")

#: Seconds for which a job's own process tries at least where its worker stops.
STOPPING_SECONDS: Final = 5.0

#: First and longest pause between two tries, in seconds.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class HandBack(BaseException):
    """Raised in a job that cannot go on before its worker stops: it goes back to its queue.

    Not an `Exception`: of each of those Celery makes a failure where it sends a retry or the body
    of a chord, and so may a user's task.
    """


def insist(
    act: Callable[[], T],
    what: str,
    *,
    mend: Callable[[], object] = lambda: None,
    most_seconds: float = float("inf"),
    is_job_over: bool = True,
) -> T:
    """Return what `act` does, done as often as the broker must be asked.

    After each try that failed of an outage `mend` is called: to drop connections that lead nowhere,
    say. Gives up after `most_seconds` with the outage's error, and where the
    worker stops with `HandBack`. `what` stands in the log. A job that `is_job_over` but for this
    has no time limits any more.
    """
    began, pause = time.monotonic(), 0.0
    while True:
        try:
            time.sleep(pause * random.uniform(0.5, 1.0))
            return act()
        except SoftTimeLimitExceeded:
            if not is_job_over:
                raise
            logger.info("%s: its time was up when it had ended", what)
        except Exception as error:
            waited = time.monotonic() - began
            if not is_passing(error) or waited > most_seconds:
                raise
            if waited > STOPPING_SECONDS and _is_stopping():
                raise _hand_back(what, error) from None
            if not pause:
                logger.error("%s waits: %s", what, error)
            mend()
            pause = min(2 * pause or _FIRST_PAUSE, _LONGEST_PAUSE)


@contextmanager
def handing_back() -> Iterator[None]:
    """Turn a `HandBack` of this block into the exception by which Celery gives a message back."""
    token = _is_awaited.set(True)
    try:
        yield
    except HandBack as reason:
        raise Reject(str(reason), requeue=True) from None
    finally:
        _is_awaited.reset(token)


def _hand_back(what: str, error: Exception) -> BaseException:
    said = f"{what} still waits as the worker stops: {error}"
    return HandBack(said) if _is_awaited.get() else Reject(said, requeue=True)


def _is_stopping() -> bool:
    """Say whether this very process is a worker that was told to stop."""
    worker = sys.modules.get("celery.worker.state")  # which no app that only enqueues loads
    flags = (getattr(worker, name, None) for name in ("should_stop", "should_terminate"))
    return any(flag is not None and flag is not False for flag in flags)  # 0 is an exit status


#: Whether somebody up the stack waits for `HandBack`; in a task that is not run by us nobody does.
_is_awaited: ContextVar[bool] = ContextVar("gristmill_handing_back", default=False)
