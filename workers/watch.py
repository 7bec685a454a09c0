"""The watch over one job: what ends it, how far it is, and whether it is still ours."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import redis

from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery, Envelope
from contract.errors import JobCancelled, TransientError
from contract.events import Events
from workers.limits import TimeLimits
from workers.progress import Progress, say
from workers.twins import Abandoned

#: Seconds between two looks for a wish to cancel: forty looks a second, of some 0.15 ms each, are
#: half a percent of the job's time, and its kernel works on meanwhile.
LOOK_SECONDS: Final = 0.025

#: Seconds until the next look at a broker that did not answer: it may have taken long not to.
PATIENCE_SECONDS: Final = 1.0

#: Seconds between two events of progress: monitors keep each, and draw no film.
EVENT_SECONDS: Final = 1.0

#: State of a job that reports progress; Flower shows it as it is.
PROGRESS: Final = "PROGRESS"

#: What the event of a revoked job says besides. Celery's monitors rank a state that is not theirs,
#: such as PROGRESS, above REVOKED, and would show a cancelled job as running for ever.
REVOKED_EVENT: Final[dict[str, Any]] = {"state": "REVOKED", "result": None}


class Watch:
    """What a job looks at between its steps, and where it tells progress."""

    def __init__(self, task: Any) -> None:
        """Watch over the job that `task` is running."""
        now = time.monotonic()
        self._task = task
        self._job_id: str = task.request.id
        self._redis = task.backend.client
        self._looked_at, self._event_at = now, now
        self._progress = Progress(now)
        self._limits = TimeLimits.of(task)
        self._clock: BrokerClock | None = None
        #: Where Redis keeps the job's message; None where nobody could lose it.
        self.delivery: Delivery | None = None
        if task.acks_late:  # or else the message is no longer anywhere
            self.delivery = Delivery.from_header(task.request.get(DELIVERY))
        #: When the job's result is of no more use, by the broker's clock; None for never.
        self.deadline: float | None = None

    def begin(self, job_id: str) -> None:
        """Watch over another job of the same message from here on."""
        self._job_id = job_id
        self._progress = Progress(time.monotonic())

    def cancelled(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of these jobs are to be cancelled; none while the broker is away."""
        keys = [self._deployment.cancel_key(job_id) for job_id in job_ids]
        with contextlib.suppress(TransientError), _broker():
            wishes = zip(job_ids, self._redis.mget(keys), strict=True)
            return {job_id for job_id, wish in wishes if wish is not None}
        return set()

    def now(self) -> float:
        """Return the broker's time, in seconds since 1970."""
        if self._clock is None:
            self._clock = _clock_of(self._task.app, self._redis)
        with _broker():
            return self._clock.now()

    def check(self) -> None:
        """Raise `JobCancelled`, `DeadlineExceeded` or `Abandoned` when the job should not go on."""
        with _broker(), self._redis.pipeline(transaction=False) as pipe:
            pipe.exists(self._deployment.cancel_key(self._job_id))
            if self.delivery is not None:
                pipe.hexists(self.delivery.inbox, self.delivery.tag)
            is_cancelled, *is_ours = pipe.execute()
        if not all(is_ours):
            self._events.count("fenced", what="run")
            raise Abandoned(f"job {self._job_id}: its worker's lease has ended")
        if is_cancelled:
            raise JobCancelled(f"job {self._job_id}: cancelled")
        if self.deadline is not None:
            Envelope(deadline=self.deadline).check_deadline(self.now())

    def __call__(self, progress: float) -> None:
        """Serve what is due between two steps of a kernel.

        A broker that does not answer is asked again at a later step: it ends no running job.
        """
        self._limits.check()
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self.check()
            self._tell(progress, now)
        except TransientError:
            self._looked_at = time.monotonic() + PATIENCE_SECONDS

    def count_fallback(self, operation: str, reason: str) -> None:
        """Take note that a job ran on NumPy though the C kernel was wanted."""
        self._events.count("fallback", operation=operation, reason=reason)

    def note_breaker(self, operation: str, state: str, seconds: float) -> None:
        """Take note that a breaker of this process has changed; an open one for `seconds`."""
        self._events.count("breaker", operation=operation, state=state)
        process = f"{self._task.request.hostname or socket.gethostname()}/{os.getpid()}"
        with contextlib.suppress(TransientError):
            until = self.now() + seconds if state == "open" else None
            self._events.mark_breaker(operation, process, until)

    @cached_property
    def _deployment(self) -> Deployment:
        options = self._task.app.conf.result_backend_transport_options
        return Deployment(prefix=options.get("global_keyprefix", ""))

    @cached_property
    def _events(self) -> Events:
        return Events(self._redis, self._deployment)

    def _tell(self, progress: float, now: float) -> None:
        report = self._progress.report(progress, now)
        if report is None:
            return
        with _broker():
            self._task.update_state(task_id=self._job_id, state=PROGRESS, meta=report)
        if now - self._event_at >= EVENT_SECONDS and self._task.app.conf.worker_send_task_events:
            self._event_at = now
            with contextlib.suppress(Exception):  # an event more or less, and it has many ways
                self._task.send_event("task-progress", retry=False, result=say(report))


@contextlib.contextmanager
def _broker() -> Iterator[None]:
    """Raise `TransientError` where the broker does not answer."""
    try:
        yield
    except redis.RedisError as error:
        raise TransientError(f"broker: {error}, expected an answer") from None


def _clock_of(app: Any, client: Any) -> BrokerClock:
    # One clock a process: its offset is measured once a minute, not once a job.
    clock: BrokerClock | None = getattr(app, "_gristmill_clock", None)
    if clock is None:
        clock = app._gristmill_clock = BrokerClock(client)
    return clock
