"""Connections to Redis that soon know that they lead nowhere, and give large messages time."""

import time
from collections.abc import Iterable
from typing import Any, Final

import redis

#: Seconds that a broker may take to answer a process that runs a job. A connection whose other end
#: is gone without a word (a host that died, a firewall that forgot) shows by nothing else. Who
#: asks again does so on a new one.
ANSWER_SECONDS: Final = 5.0

#: Seconds after which a connection that nothing came on is asked whether it still leads anywhere,
#: before it is used, and the seconds that it has to say so.
IDLE_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 1.0

#: Bytes of a message that are worth a second more, for the way and for the disk at its end.
_BYTES_PER_SECOND: Final = 1e7


class _Doubt:
    """When a connection of this process was last found to lead nowhere: others may not either."""

    since = 0.0


class Pool(redis.ConnectionPool):
    """Connections of which each is handed out only where it leads to the broker.

    One that may not is asked first, and replaced before anything is sent on it.
    """

    def __init__(self, connection_class: Any = redis.Connection, **options: Any) -> None:
        """Make a pool of this class of redis-py's; nothing connects yet."""
        super().__init__(connection_class=patient(connection_class), **options)

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a connection that leads to the broker; raises as redis-py does."""
        connection: Any = super().get_connection(*args, **options)
        try:
            connection.prove()
        except BaseException:
            self.release(connection)
            raise
        return connection


def patient(kind: Any) -> Any:
    """Return a class of redis-py's connections whose `socket_timeout` grows with what it sends.

    A socket's timeout is for all of a message, so that one for large ones would be too long to
    notice a dead connection by.
    """

    class Patient(kind):
        _heard_at = 0.0

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            """Send a command; it and its answer have the time that is due to its size."""
            if self._sock is None:
                self.connect()
            if self.socket_timeout is not None:
                self._sock.settimeout(self.socket_timeout + _size(command) / _BYTES_PER_SECOND)
            super().send_packed_command(command, check_health)

        def read_response(self, *args: Any, **options: Any) -> Any:
            """Read an answer."""
            try:
                answer = super().read_response(*args, **options)
            except redis.TimeoutError:
                _Doubt.since = time.monotonic()
                raise
            self._heard_at = time.monotonic()
            return answer

        def prove(self) -> None:
            """Connect anew where the connection may lead nowhere and does not answer soon."""
            if self._heard_at > max(_Doubt.since, time.monotonic() - IDLE_SECONDS):
                return
            try:
                self.send_command("PING", check_health=False)
                self._sock.settimeout(min(self.socket_timeout or PROBE_SECONDS, PROBE_SECONDS))
                self.read_response()
            except (redis.ConnectionError, redis.TimeoutError):
                self.disconnect()
                self.connect()

    return Patient


def _size(command: str | bytes | Iterable[Any]) -> int:
    parts = (command,) if isinstance(command, str | bytes) else command
    return sum(map(len, parts))
