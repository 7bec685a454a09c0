"""Sending in an event loop: what one turn of it submits goes out in one write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import redis

from contract.outages import is_passing
from producers.sending import BYTES_PER_SECOND, LEAST_SECONDS, PAUSES, PROBE_SECONDS, NotSent

T = TypeVar("T")

#: Bytes of entries that go out in one write; one larger entry goes out alone.
_MAX_BYTES: Final = 2**23


@dataclass
class _Sending:
    queue_key: str
    entries: tuple[str, ...]
    until: float
    num_bytes: int
    done: "asyncio.Future[None]" = field(repr=False)

    def end(self, error: NotSent | None = None) -> None:
        if not self.done.done():  # nobody waits any more where it was cancelled
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)


class AsyncSender:
    """Puts entries into queues, in the order in which they were given.

    `until` is when a call gives up, by `time.monotonic()`; a large entry gets more.
    """

    def __init__(self, pool: Any) -> None:
        """Send through connections of a pool of redis-py's."""
        self._pool = pool
        self._waiting: list[_Sending] = []
        self._task: asyncio.Task[None] | None = None

    async def send(self, queue_key: str, *entries: str, until: float) -> None:
        """Put entries into a queue, all or none; raises `NotSent`.

        Where the caller is cancelled meanwhile they may be sent all the same.
        """
        num_bytes = sum(map(len, entries))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        until += num_bytes / BYTES_PER_SECOND
        self._waiting.append(_Sending(queue_key, entries, until, num_bytes, done))
        if self._task is None:
            self._task = asyncio.create_task(self._send_waiting())
        await done

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # whoever else submits in this turn of the loop does so now
                sendings = self._take()
                try:
                    await self._try(partial(_send, sendings), _until(sendings))
                except NotSent as failure:
                    for each in sendings:
                        each.end(failure)
        finally:
            self._task = None

    def _take(self) -> list[_Sending]:
        num_bytes = number = 0
        for each in self._waiting:
            num_bytes += each.num_bytes
            if number and num_bytes > _MAX_BYTES:
                break
            number += 1
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken

    async def send_once(
        self,
        queue_key: str,
        entry: str,
        once_key: str,
        value: str,
        life_seconds: float,
        admit: Callable[[], AbstractContextManager[None]],
        until: float,
    ) -> str:
        """Put an entry into a queue, unless `once_key` is there; return what stands under it.

        The key and the entry appear in one step or not at all, within `admit()`, which may refuse.
        """
        life = round(life_seconds)

        async def act(line: "_Line") -> str:
            while True:
                _, found = await line.read(("WATCH", once_key), ("GET", once_key))
                if found is not None:
                    await line.read(("UNWATCH",))
                    return str(found.decode())
                with admit():
                    *_, done = await line.write(
                        ("MULTI",),
                        ("SET", once_key, value, "EX", life),
                        ("LPUSH", queue_key, entry),
                        ("EXEC",),
                    )
                if done is None:  # somebody was quicker
                    continue
                if isinstance(done[1], Exception):  # the queue's key holds something else
                    await line.write(("DEL", once_key))
                    raise done[1]
                return value

        return await self._try(act, until + len(entry) / BYTES_PER_SECOND)

    async def _try(self, act: "Callable[[_Line], Awaitable[T]]", until: float) -> T:
        """Do `act` on a connection, again on a new one where that broke, until time is up."""
        may_have_arrived = False
        failure: Exception = redis.ConnectionError("no connection in time")
        for pause in PAUSES:
            await asyncio.sleep(pause)
            line = None
            try:
                connection = await _within(self._pool.get_connection(), until)
                line = _Line(connection, until)
                return await self._act(act, line)
            except (redis.RedisError, OSError) as error:
                failure = error
                # An answer that refuses is certain; silence after a write is not.
                was_answered = isinstance(error, redis.ResponseError)
                if line is not None and line.has_written and not was_answered:
                    may_have_arrived = True
                is_full = isinstance(error, redis.exceptions.OutOfMemoryError)
                if is_full or not is_passing(error) or time.monotonic() > until:
                    break
                await self._pool.disconnect(inuse_connections=False)
        raise NotSent(failure, may_have_arrived) from failure

    async def _act(self, act: "Callable[[_Line], Awaitable[T]]", line: "_Line") -> T:
        try:
            await line.check()
            return await act(line)
        except BaseException:
            await line.connection.disconnect(nowait=True)  # there may be answers nobody has read
            raise
        finally:
            await self._pool.release(line.connection)

    def close(self) -> None:
        """Give up what waits to be sent."""
        if self._task is not None:
            self._task.cancel()
        for each in self._waiting:
            each.end(NotSent(redis.ConnectionError("the client was closed"), False))
        self._waiting = []


def _until(sendings: list[_Sending]) -> float:
    return max(each.until for each in sendings)


async def _send(sendings: list[_Sending], line: "_Line") -> None:
    """Send and end each of them; those that are left when it raises are not known to be there."""
    commands: dict[str, list[_Sending]] = {}
    for each in sendings:
        if not each.done.done():
            commands.setdefault(each.queue_key, []).append(each)
    written = [
        ("LPUSH", key, *(entry for each in those for entry in each.entries))
        for key, those in commands.items()
    ]
    line.has_written = bool(written)
    answers = await line.ask(*written) if written else []
    passing: Exception | None = None
    for answer, those in zip(answers, commands.values(), strict=True):
        if isinstance(answer, Exception) and _may_be_tried_again(answer):
            passing = answer
            continue
        for each in those:
            each.end(NotSent(answer, False) if isinstance(answer, Exception) else None)
    if passing is not None:
        raise passing


def _may_be_tried_again(error: Exception) -> bool:
    return is_passing(error) and not isinstance(error, redis.exceptions.OutOfMemoryError)


async def _within(what: Awaitable[T], until: float) -> T:
    """Await something, or raise redis-py's `TimeoutError` when time is up; some is left always."""
    patience = max(LEAST_SECONDS, until - time.monotonic())
    try:
        async with asyncio.timeout(patience):
            return await what
    except TimeoutError as error:
        if isinstance(error, redis.TimeoutError):
            raise
        raise redis.TimeoutError("no answer in time") from None


class _Line:
    """One connection on which commands go out together, and their answers come back."""

    def __init__(self, connection: Any, until: float) -> None:
        self.connection = connection
        self._until = until
        #: Whether something that changes the queue has gone out.
        self.has_written = False

    async def check(self) -> None:
        """Raise `redis.TimeoutError` where a connection that was idle leads nowhere any more."""
        if asyncio.get_running_loop().time() > self.connection.next_health_check:
            until = time.monotonic() + PROBE_SECONDS
            await self.connection.send_command("PING", check_health=False)
            await _within(self.connection.read_response(), until)

    async def read(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands that change nothing; return their answers, or raise the first error."""
        answers = await self.ask(*commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def write(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands that may change something."""
        self.has_written = True
        return await self.read(*commands)

    async def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands and return their answers, an error in the place of its answer."""
        packed = self.connection.pack_commands(commands)
        await _within(self.connection.send_packed_command(packed, check_health=False), self._until)
        return [await self._answer() for _ in commands]

    async def _answer(self) -> Any:
        try:
            return await _within(self.connection.read_response(), self._until)
        except redis.ResponseError as error:
            return error
