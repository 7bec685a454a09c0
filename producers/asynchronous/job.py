"""The handle of a job in an event loop, and waiting for many of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

from celery import states

from contract.errors import BrokerUnavailable, ResultTimeout
from contract.operation import Result
from contract.results import error_from_meta, read_meta
from producers.job import check_seconds, progress_of, remaining_seconds_of, status_of

R = TypeVar("R", bound=Result)

#: Longest look for a job's end when the time to wait for it is over, in seconds.
_LAST_LOOK_SECONDS: Final = 1.0

#: Longest wait for a broker to take the word that a job is to be cancelled with its task.
_CANCEL_SECONDS: Final = 2.0


class AsyncResults(Protocol):
    """Where the state of jobs is waited for and looked up."""

    async def end(self, job_id: str, ticket: Any) -> bytes | None:
        """Wait for a job's end; return what is stored, or None where that is to be fetched."""

    async def stored(self, job_id: str) -> bytes | None:
        """Return what is stored of a job."""

    async def cancel(self, job_id: str) -> None:
        """Ask for a job's end."""

    def trouble(self) -> str:
        """Return what keeps the broker from answering now, "" where nothing does."""


class AsyncJob(Generic[R]):
    """One job on its way: `await job` gives its result. Of one event loop."""

    def __init__(
        self,
        job_id: str,
        results: AsyncResults,
        read_result: Callable[[Any], R],
        default_timeout: float | None,
        *,
        ticket: Any = None,
        cancels: bool = False,
    ) -> None:
        """Watch the job `job_id`; clients make handles."""
        #: The job's id, the same as its Celery task id.
        self.id = job_id
        self._results = results
        self._read_result = read_result
        self._default_timeout = default_timeout
        self._ticket = ticket
        self._cancels = cancels
        self._meta: bytes | None = None
        self._known = "queued"

    def __repr__(self) -> str:
        """Return a text that names the job."""
        return f"AsyncJob({self.id!r})"

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the job's end; return its result or raise its error."""
        return self.result().__await__()

    async def result(self, timeout: float | None = None, *, cancels: bool | None = None) -> R:
        """Wait for the job's end; return its result or raise its error.

        Waits at most `timeout` seconds, the client's `timeout` when None, and then raises
        `ResultTimeout`; the job goes on and may be waited for again. With `cancels`, the client's
        choice when None, the cancellation of the task that waits here cancels the job, too.
        """
        check_seconds("timeout", timeout)
        limit = self._default_timeout if timeout is None else timeout
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                await self.wait()
        except TimeoutError:
            if await self._has_ended():
                return await self._read(None)
            raise self._too_late(limit) from None
        except asyncio.CancelledError:
            if self._cancels if cancels is None else cancels:
                await self._cancel_with_task()
            raise
        left = None if limit is None else max(1.0, limit - (time.monotonic() - began))
        return await self._read(left)

    async def wait(self) -> None:
        """Return when the job has ended, however it did."""
        if self._meta is None:
            self._meta = await self._results.end(self.id, self._ticket)

    async def _read(self, seconds: float | None) -> R:
        """Return what the ended job has answered; a handle keeps no more than it must."""
        raw, self._meta = self._meta, None
        try:
            if raw is None:
                async with asyncio.timeout(seconds):
                    raw = await self._results.stored(self.id)
        except TimeoutError:
            raise self._too_late(seconds) from None
        meta = read_meta(raw)
        if meta["status"] == states.SUCCESS:
            return self._read_result(meta["result"])
        if meta["status"] in states.READY_STATES:
            raise error_from_meta(meta)
        raise ResultTimeout(f"job {self.id}: its result is kept no longer, expected one")

    async def _has_ended(self) -> bool:
        """Look for an end that came in the last moment; what the look shows is kept."""
        try:
            async with asyncio.timeout(_LAST_LOOK_SECONDS):
                raw = await self._results.stored(self.id)
        except (BrokerUnavailable, TimeoutError):
            return False
        meta = read_meta(raw)
        self._known = status_of(meta)
        if meta["status"] not in states.READY_STATES:
            return False
        self._meta = raw
        return True

    def _too_late(self, limit: float | None) -> ResultTimeout:
        trouble = self._results.trouble()
        known = f"not known ({trouble})" if trouble else self._known
        return ResultTimeout(f"job {self.id}: {known} after {limit} s, expected its end")

    async def _cancel_with_task(self) -> None:
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await asyncio.shield(asyncio.ensure_future(self.cancel()))
        except (TimeoutError, BrokerUnavailable):
            pass  # the task is cancelled all the same

    async def status(self) -> str:
        """Return "queued", "running", "succeeded", "failed" or "cancelled"; see `Job.status`."""
        return status_of(await self._look())

    async def progress(self) -> float:
        """Return the part of the work that is done, in [0, 1]; 1 after success."""
        return progress_of(await self._look())

    async def remaining_seconds(self) -> float | None:
        """Return the seconds that the work is expected to last still; see `Job`."""
        return remaining_seconds_of(await self._look())

    async def _look(self) -> dict[str, Any]:
        return read_meta(await self._results.stored(self.id))

    async def cancel(self) -> None:
        """Ask for the job's end: a queued job will not run, a running one stops at its next step.

        Awaiting it then raises `JobCancelled`. A job that has ended keeps its result.
        """
        await self._results.cancel(self.id)


async def as_completed(
    jobs: Iterable[AsyncJob[R]], *, timeout: float | None = None
) -> AsyncIterator[AsyncJob[R]]:
    """Yield jobs in the order in which they end; awaiting one of them then takes no time.

    Raises `ResultTimeout` when `timeout` seconds have passed before all of them have ended.
    """
    check_seconds("timeout", timeout)
    handles = list(jobs)
    waits = {asyncio.create_task(handle.wait()): handle for handle in handles}
    ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    for wait in waits:
        wait.add_done_callback(ended.put_nowait)
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    try:
        for number in range(len(handles)):
            try:
                async with asyncio.timeout_at(deadline):
                    wait = await ended.get()
            except TimeoutError:
                left = len(handles) - number
                said = f"{left} of {len(handles)} jobs after {timeout} s, expected their ends"
                raise ResultTimeout(said) from None
            wait.result()
            yield waits[wait]
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
