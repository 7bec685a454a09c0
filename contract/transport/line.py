"""The line on which a channel reserves: one question at a time, and a bell when entries come.

The bell is Redis's tracking of what a client has read: the reserving script asks for the length of
the empty queues, and the first push to one of them is told on this connection. Nothing blocks in
the server, and one connection serves any number of queues.
"""

import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from kombu.log import get_logger

from contract.transport import scripts
from contract.transport.inbox import TROUBLE, Call, Entry, Inbox

logger = get_logger(__name__)

#: Seconds that acknowledgements wait for a reserve to travel with.
ACK_SECONDS: Final = 0.05


class Line:
    """The connection of a channel that consumes; `connection` as kombu's poller looks for it."""

    def __init__(
        self,
        inbox: Inbox,
        pool: "redis.ConnectionPool",
        queues: Callable[[], Sequence[str]],
        credit: Callable[[], int],
    ) -> None:
        """Reserve into `inbox` what `queues()` hold, up to `credit()`."""
        self.connection: Any = None
        #: Entries that came and wait to be delivered.
        self.arrived: deque[Entry] = deque()
        self._inbox = inbox
        self._pool = pool
        self._queues = queues
        self._credit = credit
        self._call: Call | None = None
        self._called_at = self._answered_at = time.monotonic()
        self._wanted = 0
        self._may_find = True
        self._knows_script = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self.connection is not None and self.connection._sock is not None

    def open(self) -> None:
        """Connect, ask for the bell, and put back what earlier connections left behind."""
        if self.connection is not None:
            self.drop()
        self.connection = self._pool.get_connection()
        self._knows_script = False
        self._may_find = True
        try:
            self.connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
            self.connection.read_response()
        except redis.ResponseError as error:
            logger.warning("queues are looked at only once a second: %s", error)
        self._inbox.settle()

    def drop(self) -> None:
        """Disconnect; what was asked and not answered is asked again by the next connection."""
        if self._call is not None:
            self._inbox.undo(self._call)
            self._call = None
        self.arrived.clear()  # in the inbox, from where `settle` puts them back
        if self.connection is not None:
            self.connection.disconnect()  # tells the poller, which knows it by this line
            self._pool.release(self.connection)
            self.connection = None

    def turn(self, *, is_due: bool = False) -> bool:
        """Ask for entries where there is room and may be some; `is_due`: ask in any case.

        Returns whether there were some in an answer that nobody had read.
        """
        if self._inbox.is_lost:
            self._inbox.reserve((), 0)  # raises
        now = time.monotonic()
        if self._call is not None:
            return now - self._called_at > scripts.SILENT_SECONDS and self._read_late()
        self._may_find = self._may_find or is_due
        wanted = self._credit() if self._may_find and not self.arrived else 0
        if wanted or is_due or (self._inbox.has_acks and now - self._called_at >= ACK_SECONDS):
            self._ask(wanted)
        return False

    def _read_late(self) -> bool:
        """Read an answer that is late; raise where none has come."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection._sock, selectors.EVENT_READ)
            has_come = bool(selector.select(0))  # then it was this process that stood still
        if not has_come:
            self.drop()
            self._inbox.distrust()
            raise redis.ConnectionError(f"no answer for {scripts.SILENT_SECONDS:g} s")
        self.read()
        return bool(self.arrived)

    def _ask(self, wanted: int) -> None:
        queues = self._queues()
        self._wanted = min(wanted, scripts.MAX_ENTRIES) if queues else 0
        self._call = self._inbox.call(queues, self._wanted)
        self._called_at = time.monotonic()
        self._send()

    def _send(self) -> None:
        assert self._call is not None
        how = ("EVALSHA", self._inbox.digest) if self._knows_script else ("EVAL", scripts.RESERVE)
        try:
            self.connection.send_command(*how, *self._call.arguments)
        except TROUBLE:
            self.drop()
            raise

    def read(self) -> None:
        """Take in all that has come: answers and bells, as much as there is, and never wait."""
        while self.is_open:
            self._read_one()
            if self.connection is None or not self.connection.can_read(timeout=0):
                return

    def _read_one(self) -> None:
        try:
            answer = self.connection.read_response(push_request=True)
        except redis.exceptions.NoScriptError:
            self._knows_script = False
            return self._send()
        except redis.ResponseError as error:
            self.drop()
            # A broker that is full, read-only or forbidding is one to come back to.
            raise redis.ConnectionError(f"entries cannot be reserved: {error}") from error
        except TROUBLE:
            self.drop()
            raise
        if self._call is None or not (isinstance(answer, list) and isinstance(answer[0], int)):
            self._may_find = True
            return None
        return self._take(answer)

    def _take(self, answer: list[Any]) -> None:
        call, self._call = self._call, None
        assert call is not None
        self._knows_script = True
        entries, is_empty = self._inbox.take(answer, call)
        if time.monotonic() - self._called_at > scripts.LEASE_SECONDS:
            # This process or the broker stood still, and others may have these entries by now.
            self._make_sure()
        if self._wanted:
            self._may_find = not is_empty
        self.arrived.extend(entries)

    def _make_sure(self) -> None:
        """Renew the lease at once; raises `LeaseLost` where that is too late."""
        try:
            self._inbox.reserve((), 0)
        except TROUBLE:
            self.drop()
            raise

    def finish(self) -> None:
        """Wait a moment for the answer that is on its way, so that nothing is reserved later."""
        limit = time.monotonic() + 1
        try:
            while self.is_open and self._call is not None and time.monotonic() < limit:
                if self.connection.can_read(timeout=0.1):
                    self._read_one()
        except TROUBLE as error:
            logger.debug("the last answer did not come: %s", error)
        self.drop()
