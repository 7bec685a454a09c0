"""The client: carries requests to the workers of one deployment and finds their results."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import redis
from celery import Celery
from celery.exceptions import OperationalError

from contract import codec
from contract.arrays import describe, summary
from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.envelope import HEADER, Envelope
from contract.errors import BrokerUnavailable, InvalidRequest, MessageError, QueueFull
from contract.families import operation as find_operation
from contract.operation import Operation, Result, Submitter, fields_of
from contract.payloads import InlinePayloads
from contract.results import SCHEME, read_meta
from contract.transport import Amqp
from producers.forking import without_fork
from producers.job import Job, check_seconds

R = TypeVar("R", bound=Result)
T = TypeVar("T")

#: Seconds that `job.result()` waits unless told otherwise.
DEFAULT_TIMEOUT: Final = 300.0

#: Seconds to open a connection, and without an answer on one, after which a call gives up.
CONNECT_SECONDS: Final = 5.0

#: Longest sleep on a wake-up list, in seconds: a wake-up that was lost costs no more than this.
_NAP_SECONDS: Final = 2.0

#: Longest sleep where the broker is too full for a wake-up, in seconds.
_DOZE_SECONDS: Final = 0.25

#: Seconds that a wish to cancel is kept for a job that waits in its queue.
_CANCEL_SECONDS: Final = 24 * 3600

#: Pauses before each try to publish on a connection that broke, in seconds.
_PAUSES: Final = (0.0, 0.0, 0.1, 0.2)

#: Most connections that the threads of one process publish on; more threads wait for one another.
_MAX_CONNECTIONS: Final = 32


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
    ) -> None:
        """Prepare a client; nothing is sent before the first job.

        `url` defaults to `GRISTMILL_URL`, then to `redis://127.0.0.1:6379/0`; `prefix`, the text
        before every key, to `GRISTMILL_PREFIX`, then to none. `timeout` is how many seconds
        `job.result()` waits unless told otherwise; None waits for ever.
        """
        check_seconds("timeout", timeout)
        self.deployment = Deployment.from_environment(url, prefix)
        self.timeout = timeout
        self._payloads = InlinePayloads()
        self._processes: dict[int, _Process] = {}
        #: An element for each `with` block that is open, in any thread.
        self._blocks: list[None] = []

    def submit(
        self, operation: Operation[Any, R], request: Any, *, deadline_seconds: float | None = None
    ) -> Job[R]:
        """Enqueue a checked request and return its job; a submit that returned is accepted.

        A worker that gets the job later than `deadline_seconds` from now ends it with
        `DeadlineExceeded`. Raises `QueueFull` when the broker has no room: nothing was enqueued.
        Raises `BrokerUnavailable` when the broker does not say that it has the job; if it fell
        silent in that very moment, the job may run all the same.
        """
        check_seconds("deadline_seconds", deadline_seconds)
        fields, references = self._payloads.pack(fields_of(request))
        job_id = str(uuid.uuid4())

        def publish(process: _Process) -> None:
            envelope = Envelope.submitted(process.clock.now(), deadline_seconds, references)
            process.publish(
                operation.name,
                kwargs=fields,
                task_id=job_id,
                queue=operation.family,
                serializer=codec.SERIALIZER,
                headers={HEADER: envelope.to_header()},
                argsrepr="()",
                kwargsrepr=summary(fields),
            )

        try:
            self._use(publish)
        except codec.EncodeError as error:
            raise MessageError(f"{operation.name}: {error}") from None
        return self.job(operation, job_id)

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
        return Job(job_id, self, declared.read_result, self.timeout)

    def look(self, job_id: str) -> dict[str, Any]:
        """Return the job's raw Celery meta; its status is PENDING while nothing is known."""
        return read_meta(self._use(lambda here: here.redis.get(here.result_key(job_id))))

    def sleep(self, job_id: str, seconds: float) -> None:
        """Return when the job may have ended, or after `seconds`, or after a short nap."""
        wake, nap = self.deployment.wake_key(job_id), max(0.01, min(seconds, _NAP_SECONDS))

        def doze(here: _Process) -> None:
            try:
                # Moved onto itself, the list wakes whoever else waits, and still ends in its time.
                here.redis.blmove(wake, wake, nap)  # type: ignore[arg-type]
            except redis.exceptions.OutOfMemoryError:
                # A full broker moves nothing. The result is there all the same, or will be.
                time.sleep(min(nap, _DOZE_SECONDS))

        self._use(doze)

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

    def _use(self, act: Callable[["_Process"], T]) -> T:
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
                if isinstance(error, OperationalError | redis.RedisError):
                    raise self._refusal(error) from error
                raise

    def _here(self) -> "_Process":
        # Connections must not be shared with a parent process: a forked child makes its own. Two
        # threads may both make them, and one's are dropped unused; a lock could be held in a fork.
        pid = os.getpid()
        found = self._processes.get(pid)
        if found is not None:
            return found
        with without_fork():
            return self._processes.setdefault(pid, _Process(self.deployment))

    def _refusal(self, error: Exception) -> BrokerUnavailable | QueueFull:
        if redis.exceptions.OutOfMemoryError in map(type, (error, error.__cause__)):
            return QueueFull(f"broker {self.deployment.safe_url}: out of memory ({error})")
        return BrokerUnavailable(f"broker {self.deployment.safe_url}: {error}")


class _Process:
    """What one process holds open for a client."""

    def __init__(self, deployment: Deployment) -> None:
        self.app = celery_app(deployment)
        # Celery's own pool would be shared by all clients of a process, and outlive them; and an
        # address from its configuration gives way to CELERY_BROKER_URL, which some other app set.
        connection = self.app.connection_for_write(deployment.broker_url)
        self._connections = connection.Pool(limit=_MAX_CONNECTIONS)
        self.redis = redis.Redis.from_url(
            deployment.url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
        )
        self.clock = BrokerClock(self.redis)

    def publish(self, name: str, **message: Any) -> None:
        """Send a task, again on a new connection where one broke, until time is up."""
        give_up_at = time.monotonic() + CONNECT_SECONDS
        for pause in _PAUSES:
            if pause:
                time.sleep(pause)
            try:
                with without_fork(), self._connections.acquire(block=True) as connection:
                    self.app.send_task(name, connection=connection, retry=False, **message)
            except OperationalError as error:
                failure = error
            else:
                return
            if isinstance(failure.__cause__, redis.ResponseError) or time.monotonic() > give_up_at:
                break
        raise failure

    def result_key(self, job_id: str) -> Any:
        """Return the key of a job's result."""
        with without_fork():
            return self.app.backend.get_key_for_task(job_id)

    def close(self) -> None:
        """Close every connection."""
        self._connections.force_close_all()
        self.redis.close()
        self.app.close()


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # a lone surrogate, which no key holds
        return False


def celery_app(deployment: Deployment) -> Celery:
    """Return a Celery app that sends jobs to a deployment and reads results; it knows no tasks."""
    app = Celery("gristmill-producer", amqp=Amqp, set_as_current=False)
    # The setting of this name would give way to CELERY_RESULT_BACKEND.
    app.backend_cls = f"{SCHEME}+{deployment.backend_url}"
    app.conf.update(
        broker_url=deployment.broker_url,
        broker_transport_options={
            **deployment.transport_options,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": CONNECT_SECONDS,
            "max_retries": 0,  # connecting is tried again by whoever publishes
        },
        result_backend_transport_options=deployment.transport_options,
        broker_connection_timeout=CONNECT_SECONDS,
    )
    return app


_current: ContextVar[tuple[Submitter, ...]] = ContextVar("gristmill_clients", default=())
_default: Submitter | None = None


def connect(
    url: str | None = None,
    *,
    prefix: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Client:
    """Make and return the client that this process uses wherever no other is current."""
    global _default
    client = Client(url, prefix=prefix, timeout=timeout)
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
