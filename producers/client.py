"""The client: carries requests to the workers of one deployment and finds their results."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import redis
from celery import states

from contract.arrays import describe
from contract.deployment import Deployment
from contract.errors import InvalidRequest
from contract.families import operation as find_operation
from contract.idempotency import DEFAULT_SECONDS
from contract.operation import Operation, Result, Submitter
from contract.results import read_meta
from producers.forking import without_fork
from producers.job import Job, check_seconds
from producers.limits import Limits
from producers.orders import ManyOrders, Order
from producers.process import Process
from producers.refusals import explaining, refusal
from producers.replies import Ticket

R = TypeVar("R", bound=Result)
T = TypeVar("T")

#: Seconds that `job.result()` waits unless told otherwise.
DEFAULT_TIMEOUT: Final = 300.0

#: Seconds that a wish to cancel is kept for a job that waits in its queue.
CANCEL_SECONDS: Final = 24 * 3600


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
        order = Order.of(operation, request, deadline_seconds, idempotency_key, idempotency_seconds)

        def send(process: Process) -> tuple[str, Ticket]:
            until, ticket = process.until(), process.replies.ticket()
            entry = order.entry(process.draft, process.now(until), ticket.name)
            return process.send(operation, order.job_id, entry, order.once, until), ticket

        with explaining(self.deployment, operation, order.job_id):
            found, ticket = self._use(send)
        # An earlier submit under the same key has a list of its own.
        return self._job(operation, found, ticket if found == order.job_id else None)

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
        orders = ManyOrders.of(operation, requests, deadline_seconds)
        if not orders.messages:
            return []

        def send(process: Process) -> list[Ticket]:
            until = process.until()
            tickets = [process.replies.ticket() for _ in orders.job_ids]
            entries = orders.entries(process.draft, process.now(until), process.replies.name)
            process.send_many(operation, entries, until)
            return tickets

        with explaining(self.deployment, operation, orders.job_ids):
            tickets = self._use(send)
        return [
            self._job(operation, job_id, ticket)
            for job_id, ticket in zip(orders.job_ids, tickets, strict=True)
        ]

    @overload
    def job(self, operation: Operation[Any, R], job_id: str) -> Job[R]: ...

    @overload
    def job(self, operation: str, job_id: str) -> Job[Any]: ...

    def job(self, operation: Operation[Any, Any] | str, job_id: str) -> Job[Any]:
        """Return the handle of a job that this or another process submitted.

        Raises `InvalidRequest` for an id that no job has, `KeyError` for an unknown operation.
        """
        if not is_id(job_id):
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
        self._use(lambda here: here.redis.set(key, b"1", ex=CANCEL_SECONDS))

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
                    raise refusal(self.deployment, error) from error
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


def is_id(value: object) -> bool:
    """Say whether a job may have this for its id."""
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
