"""The handle of a submitted job: its result, its state, its end."""

import random
import time
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any, Final, Generic, Protocol, TypeVar

from celery import states

from contract.arrays import describe
from contract.errors import BrokerUnavailable, InvalidRequest, ResultTimeout
from contract.operation import Result
from contract.outages import is_passing
from contract.results import error_from_meta

R = TypeVar("R", bound=Result)

#: First and longest pause between looks at a broker that is away, in seconds.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

#: More seconds than any job lasts; an int may be beyond all floats.
_LONGEST: Final = 2.0**53

#: What Celery's states mean to an app; unknown states are a user task's own and mean "running".
_STATUS: Final = {
    states.PENDING: "queued",
    states.RECEIVED: "queued",
    states.RETRY: "queued",
    states.STARTED: "running",
    states.SUCCESS: "succeeded",
    states.FAILURE: "failed",
    states.REJECTED: "failed",
    states.REVOKED: "cancelled",
}


class Results(Protocol):
    """Where a job's state is looked up: a deployment's Redis, or a test's own memory."""

    def look(self, job_id: str) -> dict[str, Any]:
        """Return the job's raw Celery meta; its status is PENDING while nothing is known."""

    def wait(self, job_id: str, seconds: float, ticket: Any = None) -> dict[str, Any]:
        """Return the job's raw meta when it has ended, or after `seconds`, or after a nap."""

    def cancel(self, job_id: str) -> None:
        """Ask for the job's end."""


class Job(Generic[R]):
    """One job on its way; made by `operation.submit(...)`, or from an id by `Client.job`."""

    def __init__(
        self,
        job_id: str,
        results: Results,
        read_result: Callable[[Any], R],
        default_timeout: float | None,
        ticket: Any = None,
    ) -> None:
        """Watch the job `job_id`; `default_timeout` is how long `result` waits unless told.

        `ticket` is what `results` gave when it was submitted; None for a job of another's.
        """
        #: The job's id, the same as its Celery task id.
        self.id = job_id
        self._results = results
        self._read_result = read_result
        self._default_timeout = default_timeout
        self._ticket = ticket

    def __repr__(self) -> str:
        """Return a text that names the job."""
        return f"Job({self.id!r})"

    def result(self, timeout: float | None = None) -> R:
        """Wait for the job's end; return its result or raise its error.

        Waits at most `timeout` seconds, the client's `timeout` when None, and then raises
        `ResultTimeout`; the job goes on and may be waited for again. A broker that is away, or
        that another takes the place of, is waited for as long.
        """
        check_seconds("timeout", timeout)
        limit = self._default_timeout if timeout is None else timeout
        deadline = float("inf") if limit is None else time.monotonic() + limit
        pauses = _pauses()
        while True:
            try:
                left = deadline - time.monotonic()
                meta = self._results.wait(self.id, left, self._ticket)
                known = status_of(meta)
                if meta["status"] == states.SUCCESS:
                    return self._read_result(meta["result"])
                if meta["status"] in states.READY_STATES:
                    raise error_from_meta(meta)
                pauses = _pauses()
                if left > 0:
                    continue
            except BrokerUnavailable as error:
                if not is_passing(error.__cause__):
                    raise
                known = f"not known ({error})"
            left = deadline - time.monotonic()
            if left <= 0:
                hint = "; does a worker serve its queue?" if known == "queued" else ""
                raise ResultTimeout(
                    f"job {self.id}: {known} after {limit} s, expected its end{hint}"
                )
            time.sleep(min(next(pauses), left))

    def status(self) -> str:
        """Return "queued", "running", "succeeded", "failed" or "cancelled".

        "queued" also stands for an id that nobody knows (any more). A job shows as "running" once
        it reports progress, after about a quarter of a second; a short one goes right to its end.
        """
        return status_of(self._results.look(self.id))

    def progress(self) -> float:
        """Return the part of the work that is done, in [0, 1]; 1 after success."""
        return progress_of(self._results.look(self.id))

    def remaining_seconds(self) -> float | None:
        """Return the seconds that the work is expected to last still; 0 after the job's end.

        None where nobody knows: before the job runs, and in its first moments.
        """
        return remaining_seconds_of(self._results.look(self.id))

    def cancel(self) -> None:
        """Ask for the job's end: a queued job will not run, a running one stops at its next step.

        `result` then raises `JobCancelled`. A job that has ended, or ends before it notices, keeps
        its result.
        """
        self._results.cancel(self.id)


def check_seconds(argument: str, value: object) -> None:
    """Raise `InvalidRequest` unless `value` is None or a number of seconds, zero or more."""
    if value is not None and not (isinstance(value, Real) and _as_float(value) >= 0):
        was = describe(value)
        raise InvalidRequest(f"{argument}: {was}, expected seconds, zero or more, or None")


def _as_float(number: Real) -> float:
    try:
        return float(number)
    except OverflowError:  # an int beyond all floats
        return float("nan")


def _pauses() -> Iterator[float]:
    """Yield the pauses between looks at a broker that is away, in seconds."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, _LONGEST_PAUSE)


def status_of(meta: dict[str, Any]) -> str:
    """Return what a job's raw meta says of it in a word; see `Job.status`."""
    return _STATUS.get(meta["status"], "running")


def progress_of(meta: dict[str, Any]) -> float:
    """Return what a job's raw meta says of its progress, in [0, 1]; 1 after success."""
    if meta["status"] == states.SUCCESS:
        return 1.0
    told = meta["result"]
    done = told.get("progress") if isinstance(told, dict) else None
    # In this order, for a result is input like any other: no NaN, and no int beyond all floats.
    return float(min(done, 1)) if isinstance(done, int | float) and done > 0 else 0.0


def remaining_seconds_of(meta: dict[str, Any]) -> float | None:
    """Return what a job's raw meta says of the time it still takes; see `Job`."""
    if meta["status"] in states.READY_STATES:
        return 0.0
    told = meta["result"]
    left = told.get("remaining_seconds") if isinstance(told, dict) else None
    if isinstance(left, bool) or not isinstance(left, int | float) or not 0 <= left < _LONGEST:
        return None
    return float(left)
