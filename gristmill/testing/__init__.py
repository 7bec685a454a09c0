"""In-process mode for an app's own tests: same calls, handles and errors, no Redis, no worker.

    with in_process():
        assert analytics.basic_statistics([1.0, 2.0, 3.0]).mean == 2.0

Every request and result makes the round trip through the codec, so what would not travel fails here
too. `gristmill.testing.plugin` has the same as a pytest fixture.
"""

import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from celery import states

from contract import codec
from contract.envelope import Envelope
from contract.errors import (
    BrokerUnavailable,
    GristmillError,
    InternalError,
    JobCancelled,
    MessageError,
)
from contract.families import operation as find_operation
from contract.idempotency import DEFAULT_SECONDS, Once
from contract.operation import Operation, Result, fields_of
from contract.payloads import InlinePayloads
from producers.client import submitting_through
from producers.job import Job, check_seconds
from workers.progress import Progress
from workers.runner import run
from workers.twins import Silence, Twins

R = TypeVar("R", bound=Result)


class InProcess:
    """Stands in for a client, a broker and one worker; its jobs run one by one on a thread."""

    def __init__(self, timeout: float | None = 60.0) -> None:
        """Start empty; `timeout` is how many seconds `job.result()` waits unless told otherwise."""
        check_seconds("timeout", timeout)
        self.timeout = timeout
        self._payloads = InlinePayloads()
        self._twins = Twins()  # which C kernels fail is forgotten with the block
        self._metas: dict[str, dict[str, Any]] = {}
        self._cancelled: set[str] = set()
        #: What stands under each idempotency key of each operation, and for how long from the end.
        self._names: dict[tuple[str, str], tuple[str, float]] = {}
        self._ended_at: dict[str, float] = {}
        self._changed = threading.Condition()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gristmill-in-process")

    def submit(
        self,
        operation: Operation[Any, R],
        request: Any,
        *,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        idempotency_seconds: float = DEFAULT_SECONDS,
    ) -> Job[R]:
        """Run a checked request on the worker thread and return its job."""
        check_seconds("deadline_seconds", deadline_seconds)
        fields, references = self._payloads.pack(fields_of(request))
        envelope = Envelope.submitted(time.time(), deadline_seconds, references)
        message = codec.encode([envelope.to_header(), fields])
        job_id = str(uuid.uuid4())
        if idempotency_key is not None:
            once = Once.of(fields, idempotency_key, idempotency_seconds)
            found = once.job_of(self._name(operation.name, once, job_id))
            if found != job_id:
                return self.job(operation, found)
        self._store(job_id, states.PENDING)
        try:
            # In the caller's context, which may have chosen a backend of native_c.
            self._worker.submit(copy_context().run, self._run, operation, job_id, message)
        except RuntimeError:
            raise BrokerUnavailable("in process: closed, expected an open block") from None
        return self.job(operation, job_id)

    def submit_many(
        self,
        operation: Operation[Any, R],
        requests: Sequence[Any],
        *,
        deadline_seconds: float | None = None,
    ) -> list[Job[R]]:
        """Run many checked requests on the worker thread and return their jobs."""
        return [
            self.submit(operation, request, deadline_seconds=deadline_seconds)
            for request in requests
        ]

    def _name(self, operation: str, once: Once, job_id: str) -> str:
        """Give a job its name, unless it is another's; return what stands under the name."""
        with self._changed:
            value, seconds = self._names.get((operation, once.key), ("", 0.0))
            ended_at = self._ended_at.get(value.partition(" ")[0], math.inf)
            if not value or time.monotonic() > ended_at + seconds:
                value = once.to_value(job_id)
                self._names[operation, once.key] = value, once.seconds
            return value

    def job(self, operation: Operation[Any, R] | str, job_id: str) -> Job[R]:
        """Return the handle of a job that was submitted here."""
        declared = find_operation(operation) if isinstance(operation, str) else operation
        return Job(job_id, self, declared.read_result, self.timeout)

    def look(self, job_id: str) -> dict[str, Any]:
        """Return the job's meta, in the shape of Celery's."""
        with self._changed:
            return self._metas.get(job_id, {"status": states.PENDING, "result": None})

    def wait(self, job_id: str, seconds: float, ticket: Any = None) -> dict[str, Any]:
        """Return the job's meta when some job may have ended, or after `seconds`."""
        with self._changed:
            if self.look(job_id)["status"] not in states.READY_STATES and seconds > 0:
                self._changed.wait(None if seconds == float("inf") else seconds)
            return self.look(job_id)

    def cancel(self, job_id: str) -> None:
        """Ask for the job's end."""
        self._cancelled.add(job_id)

    def close(self) -> None:
        """Cancel what has not ended and stop the worker thread."""
        self._cancelled.update(self._metas)
        self._worker.shutdown(wait=True)  # each job that waits sees that it is cancelled, and ends

    def _run(self, operation: Operation[Any, R], job_id: str, message: bytes) -> None:
        try:
            header, fields = codec.decode(message)
            envelope = Envelope.from_header(header)
            watch = _Watch(self, job_id, envelope)
            watch.check()
            result = run(operation, (), fields, envelope, watch, twins=self._twins)
            self._store(job_id, states.SUCCESS, codec.decode(codec.encode(result.to_fields())))
        except JobCancelled:
            self._store(job_id, states.REVOKED)
        except GristmillError as error:
            self._store(job_id, states.FAILURE, _stored(error))
        except BaseException as error:  # what would end a worker's process
            ended = InternalError(f"{operation.name}: {type(error).__name__}: {error}", "")
            self._store(job_id, states.FAILURE, _stored(ended))

    def _store(self, job_id: str, status: str, result: Any = None) -> None:
        with self._changed:
            self._metas[job_id] = {"status": status, "result": result, "task_id": job_id}
            if status in states.READY_STATES:
                self._ended_at[job_id] = time.monotonic()
            self._changed.notify_all()


class _Watch(Silence):
    def __init__(self, road: InProcess, job_id: str, envelope: Envelope) -> None:
        self._road, self._job_id, self._envelope = road, job_id, envelope
        self._progress = Progress(time.monotonic())
        self._told = {"progress": 0.0, "remaining_seconds": None}

    def now(self) -> float:
        return time.time()

    def check(self) -> None:
        if self._job_id in self._road._cancelled:
            raise JobCancelled(f"job {self._job_id}: cancelled")
        self._envelope.check_deadline(self.now())

    def __call__(self, progress: float) -> None:
        self.check()
        report = self._progress.report(progress, time.monotonic())
        self._told = report or {**self._told, "progress": progress}
        self._road._store(self._job_id, "PROGRESS", self._told)


@contextmanager
def in_process(timeout: float | None = 60.0) -> Iterator[InProcess]:
    """Send every operation called in this block to an in-process worker, and yield it."""
    road = InProcess(timeout)
    try:
        with submitting_through(road):
            yield road
    finally:
        road.close()


def _stored(error: GristmillError) -> dict[str, Any]:
    # As Celery's backend stores an exception: class by name, arguments as plain values.
    kind = type(error)
    arguments = [_plain(argument) for argument in error.args]
    return {"exc_type": kind.__name__, "exc_module": kind.__module__, "exc_message": arguments}


def _plain(value: Any) -> Any:
    try:
        return codec.decode(codec.encode(value))
    except MessageError:
        return repr(value)
