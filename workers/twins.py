"""Chooses the twin that runs a job: C, or NumPy where C is missing, failing or suspect."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from celery.utils.log import get_logger

import native_c
from contract.errors import GristmillError
from native_c import errors as native_errors
from workers.breaker import CLOSED, HALF_OPEN, OPEN, OPEN_SECONDS, Breaker

logger = get_logger(__name__)

R = TypeVar("R")

#: Seconds between two looks for kernels that were missing or unsound when the process began.
LOOK_SECONDS: Final = 60.0

#: Most characters of an error that a warning repeats.
_ERROR_CHARACTERS: Final = 200

#: What the log says of each state that a breaker comes to.
_SAID: Final = {
    OPEN: f"the C kernel keeps failing; jobs run on NumPy for {OPEN_SECONDS:.0f} s",
    HALF_OPEN: "the C kernel is tried again with one job",
    CLOSED: "the C kernel answers again and is used",
}

#: What a kernel may raise that is no fault of its own: NumPy would say the same.
_ANSWERS: Final = (
    GristmillError,
    native_errors.InvalidArgument,
    native_errors.OutOfMemory,
    native_errors.Singular,
    native_errors.NotConverged,
    MemoryError,
)


class Abandoned(Exception):
    """Raised when a job is no longer ours to run: another worker has it."""


@dataclass(frozen=True)
class Doubt:
    """Why a job is not to run on the C kernels."""

    #: A word for the metric, one of those of the event "fallback".
    reason: str
    #: A sentence for the caller.
    warning: str


class Monitor(Protocol):
    """Hears what becomes of the twins; the events of a deployment, or a test's own."""

    def count_fallback(self, operation: str, reason: str) -> None:
        """Take note that a job ran on NumPy though the C kernel was wanted."""

    def note_breaker(self, operation: str, state: str, seconds: float) -> None:
        """Take note that a breaker has changed; an open one stays so for `seconds`."""


class Twins:
    """The choice between C and NumPy for the jobs of one process.

    A C kernel that fails with an internal kind of error is run again on NumPy within the same job;
    one that keeps failing is left alone until its breaker lets a job try it again.
    """

    def __init__(self) -> None:
        """Begin with trust in every kernel."""
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()

    def run(
        self,
        operation: str,
        work: Callable[..., R],
        monitor: Monitor,
        doubt: Doubt | None = None,
    ) -> R:
        """Return what `work(*warnings)` makes on the twin that is to run it.

        `doubt` says why this job must not run on the C kernel. Raises what `work` raises on NumPy,
        and on C what is no fault of the kernel.
        """
        if native_c.current().name == "fallback" and not self._found_again():
            return self._without_kernels(operation, work, monitor)
        if doubt is not None:
            return _fall_back(operation, work, monitor, doubt)
        with self._lock:
            breaker = self._breakers[operation]
        try:
            return _run_guarded(operation, work, monitor, breaker)
        finally:
            for state in breaker.take_changes():
                logger.warning("%s: %s (circuit breaker %s)", operation, _SAID[state], state)
                monitor.note_breaker(operation, state, OPEN_SECONDS)

    def _without_kernels(self, operation: str, work: Callable[..., R], monitor: Monitor) -> R:
        reason = native_c.fallback_reason()
        if not reason:  # NumPy is what was asked for
            return work()
        warning = f"The C kernels cannot be used here ({reason}): this answer is NumPy's."
        monitor.count_fallback(operation, "unavailable")
        return work(warning)

    def _found_again(self) -> bool:
        """Look again for kernels that were not there, now and then; tell whether they are now."""
        if not native_c.fallback_reason():
            return False
        with self._lock:
            if time.monotonic() - self._looked_at < LOOK_SECONDS:
                return False
            self._looked_at = time.monotonic()
        if not native_c.try_again():
            return False
        logger.warning("the C kernels are there again and are used")
        return True


def _run_guarded(operation: str, work: Callable[..., R], monitor: Monitor, breaker: Breaker) -> R:
    """Run `work` on C and, where that fails by a fault of the kernel, again on NumPy."""
    ticket = breaker.admit()
    if ticket is None:
        return _fall_back(operation, work, monitor, _left_alone(operation))
    try:
        made = work()
    except (*_ANSWERS, Abandoned):
        breaker.give_back(ticket)
        raise
    except Exception as error:
        failure = error
    except BaseException:
        breaker.give_back(ticket)
        raise
    else:
        breaker.succeed(ticket)
        return made
    try:
        made = _fall_back(operation, work, monitor, _failed(operation, failure))
    except BaseException:
        # NumPy has no answer either: the fault is not the kernel's, or the job was ended.
        breaker.give_back(ticket)
        raise
    logger.error("%s: the C kernel failed, and NumPy did its job", operation, exc_info=failure)
    breaker.fail(ticket)
    return made


def _fall_back(operation: str, work: Callable[..., R], monitor: Monitor, doubt: Doubt) -> R:
    with native_c.use_backend("fallback"):
        made = work(doubt.warning)
    monitor.count_fallback(operation, doubt.reason)
    return made


def _failed(operation: str, error: Exception) -> Doubt:
    said = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
    return Doubt("error", f"The C kernel of {operation} failed ({said}): this answer is NumPy's.")


def _left_alone(operation: str) -> Doubt:
    was = "failed again and again and is left alone for a while"
    return Doubt("breaker", f"The C kernel of {operation} {was}: this answer is NumPy's.")


class Silence:
    """A monitor that tells nobody."""

    def count_fallback(self, operation: str, reason: str) -> None:
        """Do nothing."""

    def note_breaker(self, operation: str, state: str, seconds: float) -> None:
        """Do nothing."""


#: The twins of this process's jobs.
TWINS: Final = Twins()
