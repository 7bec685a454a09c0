"""The client for an event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import redis
from redis import asyncio as redis_asyncio

from contract.arrays import describe
from contract.clock import AsyncBrokerClock
from contract.deployment import Deployment
from contract.drafts import Drafts
from contract.errors import InvalidRequest
from contract.families import operation as find_operation
from contract.idempotency import DEFAULT_SECONDS, MAX_SECONDS
from contract.operation import Operation, Result
from producers.asynchronous.job import AsyncJob
from producers.asynchronous.replies import AsyncReplies
from producers.asynchronous.sending import AsyncSender
from producers.client import CANCEL_SECONDS, DEFAULT_TIMEOUT, is_id
from producers.job import check_seconds
from producers.limits import Gate, Limits
from producers.orders import ManyOrders, Order
from producers.process import CONNECT_SECONDS, HEALTH_SECONDS, celery_app
from producers.refusals import explaining, refusal
from producers.replies import Ticket

R = TypeVar("R", bound=Result)

#: Most connections of a client: one reads replies, one sends, the others look at jobs.
_MAX_CONNECTIONS: Final = 8


class AsyncClient:
    """A connection to one deployment for one event loop: thousands of jobs, a few connections.

    `async with AsyncClient() as client:` closes it at the end, and makes it the one that
    `operation.submit_async` goes through in that block.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        max_queue_length: int | None = None,
        max_queue_age_seconds: float | None = None,
        cancels: bool = False,
    ) -> None:
        """Prepare a client; nothing is sent before the first job.

        The arguments are those of `Client`, and `cancels`: whether the cancellation of a task
        that awaits a job cancels the job, too.
        """
        check_seconds("timeout", timeout)
        self.deployment = Deployment.from_environment(url, prefix)
        self.timeout = timeout
        self.cancels = cancels
        limits = Limits.from_environment(max_queue_length, max_queue_age_seconds)
        self._redis: Any = _connect(self.deployment)
        self._app = celery_app(self.deployment)
        self._drafts = Drafts(self._app)
        self._clock = AsyncBrokerClock(self._redis)
        self._gate = Gate(self._redis, self.deployment, limits, self._clock)
        self._sender = AsyncSender(self._redis.connection_pool)
        self._replies = AsyncReplies(self._redis, self.deployment)
        self._beginning = asyncio.Lock()
        self._blocks: list[Any] = []

    # --- Submitting ---

    async def submit(
        self,
        operation: Operation[Any, R],
        request: Any,
        *,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        idempotency_seconds: float = DEFAULT_SECONDS,
    ) -> AsyncJob[R]:
        """Enqueue a checked request and return its job; see `Client.submit`.

        What one turn of the event loop submits goes out in one write. Where the task that submits
        is cancelled meanwhile, the job may run all the same.
        """
        order = Order.of(operation, request, deadline_seconds, idempotency_key, idempotency_seconds)
        ticket = self._replies.ticket()
        with explaining(self.deployment, operation, order.job_id):
            until = await self._begin(operation.family)
            entry = order.entry(self._drafts.draft, self._clock.now(), ticket.name)
            queue_key = self.deployment.queue_key(operation.family)
            if order.once is None:
                with self._gate.admit(operation.family):
                    await self._sender.send(queue_key, entry, until=until)
                return self._job(operation, order.job_id, ticket)
            found = await self._sender.send_once(
                queue_key,
                entry,
                self.deployment.once_key(operation.name, order.once.key),
                order.once.to_value(order.job_id),
                MAX_SECONDS,
                lambda: self._gate.admit(operation.family),
                until,
            )
        job_id = order.once.job_of(found)
        # An earlier submit under the same key has a list of its own.
        return self._job(operation, job_id, ticket if job_id == order.job_id else None)

    async def submit_many(
        self,
        operation: Operation[Any, R],
        requests: Sequence[Any],
        *,
        deadline_seconds: float | None = None,
    ) -> list[AsyncJob[R]]:
        """Enqueue many checked requests in few messages and return their jobs in order.

        See `Client.submit_many`.
        """
        orders = ManyOrders.of(operation, requests, deadline_seconds)
        if not orders.messages:
            return []
        tickets = [self._replies.ticket() for _ in orders.job_ids]
        with explaining(self.deployment, operation, orders.job_ids):
            until = await self._begin(operation.family)
            entries = orders.entries(self._drafts.draft, self._clock.now(), self._replies.name)
            with self._gate.admit(operation.family):
                queue_key = self.deployment.queue_key(operation.family)
                await self._sender.send(queue_key, *entries, until=until)
        return [
            self._job(operation, job_id, ticket)
            for job_id, ticket in zip(orders.job_ids, tickets, strict=True)
        ]

    async def _begin(self, queue: str) -> float:
        """Return when a submit that begins now gives up; read the clock and the queue if due."""
        until = time.monotonic() + CONNECT_SECONDS
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # One of those who submit at once asks for all of them, and they keep their order.
                async with self._beginning, self._explained():
                    await self._clock.refresh()
                    if self._gate.is_due(queue):
                        async with self._redis.pipeline(transaction=False) as pipe:
                            look = self._gate.ask(queue, pipe)
                            self._gate.note(look, await pipe.execute())
        except TimeoutError:
            raise refusal(self.deployment, redis.TimeoutError("no answer in time")) from None
        return until

    # --- Jobs ---

    @overload
    def job(self, operation: Operation[Any, R], job_id: str) -> AsyncJob[R]: ...

    @overload
    def job(self, operation: str, job_id: str) -> AsyncJob[Any]: ...

    def job(self, operation: Operation[Any, Any] | str, job_id: str) -> AsyncJob[Any]:
        """Return the handle of a job that this or another client submitted.

        Raises `InvalidRequest` for an id that no job has, `KeyError` for an unknown operation.
        """
        if not is_id(job_id):
            raise InvalidRequest(f"job_id: {describe(job_id)}, expected the id of a job")
        declared = find_operation(operation) if isinstance(operation, str) else operation
        return self._job(declared, job_id, None)

    def _job(self, operation: Operation[Any, R], job_id: str, ticket: Ticket | None) -> AsyncJob[R]:
        return AsyncJob(
            job_id,
            self,
            operation.read_result,
            self.timeout,
            ticket=ticket,
            cancels=self.cancels,
        )

    async def end(self, job_id: str, ticket: Any) -> bytes | None:
        """Wait for a job's end; return what is stored, or None where that is to be fetched."""
        async with self._explained():
            return await self._replies.end(job_id, ticket)

    async def stored(self, job_id: str) -> bytes | None:
        """Return what is stored of a job; None where nothing is known."""
        async with self._explained():
            found: bytes | None = await self._redis.get(self.deployment.result_key(job_id))
            return found

    async def cancel(self, job_id: str) -> None:
        """Ask for a job's end; workers look for the wish before and during a job."""
        async with self._explained():
            await self._redis.set(self.deployment.cancel_key(job_id), b"1", ex=CANCEL_SECONDS)

    def trouble(self) -> str:
        """Return what keeps the broker from answering now, "" where nothing does."""
        error = self._replies.trouble
        return "" if error is None else str(refusal(self.deployment, error))

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        try:
            yield
        except redis.RedisError as error:
            # The idle connections lead to the same broker, which may be gone.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise refusal(self.deployment, error) from error

    # --- Life ---

    async def close(self) -> None:
        """Close every connection; who still awaits a job gets `BrokerUnavailable`."""
        self._sender.close()
        await self._replies.close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()
        self._app.close()

    async def __aenter__(self) -> Self:
        """Make this client the current one."""
        self._blocks.append(_current.set(self))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the client before it the current one again; the last block closes this one."""
        _current.reset(self._blocks.pop())
        if not self._blocks:
            await self.close()


def _connect(deployment: Deployment) -> Any:
    is_socket = deployment.url.startswith("unix")
    pool = redis_asyncio.BlockingConnectionPool.from_url(
        deployment.url,
        max_connections=_MAX_CONNECTIONS,
        timeout=None,
        **({} if is_socket else {"socket_keepalive": True}),
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CONNECT_SECONDS,
        health_check_interval=HEALTH_SECONDS,
    )
    return redis_asyncio.Redis(connection_pool=pool)


_current: ContextVar[AsyncClient | None] = ContextVar("gristmill_async_client", default=None)


def current() -> AsyncClient:
    """Return the client of the innermost `async with` block."""
    client = _current.get()
    if client is None:
        raise RuntimeError("no async client: expected a block `async with producers.AsyncClient()`")
    return client
