"""Waiting in an event loop: one connection reads the ends of all jobs of a client."""

import asyncio
import heapq
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from celery import states

from contract.deployment import Deployment
from contract.errors import MessageError
from contract.outages import is_passing
from contract.replies import WAITING_SECONDS, Reply, readable
from contract.results import read_meta
from producers.replies import FRESH_SECONDS, MAX_KEPT, NAP_SECONDS, READ_AT_ONCE, Ticket, new_name

#: First and longest time between looks at a job whose reply does not come, in seconds.
_FIRST_LOOK: Final = 2.0
_LONGEST_LOOK: Final = 20.0

#: Jobs that are looked at in one round trip.
_LOOKED_AT_ONCE: Final = 500

#: First and longest pause before a broker that is away is asked again, in seconds.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


@dataclass
class _Waiter:
    """All who wait for one job here."""

    #: Gets what is stored of the ended job; None where that is to be fetched.
    ended: "asyncio.Future[bytes | None]"
    #: Whether its worker tells this client's list only if it is asked to.
    is_foreign: bool
    pause: float = _FIRST_LOOK
    num_waiting: int = 0
    tickets: list[Ticket] = field(default_factory=list)


class AsyncReplies:
    """Waits for the ends of jobs. It belongs to one event loop."""

    def __init__(self, client: Any, deployment: Deployment) -> None:
        """Name a new list; nothing is written, and no task runs before somebody waits."""
        self.name = new_name()
        #: What the broker said when it was last asked, where it failed.
        self.trouble: Exception | None = None
        self._client = client
        self._deployment = deployment
        self._key = deployment.replies_key(self.name)
        self._waiters: dict[str, _Waiter] = {}
        self._kept: OrderedDict[str, Reply] = OrderedDict()
        self._dropped_at = float("-inf")
        #: Jobs to look at, by the time of the event loop.
        self._due: list[tuple[float, str]] = []
        self._is_due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def ticket(self) -> Ticket:
        """Return the ticket of a job that is submitted now with this list's name."""
        return Ticket(self.name, time.monotonic())

    async def end(self, job_id: str, ticket: Ticket | None) -> bytes | None:
        """Wait for the job's end and return what is stored of it; None where that is to be fetched.

        Raises what the broker says where waiting for it mends nothing.
        """
        kept = self._kept.pop(job_id, None)
        if kept is not None:
            if ticket is not None:
                ticket.is_spent = True
            return kept.meta
        waiter = self._waiter(job_id, ticket)
        waiter.num_waiting += 1
        try:
            return await asyncio.shield(waiter.ended)
        finally:
            waiter.num_waiting -= 1
            if not waiter.num_waiting and self._waiters.get(job_id) is waiter:
                del self._waiters[job_id]
                waiter.ended.cancel()

    def _waiter(self, job_id: str, ticket: Ticket | None) -> _Waiter:
        loop = asyncio.get_running_loop()
        waiter = self._waiters.get(job_id)
        is_foreign = ticket is None or ticket.name != self.name
        if waiter is None:
            waiter = self._waiters[job_id] = _Waiter(loop.create_future(), is_foreign)
        if is_foreign and not waiter.is_foreign:
            is_foreign = False  # its own submitter waits here, too
        now = loop.time()
        if ticket is not None:
            waiter.tickets.append(ticket)
        self._look_at(job_id, now if is_foreign or self._is_old(ticket) else now + _FIRST_LOOK)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._look())]
            for task in self._tasks:
                task.add_done_callback(self._tell_of_bug)
        return waiter

    def _is_old(self, ticket: Ticket | None) -> bool:
        """Say whether the reply of a job of ours may have come and gone."""
        if ticket is None or ticket.is_spent or self._dropped_at > ticket.submitted_at:
            return True
        return time.monotonic() - ticket.submitted_at > FRESH_SECONDS

    # --- Reading ---

    async def _read(self) -> None:
        """Read the list for as long as anybody waits."""
        pause = 0.0
        while self._waiters:
            try:
                answer = await self._client.blmpop(
                    NAP_SECONDS, 1, self._key, direction="LEFT", count=READ_AT_ONCE
                )
            except (redis.RedisError, OSError) as error:
                if not self._is_waited_for(error):
                    return
                pause = min(2 * pause or _FIRST_PAUSE, _LONGEST_PAUSE)
                await asyncio.sleep(pause)
                continue
            if pause:  # a server that has come back may have forgotten what it was to tell
                pause = 0.0
                self._look_at_all()
            self.trouble = None
            for reply in readable(answer[1] if answer else ()):
                self._hand_out(reply)
        self._stop()

    def _hand_out(self, reply: Reply) -> None:
        waiter = self._waiters.pop(reply.job_id, None)
        if waiter is not None:
            self._end(waiter, reply.meta)
            return
        self._kept[reply.job_id] = reply
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
            self._dropped_at = time.monotonic()

    def _end(self, waiter: _Waiter, meta: bytes | None) -> None:
        for ticket in waiter.tickets:
            ticket.is_spent = True
        if not waiter.ended.done():
            waiter.ended.set_result(meta)

    # --- Looking ---

    def _look_at(self, job_id: str, due: float) -> None:
        heapq.heappush(self._due, (due, job_id))
        self._is_due.set()

    def _look_at_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for job_id in self._waiters:
            self._look_at(job_id, now)

    async def _look(self) -> None:
        """Look at the jobs whose time has come, for as long as anybody waits."""
        pause = 0.0
        while self._waiters:
            try:
                await self._look_at_due()
                pause = 0.0
            except (redis.RedisError, OSError) as error:
                if not self._is_waited_for(error):
                    return
                pause = min(2 * pause or _FIRST_PAUSE, _LONGEST_PAUSE)
                await asyncio.sleep(pause)
                continue
            self._is_due.clear()
            left = self._due[0][0] - asyncio.get_running_loop().time() if self._due else NAP_SECONDS
            try:
                async with asyncio.timeout(min(max(left, 0.0), NAP_SECONDS)):
                    await self._is_due.wait()
            except TimeoutError:
                pass

    async def _look_at_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due and self._due[0][0] <= loop.time():
            chosen: dict[str, _Waiter] = {}
            while self._due and self._due[0][0] <= loop.time() and len(chosen) < _LOOKED_AT_ONCE:
                _, job_id = heapq.heappop(self._due)
                if job_id in self._waiters:
                    chosen[job_id] = self._waiters[job_id]
            try:
                found = await self._stored(chosen)
            except BaseException:
                for job_id in chosen:
                    heapq.heappush(self._due, (loop.time(), job_id))
                raise
            for (job_id, waiter), raw in zip(chosen.items(), found, strict=True):
                if raw is not None and _is_end(raw):
                    if self._waiters.get(job_id) is waiter:
                        del self._waiters[job_id]
                    self._end(waiter, raw)
                else:
                    self._look_at(job_id, loop.time() + waiter.pause)
                    waiter.pause = min(2 * waiter.pause, _LONGEST_LOOK)

    async def _stored(self, jobs: dict[str, _Waiter]) -> list[bytes | None]:
        """Return what is stored of jobs; before, ask for a word of the ends of those of others."""
        places = []
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id, waiter in jobs.items():
                if waiter.is_foreign:
                    waiting = self._deployment.waiting_key(job_id)
                    pipe.sadd(waiting, self.name)
                    pipe.expire(waiting, WAITING_SECONDS)
                pipe.get(self._deployment.result_key(job_id))
                places.append(len(pipe) - 1)
            answers = await pipe.execute(raise_on_error=False) if places else []
        found = [answers[place] for place in places]
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        return found

    # --- Trouble ---

    def _is_waited_for(self, error: Exception) -> bool:
        """Note what the broker said; where waiting mends nothing, say so to all who wait."""
        self.trouble = error
        if not is_passing(error):
            self._fail(error)
        return bool(self._waiters)

    def _tell_of_bug(self, task: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a task that failed in a way nobody thought of."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            if not waiter.ended.done():
                waiter.ended.set_exception(error)
        self._stop()

    def _stop(self) -> None:
        """Let the tasks end; the next who waits starts new ones."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._due.clear()

    async def close(self) -> None:
        """Stop reading; who still waits is told that the client was closed."""
        tasks = self._tasks
        self._fail(redis.ConnectionError("the client was closed"))
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_end(raw: bytes) -> bool:
    try:
        return read_meta(raw)["status"] in states.READY_STATES
    except MessageError:  # it tells whoever waits
        return True
