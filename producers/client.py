"""The client: carries requests to the workers of one deployment and finds their results."""

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import redis
from celery import Celery, states
from celery.exceptions import OperationalError

from contract import codec
from contract.arrays import summary
from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.envelope import HEADER, Envelope
from contract.errors import BrokerUnavailable, InvalidRequest, QueueFull
from contract.families import operation as find_operation
from contract.operation import Operation, Result, Submitter, fields_of
from contract.payloads import InlinePayloads
from contract.results import SCHEME
from contract.transport import Amqp
from producers.job import Job

R = TypeVar("R", bound=Result)

#: Seconds that `job.result()` waits unless told otherwise.
DEFAULT_TIMEOUT: Final = 300.0

#: Seconds to open a connection, and without an answer on one, after which a call gives up.
CONNECT_SECONDS: Final = 5.0

#: Longest sleep on a wake-up list, in seconds: a wake-up that was lost costs no more than this.
_NAP_SECONDS: Final = 2.0

#: Seconds that a wish to cancel is kept for a job that waits in its queue.
_CANCEL_SECONDS: Final = 24 * 3600

#: Publishing tries again on a connection that broke: at once, then after 0.1 and 0.2 s.
_RETRY: Final = {"max_retries": 3, "interval_start": 0.0, "interval_step": 0.1, "interval_max": 0.2}


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
        if timeout is not None and not timeout >= 0:
            raise InvalidRequest(f"timeout: {timeout!r}, expected seconds or None")
        self.deployment = Deployment.from_environment(url, prefix)
        self.timeout = timeout
        self._payloads = InlinePayloads()
        self._tokens: list[Token[Submitter | None]] = []
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def submit(
        self, operation: Operation[Any, R], request: Any, *, deadline_seconds: float | None = None
    ) -> Job[R]:
        """Enqueue a checked request and return its job; a submit that returned is accepted.

        A worker that gets the job later than `deadline_seconds` from now ends it with
        `DeadlineExceeded`. Raises `BrokerUnavailable` or `QueueFull`; then nothing was enqueued.
        """
        process = self._here()
        fields, references = self._payloads.pack(fields_of(request))
        job_id = str(uuid.uuid4())
        try:
            now = process.clock.now()
            deadline = None if deadline_seconds is None else now + deadline_seconds
            envelope = Envelope(submitted_at=now, deadline=deadline, references=references)
            process.app.send_task(
                operation.name,
                kwargs=fields,
                task_id=job_id,
                queue=operation.family,
                serializer=codec.SERIALIZER,
                headers={HEADER: envelope.to_header()},
                argsrepr="()",
                kwargsrepr=summary(fields),
                retry_policy=_RETRY,
            )
        except (OperationalError, redis.RedisError) as error:
            raise self._refusal(error) from error
        return self.job(operation, job_id)

    def job(self, operation: Operation[Any, R] | str, job_id: str) -> Job[R]:
        """Return the handle of a job that this or another process submitted."""
        declared = find_operation(operation) if isinstance(operation, str) else operation
        return Job(job_id, self, declared.read_result, self.timeout)

    def look(self, job_id: str) -> dict[str, Any]:
        """Return the job's raw Celery meta; its status is PENDING while nothing is known."""
        backend = self._here().app.backend
        try:
            payload = backend.client.get(backend.get_key_for_task(job_id))
        except redis.RedisError as error:
            raise self._refusal(error) from error
        pending = {"status": states.PENDING, "result": None}
        meta: dict[str, Any] = backend.decode(payload) if payload else pending
        return meta

    def sleep(self, job_id: str, seconds: float) -> None:
        """Return when the job may have ended, or after `seconds`, or after a short nap."""
        client = self._here().redis
        wake = self.deployment.wake_key(job_id)
        try:
            if client.blpop([wake], timeout=max(0.01, min(seconds, _NAP_SECONDS))):
                client.rpush(wake, b"1")  # for whoever else waits; its expiry was set by the worker
                client.expire(wake, 60)
        except redis.RedisError as error:
            raise self._refusal(error) from error

    def cancel(self, job_id: str) -> None:
        """Ask for the job's end; workers look for the wish before and during a job."""
        try:
            self._here().redis.set(self.deployment.cancel_key(job_id), b"1", ex=_CANCEL_SECONDS)
        except redis.RedisError as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Give back the connections; the next call opens new ones."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.app.close()
            process.redis.close()

    def __enter__(self) -> Self:
        """Make this client the current one."""
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the client before it the current one again, and close this one."""
        _current.reset(self._tokens.pop())
        self.close()

    def _here(self) -> "_Process":
        # Connections must not be shared with a parent process: a forked child makes its own.
        process = self._process
        if process is None or process.pid != os.getpid():
            with self._lock:
                process = self._process
                if process is None or process.pid != os.getpid():
                    process = self._process = _Process(self.deployment)
        return process

    def _refusal(self, error: Exception) -> BrokerUnavailable | QueueFull:
        if "OOM" in str(error) or isinstance(error, redis.exceptions.OutOfMemoryError):
            return QueueFull(f"broker {self.deployment.safe_url}: out of memory ({error})")
        return BrokerUnavailable(f"broker {self.deployment.safe_url}: {error}")


class _Process:
    """What one process holds open for a client."""

    def __init__(self, deployment: Deployment) -> None:
        self.pid = os.getpid()
        self.app = celery_app(deployment)
        self.redis = redis.Redis.from_url(
            deployment.url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS + _NAP_SECONDS,
        )
        self.clock = BrokerClock(self.redis)


def celery_app(deployment: Deployment) -> Celery:
    """Return a Celery app that sends jobs to a deployment and reads results; it knows no tasks."""
    app = Celery("gristmill-producer", amqp=Amqp, set_as_current=False)
    app.conf.update(
        broker_url=deployment.broker_url,
        result_backend=f"{SCHEME}+{deployment.backend_url}",
        broker_transport_options={
            **deployment.transport_options,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": CONNECT_SECONDS,
        },
        result_backend_transport_options=deployment.transport_options,
        redis_socket_connect_timeout=CONNECT_SECONDS,
        redis_socket_timeout=CONNECT_SECONDS,
        broker_pool_acquire_timeout=CONNECT_SECONDS,
        broker_connection_timeout=CONNECT_SECONDS,
    )
    return app


_current: ContextVar[Submitter | None] = ContextVar("gristmill_client", default=None)
_default: Client | None = None
_default_lock = threading.Lock()


def connect(
    url: str | None = None,
    *,
    prefix: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Client:
    """Make and return the client that this process uses wherever no other is current."""
    global _default
    client = Client(url, prefix=prefix, timeout=timeout)
    with _default_lock:
        _default = client
    return client


@contextmanager
def submitting_through(submitter: Submitter) -> Iterator[None]:
    """Send every operation called in this block through `submitter`."""
    token = _current.set(submitter)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Submitter:
    """Return the client of the innermost `with` block, else the process's, made on first use."""
    return _current.get() or _default or connect()
