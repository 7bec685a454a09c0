"""The Celery tasks: a thin shell around the runner, the same for every operation."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

import celery
import redis
from celery.exceptions import Ignore

from contract import codec
from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.envelope import DELIVERY, HEADER, Delivery, Envelope
from contract.errors import GristmillError, JobCancelled, TransientError
from contract.operation import Operation
from contract.results import Answer
from workers.runner import run

#: Seconds between two looks for a wish to cancel, and between two reports of progress.
CANCEL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 0.25

#: State of a job that reports progress; Flower shows it as it is.
PROGRESS: Final = "PROGRESS"


class Task(celery.Task):
    """The base of every task in these workers, a user's own included."""

    Request = "workers.request:Request"
    Strategy = "workers.intake:strategy"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Leave a job alone that ended in an earlier delivery, but for what that left untold."""
        if _is_redelivered(self.request) and self.backend.finish(self.request):
            raise Ignore(f"job {task_id}: ended in an earlier delivery")


class OperationTask(Task):
    """Runs one operation; its arguments are the request's fields, by name or by position."""

    abstract = True
    throws = (GristmillError,)  # an answer to the caller, not a fault to fill the log with
    typing = False  # the request checks its fields, and names them better
    serializer = codec.SERIALIZER  # for retries, which send the arrays again
    autoretry_for = (TransientError,)
    retry_backoff = True
    retry_backoff_max = 60
    retry_jitter = True
    max_retries = 3

    def __init__(self, operation: Operation[Any, Any]) -> None:
        """Make the task of an operation, under the operation's name."""
        self.operation = operation
        self.name = operation.name
        self.__doc__ = operation.__doc__

    def run(self, /, *args: Any, **kwargs: Any) -> Answer:
        """Run the operation and return its result's fields, JSON-ready where the job is JSON."""
        header = self.request.get(HEADER)
        watch = Watch(self)
        try:
            envelope = Envelope() if header is None else Envelope.from_header(header)
            watch.deadline = envelope.deadline
            with contextlib.suppress(TransientError):  # a look that cannot be had stops no job
                watch.check()
            result = run(self.operation, args, kwargs, envelope, watch)
        except JobCancelled as cancelled:
            self._revoke(str(cancelled))
            raise Ignore from None
        return Answer(result.to_dict() if header is None else result.to_fields())

    def _revoke(self, reason: str) -> None:
        self.backend.mark_as_revoked(self.request.id, reason, request=self.request)
        self.send_event("task-revoked", terminated=True, signum=None, expired=False)


class Watch:
    """What a job looks at between its steps, cancel and deadline, and where it tells progress."""

    def __init__(self, task: OperationTask) -> None:
        """Watch over the job that `task` is running."""
        options = task.app.conf.result_backend_transport_options
        deployment = Deployment(prefix=options.get("global_keyprefix", ""))
        self._task = task
        self._redis = task.backend.client
        self._cancel_key = deployment.cancel_key(task.request.id)
        self._looked_at = self._told_at = time.monotonic()
        self._clock: BrokerClock | None = None
        #: When the job's result is of no more use, by the broker's clock; None for never.
        self.deadline: float | None = None

    def now(self) -> float:
        """Return the broker's time, in seconds since 1970."""
        if self._clock is None:
            self._clock = _clock_of(self._task.app, self._redis)
        with _broker():
            return self._clock.now()

    def check(self) -> None:
        """Raise `JobCancelled` or `DeadlineExceeded` when the job should not go on."""
        with _broker():
            is_cancelled = self._redis.exists(self._cancel_key)
        if is_cancelled:
            raise JobCancelled(f"job {self._task.request.id}: cancelled")
        if self.deadline is not None:
            Envelope(deadline=self.deadline).check_deadline(self.now())

    def __call__(self, progress: float) -> None:
        """Serve what is due between two steps of a kernel.

        A broker that does not answer is asked again at a later step: it ends no running job.
        """
        now = time.monotonic()
        with contextlib.suppress(TransientError):
            if now - self._looked_at >= CANCEL_SECONDS:
                self._looked_at = now
                self.check()
            if now - self._told_at >= PROGRESS_SECONDS:
                self._told_at = now
                with _broker():
                    self._task.update_state(state=PROGRESS, meta={"progress": progress})


def _is_redelivered(request: Any) -> bool:
    delivery = Delivery.from_header(request.get(DELIVERY))
    if delivery is not None and delivery.lost + delivery.returned:
        return True
    return bool((request.delivery_info or {}).get("redelivered"))


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
