"""Sending: puts entries into queues within a short time, and says whether one may have arrived."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

import redis

from contract.outages import is_passing

T = TypeVar("T")

#: Pauses before each try to send on a connection that broke, in seconds.
PAUSES: Final = (0.0, 0.0, 0.1, 0.2)

#: Seconds within which a connection that was idle must answer before anything is sent on it.
PROBE_SECONDS: Final = 1.0

#: Seconds that an answer gets even where time is up.
LEAST_SECONDS: Final = 1.0

#: Bytes of an entry that are worth a second more: on a slow network, and making it is paid, too.
BYTES_PER_SECOND: Final = 1e7


class NotSent(Exception):
    """Raised when the broker does not say that it has an entry; its cause is the last error."""

    def __init__(self, error: Exception, may_have_arrived: bool) -> None:
        """Tell the last error, and whether the entry may be in its queue all the same."""
        super().__init__(str(error))
        self.error = error
        self.may_have_arrived = may_have_arrived


class Sender:
    """Puts entries into queues through a client's connections. Threads may share it.

    `until` is when a call gives up, by `time.monotonic()`; a large entry gets more.
    """

    def __init__(self, client: "redis.Redis", max_connections: int) -> None:
        """Send on at most so many connections at a time."""
        self._pool = client.connection_pool
        self._free = threading.BoundedSemaphore(max_connections)

    def reach(self, until: float) -> None:
        """Find a connection that leads to the broker; raises `NotSent` where there is none."""
        self._try(lambda line: None, until)

    def send(self, queue_key: str, *entries: str, until: float) -> None:
        """Put entries into a queue, all or none; raises `NotSent`."""
        until += sum(map(len, entries)) / BYTES_PER_SECOND
        self._try(lambda line: line.write(("LPUSH", queue_key, *entries)), until)

    def send_once(
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

        def act(line: "_Line") -> str:
            while True:
                _, found = line.read(("WATCH", once_key), ("GET", once_key))
                if found is not None:
                    line.read(("UNWATCH",))
                    return str(found.decode())
                with admit():
                    *_, done = line.write(
                        ("MULTI",),
                        ("SET", once_key, value, "EX", life),
                        ("LPUSH", queue_key, entry),
                        ("EXEC",),
                    )
                if done is None:  # somebody was quicker
                    continue
                if isinstance(done[1], Exception):  # the queue's key holds something else
                    line.write(("DEL", once_key))
                    raise done[1]
                return value

        return self._try(act, until + len(entry) / BYTES_PER_SECOND)

    def _try(self, act: "Callable[[_Line], T]", until: float) -> T:
        """Do `act` on a connection, again on a new one where that broke, until time is up."""
        may_have_arrived = False
        failure: Exception = redis.ConnectionError("too many threads wait for a connection")
        for pause in PAUSES:
            time.sleep(pause)
            line = None
            try:
                with self._connection(until) as connection:
                    line = _Line(connection, until)
                    return act(line)
            except (redis.RedisError, OSError) as error:
                failure = error
                # An answer that refuses is certain; silence after a write is not.
                was_answered = isinstance(error, redis.ResponseError)
                if line is not None and line.has_written and not was_answered:
                    may_have_arrived = True
                is_full = isinstance(error, redis.exceptions.OutOfMemoryError)
                if is_full or not is_passing(error) or time.monotonic() > until:
                    break
                self._pool.disconnect(inuse_connections=False)
        raise NotSent(failure, may_have_arrived) from failure

    @contextmanager
    def _connection(self, until: float) -> Iterator[Any]:
        if not self._free.acquire(timeout=max(0.0, until - time.monotonic())):
            raise redis.ConnectionError("too many threads wait for a connection")
        try:
            connection: Any = self._pool.get_connection()
            try:
                _check(connection)
                yield connection
            except BaseException:
                connection.disconnect()  # there may be answers that nobody has read
                raise
            finally:
                self._pool.release(connection)
        finally:
            self._free.release()


def _check(connection: Any) -> None:
    """Raise `redis.TimeoutError` where a connection that was idle leads nowhere any more.

    It shows before anything is sent, and soon enough for a try on a new connection.
    """
    if time.monotonic() > connection.next_health_check:
        connection.send_command("PING", check_health=False)
        if not connection.can_read(timeout=PROBE_SECONDS):
            raise redis.TimeoutError("an idle connection leads nowhere")
        connection.read_response()


class _Line:
    """One connection on which commands go out together, and their answers come back."""

    def __init__(self, connection: Any, until: float) -> None:
        self._connection = connection
        self._until = until
        #: Whether something that changes the queue has gone out.
        self.has_written = False

    def read(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands that change nothing."""
        packed = self._connection.pack_commands(commands)
        self._connection.send_packed_command(packed, check_health=False)
        return [self._answer() for _ in commands]

    def write(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands that may change something."""
        self.has_written = True
        return self.read(*commands)

    def _answer(self) -> Any:
        # A connection's own patience begins anew with each answer. Some is left in any case.
        patience = max(LEAST_SECONDS, self._until - time.monotonic())
        if not self._connection.can_read(timeout=patience):
            raise redis.TimeoutError("no answer in time")
        return self._connection.read_response()
