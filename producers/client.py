"""The client: carries requests to the workers of one deployment and finds their results."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import redis
from celery import states

from contract import batches, codec
from contract.arrays import describe, summary
from contract.deployment import Deployment
from contract.envelope import HEADER, Envelope
from contract.errors import BrokerUnavailable, InvalidRequest, MessageError, QueueFull
from contract.families import operation as find_operation
from contract.idempotency import DEFAULT_SECONDS, Once
from contract.operation import Operation, Result, Submitter, fields_of
from contract.payloads import InlinePayloads
from contract.results import read_meta
from producers.forking import without_fork
from producers.job import Job, check_seconds
from producers.limits import Limits
from producers.process import Process
from producers.replies import Ticket
from producers.sending import NotSent

R = TypeVar("R", bound=Result)
T = TypeVar("T")

#: Seconds that `job.result()` waits unless told otherwise.
DEFAULT_TIMEOUT: Final = 300.0

#: Seconds that a wish to cancel is kept for a job that waits in its queue.
_CANCEL_SECONDS: Final = 24 * 3600


#: What a refusal to submit adds where it is certain.
_NOTHING: Final = "; nothing was enqueued"


class Client:
    """A connection to one deployment. Threads may share it, and a forked child may go on using it.

    `with client:` makes it the one that operations called in that block go through.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        max_queue_length: int | None = None,
        max_queue_age_seconds: float | None = None,
    ) -> None:
        """Prepare a client; nothing is sent before the first job.

        `url` defaults to `GRISTMILL_URL`, then to `redis://127.0.0.1:6379/0`; `prefix`, the text
        before every key, to `GRISTMILL_PREFIX`, then to none. `timeout` is how many seconds
        `job.result()` waits unless told otherwise; None waits for ever.

        `submit` raises `QueueFull` while the family's queue holds `max_queue_length` jobs, or its
        oldest one waits for longer than `max_queue_age_seconds`. They default to
        `GRISTMILL_MAX_QUEUE_LENGTH` and `GRISTMILL_MAX_QUEUE_AGE_SECONDS`, then to no limit. A
        look at the queue counts for a second.
        """
        check_seconds("timeout", timeout)
        self.deployment = Deployment.from_environment(url, prefix)
        self.timeout = timeout
        self.limits = Limits.from_environment(max_queue_length, max_queue_age_seconds)
        self._payloads = InlinePayloads()
        self._processes: dict[int, Process] = {}
        #: An element for each `with` block that is open, in any thread.
        self._blocks: list[None] = []

    def submit(
        self,
        operation: Operation[Any, R],
        request: Any,
        *,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        idempotency_seconds: float = DEFAULT_SECONDS,
    ) -> Job[R]:
        """Enqueue a checked request and return its job; a submit that returned is accepted.

        A worker that gets the job later than `deadline_seconds` from now ends it with
        `DeadlineExceeded`. A second submit under the same `idempotency_key` returns the first one's
        job, until `idempotency_seconds` after its end; under a key of another request it raises
        `InvalidRequest`.

        Raises `QueueFull` when the broker has no room or the queue is beyond the client's limits:
        nothing was enqueued. Raises `BrokerUnavailable` when the broker does not say that it has
        the job. The error says whether the job may run all the same; then its second argument is
        the job's id.
        """
        check_seconds("deadline_seconds", deadline_seconds)
        every_field = fields_of(request)
        fields, references = self._payloads.pack(every_field)
        job_id = str(uuid.uuid4())

        def send(process: Process) -> tuple[str, Ticket]:
            until = process.until()
            ticket = process.replies.ticket()
            envelope = Envelope.submitted(
                process.now(until),
                deadline_seconds,
                references,
                idempotency_key=once.key if once else None,
                idempotency_seconds=once.seconds if once else 0.0,
                reply_to=ticket.name,
            )
            entry = process.draft(
                operation.name,
                operation.family,
                kwargs=fields,
                task_id=job_id,
                serializer=codec.SERIALIZER,
                headers={HEADER: envelope.to_header()},
                argsrepr="()",
                kwargsrepr=summary(fields),
            )
            return process.send(operation, job_id, entry, once, until), ticket

        with self._explaining(operation, job_id):
            once = None
            if idempotency_key is not None:
                once = Once.of(every_field, idempotency_key, idempotency_seconds)
            found, ticket = self._use(send)
        # An earlier submit under the same key has a list of its own.
        return self._job(operation, found, ticket if found == job_id else None)

    def submit_many(
        self,
        operation: Operation[Any, R],
        requests: Sequence[Any],
        *,
        deadline_seconds: float | None = None,
    ) -> list[Job[R]]:
        """Enqueue many checked requests in few messages and return their jobs in order.

        All are accepted or none. `deadline_seconds` is as for `submit`, and so is what it raises;
        a limit of the queue's length counts messages. Where the broker may have accepted the jobs
        all the same, the error's second argument lists their ids.
        """
        check_seconds("deadline_seconds", deadline_seconds)
        items = [self._payloads.pack(fields_of(request))[0] for request in requests]
        messages = [(str(uuid.uuid4()), part) for part in batches.parts(items)]
        job_ids = [name for key, part in messages for name in batches.item_ids(key, len(part))]

        def send(process: Process) -> list[Ticket]:
            until = process.until()
            now = process.now(until)
            tickets = [process.replies.ticket() for _ in job_ids]
            reply_to = process.replies.name
            process.send_many(
                operation,
                [
                    process.draft(
                        operation.name,
                        operation.family,
                        kwargs={batches.ITEMS: part},
                        task_id=batch_id,
                        serializer=codec.BATCH_SERIALIZER,
                        headers={
                            HEADER: Envelope.submitted(
                                now, deadline_seconds, num_items=len(part), reply_to=reply_to
                            ).to_header()
                        },
                        argsrepr="()",
                        kwargsrepr=f"{len(part)} jobs, the first of {summary(part[0])}",
                    )
                    for batch_id, part in messages
                ],
                until,
            )
            return tickets

        if not messages:
            return []
        with self._explaining(operation, job_ids):
            tickets = self._use(send)
        return [
            self._job(operation, job_id, ticket)
            for job_id, ticket in zip(job_ids, tickets, strict=True)
        ]

    @overload
    def job(self, operation: Operation[Any, R], job_id: str) -> Job[R]: ...

    @overload
    def job(self, operation: str, job_id: str) -> Job[Any]: ...

    def job(self, operation: Operation[Any, Any] | str, job_id: str) -> Job[Any]:
        """Return the handle of a job that this or another process submitted.

        Raises `InvalidRequest` for an id that no job has, `KeyError` for an unknown operation.
        """
        if not _is_id(job_id):
            raise InvalidRequest(f"job_id: {describe(job_id)}, expected the id of a job")
        declared = find_operation(operation) if isinstance(operation, str) else operation
        return self._job(declared, job_id, None)

    def _job(self, operation: Operation[Any, R], job_id: str, ticket: Ticket | None) -> Job[R]:
        return Job(job_id, self, operation.read_result, self.timeout, ticket)

    def look(self, job_id: str) -> dict[str, Any]:
        """Return the job's raw Celery meta; its status is PENDING while nothing is known."""
        return read_meta(self._use(lambda here: here.redis.get(self.deployment.result_key(job_id))))

    def wait(self, job_id: str, seconds: float, ticket: Any = None) -> dict[str, Any]:
        """Return the job's raw Celery meta when it has ended, or after `seconds`, or a short nap.

        `ticket` is what its submit returned where this client submitted it.
        """

        def act(here: Process) -> dict[str, Any]:
            if seconds <= 0:
                return read_meta(here.replies.stored(job_id))
            meta = read_meta(here.replies.look(job_id, ticket))
            if meta["status"] in states.READY_STATES:
                return meta
            return read_meta(here.replies.wait(job_id, ticket, seconds))

        return self._use(act)

    def cancel(self, job_id: str) -> None:
        """Ask for the job's end; workers look for the wish before and during a job."""
        key = self.deployment.cancel_key(job_id)
        self._use(lambda here: here.redis.set(key, b"1", ex=_CANCEL_SECONDS))

    def close(self) -> None:
        """Give back the connections; the next call opens new ones."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            process.close()

    def __enter__(self) -> Self:
        """Make this client the current one."""
        self._blocks.append(None)
        _current.set((*_current.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the client before it the current one again; the last block closes this one."""
        _current.set(_current.get()[:-1])
        self._blocks.pop()
        if not self._blocks:
            self.close()

    def _use(self, act: Callable[[Process], T]) -> T:
        """Return what `act` makes of this process's connections, or raise how the broker failed.

        Where another thread closes the client in the middle, do it again on new connections.
        """
        while True:
            process = self._here()
            try:
                return act(process)
            except Exception as error:
                if self._processes.get(os.getpid()) is not process:
                    continue
                if isinstance(error, redis.RedisError):
                    process.drop_idle()  # they lead to the same broker, which may be gone
                    raise self._refusal(error) from error
                raise

    def _here(self) -> Process:
        # Connections must not be shared with a parent process: a forked child makes its own. Two
        # threads may both make them, and one's are dropped unused; a lock could be held in a fork.
        pid = os.getpid()
        found = self._processes.get(pid)
        if found is not None:
            return found
        with without_fork():
            return self._processes.setdefault(pid, Process(self.deployment, self.limits))

    @contextmanager
    def _explaining(self, operation: Operation[Any, Any], job: str | list[str]) -> Iterator[None]:
        """Raise, for what fails in this block, what the caller of a submit is to know."""
        try:
            yield
        except codec.EncodeError as error:
            raise MessageError(f"{operation.name}: {error}") from None
        except NotSent as failure:
            raise self._not_sent(failure, job) from failure.error
        except BrokerUnavailable as refusal:  # before anything was to be sent
            raise BrokerUnavailable(f"{refusal}{_NOTHING}") from refusal.__cause__

    def _not_sent(self, failure: NotSent, job: str | list[str]) -> BrokerUnavailable | QueueFull:
        refusal = self._refusal(failure.error)
        if isinstance(refusal, QueueFull):
            return refusal
        if failure.may_have_arrived:
            what = f"the job, as {job}" if isinstance(job, str) else f"the {len(job)} jobs"
            return BrokerUnavailable(f"{refusal}; it may have accepted {what}", job)
        return BrokerUnavailable(f"{refusal}{_NOTHING}")

    def _refusal(self, error: Exception) -> BrokerUnavailable | QueueFull:
        place = f"broker {self.deployment.safe_url}"
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return QueueFull(f"{place}: out of memory ({error})")
        return BrokerUnavailable(f"{place}: {error}")


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # a lone surrogate, which no key holds
        return False


_current: ContextVar[tuple[Submitter, ...]] = ContextVar("gristmill_clients", default=())
_default: Submitter | None = None


def connect(
    url: str | None = None,
    *,
    prefix: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    max_queue_length: int | None = None,
    max_queue_age_seconds: float | None = None,
) -> Client:
    """Make and return the client that this process uses wherever no other is current."""
    global _default
    client = Client(
        url,
        prefix=prefix,
        timeout=timeout,
        max_queue_length=max_queue_length,
        max_queue_age_seconds=max_queue_age_seconds,
    )
    replaced, _default = _default, client
    if isinstance(replaced, Client):
        replaced.close()  # a thread that still uses it connects again
    return client


@contextmanager
def submitting_through(submitter: Submitter) -> Iterator[None]:
    """Send every operation called in this block through `submitter`.

    Those that other threads call meanwhile too, unless they have a client of their own.
    """
    global _default
    token, before = _current.set((*_current.get(), submitter)), _default
    _default = submitter
    try:
        yield
    finally:
        _current.reset(token)
        _default = before


def current() -> Submitter:
    """Return the client of the innermost `with` block, else the process's, made on first use."""
    clients = _current.get()
    return clients[-1] if clients else _default or connect()
