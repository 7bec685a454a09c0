"""The list on which workers tell this process that jobs have ended: one waiter reads it for all."""

import os
import secrets
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import redis

from contract.deployment import Deployment
from contract.replies import WAITING_SECONDS, Reply, readable

#: Longest wait for a reply, in seconds: one that was lost costs no more than this.
NAP_SECONDS: Final = 2.0

#: Pause where the broker has no memory to note who waits, in seconds.
_DOZE_SECONDS: Final = 0.25

#: Seconds from a submit in which a reply is waited for without a look at the result before.
FRESH_SECONDS: Final = 1.0

#: Replies that are read at once, and that are kept for jobs which nobody waits for yet.
READ_AT_ONCE: Final = 500
MAX_KEPT: Final = 10_000


@dataclass
class Ticket:
    """The promise that a job's end is told on a list of ours; all who wait for the job share it."""

    #: Name of the list.
    name: str
    #: When the job was submitted, by `time.monotonic()`.
    submitted_at: float
    #: Whether the reply has come and was handed out.
    is_spent: bool = False


def new_name() -> str:
    """Return the name of a list that nobody else has."""
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(8)}"


class _Waiter:
    """A thread that waits for one job."""

    def __init__(self, ticket: Ticket | None) -> None:
        self.ticket = ticket
        #: Set when there is a reply, or when it is this thread's turn to read.
        self.called = threading.Event()
        self.reply: Reply | None = None


class Replies:
    """Waits for replies. Threads may share it; a forked child needs its own.

    Whoever waits first reads the list, hands to the others what is theirs, and leaves the reading
    to one of them when its own job has ended: no thread runs but the callers', and one connection
    waits for them all.
    """

    def __init__(self, client: "redis.Redis", deployment: Deployment) -> None:
        """Name a new list; nothing is written."""
        self.name = new_name()
        self._client = client
        self._deployment = deployment
        self._key = deployment.replies_key(self.name)
        self._lock = threading.Lock()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._is_read = False
        #: Replies of jobs that nobody waits for yet, the oldest first.
        self._kept: OrderedDict[str, Reply] = OrderedDict()
        self._dropped_at = float("-inf")

    def ticket(self) -> Ticket:
        """Return the ticket of a job that is submitted now with this list's name."""
        return Ticket(self.name, time.monotonic())

    def look(self, job_id: str, ticket: Ticket | None) -> bytes | None:
        """Return what is stored of a job before `wait`, and see to it that its end is told here.

        Nothing is looked up where the reply is sure to come.
        """
        if ticket is None or ticket.name != self.name:
            return self._enlist(job_id)
        age_seconds = time.monotonic() - ticket.submitted_at
        with self._lock:
            was_dropped = self._dropped_at > ticket.submitted_at
            is_kept = job_id in self._kept
        if is_kept or not (ticket.is_spent or was_dropped or age_seconds > FRESH_SECONDS):
            return None
        return self.stored(job_id)

    def stored(self, job_id: str) -> bytes | None:
        """Return what is stored of a job."""
        found: bytes | None = self._client.get(  # type: ignore[assignment]
            self._deployment.result_key(job_id)
        )
        return found

    def _enlist(self, job_id: str) -> bytes | None:
        """Ask for a word when the job has ended, then return what is stored of it."""
        waiting = self._deployment.waiting_key(job_id)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.sadd(waiting, self.name)
            pipe.expire(waiting, WAITING_SECONDS)
            pipe.get(self._deployment.result_key(job_id))
            *noted, found = pipe.execute(raise_on_error=False)
        if isinstance(found, Exception):
            raise found
        if isinstance(noted[0], redis.exceptions.OutOfMemoryError):
            if found is None:
                time.sleep(_DOZE_SECONDS)
        elif isinstance(noted[0], Exception):
            raise noted[0]
        state: bytes | None = found
        return state

    def wait(self, job_id: str, ticket: Ticket | None, seconds: float) -> bytes | None:
        """Return how the job ended, as soon as it is told, or what is stored after a nap.

        A nap lasts `seconds`, and 2 s at most.
        """
        reply = self._wait(job_id, ticket, time.monotonic() + min(seconds, NAP_SECONDS))
        return reply.meta if reply and reply.meta is not None else self.stored(job_id)

    def _wait(self, job_id: str, ticket: Ticket | None, limit: float) -> Reply | None:
        waiter = _Waiter(ticket)
        with self._lock:
            kept = self._kept.pop(job_id, None)
            if kept is not None:
                if ticket is not None:
                    ticket.is_spent = True
                return kept
            self._waiters.setdefault(job_id, []).append(waiter)
        try:
            while waiter.reply is None and (left := limit - time.monotonic()) > 0:
                if self._may_read():
                    try:
                        self._read(left)
                    finally:
                        self._is_read = False
                else:
                    waiter.called.wait(left)
                    waiter.called.clear()
            return waiter.reply
        finally:
            self._leave(job_id, waiter)

    def _may_read(self) -> bool:
        with self._lock:
            if self._is_read:
                return False
            self._is_read = True
            return True

    def _read(self, seconds: float) -> None:
        """Wait for replies and hand them out."""
        answer: Any = self._client.blmpop(
            max(seconds, 0.001), 1, self._key, direction="LEFT", count=READ_AT_ONCE
        )
        if answer is None:
            return
        with self._lock:
            for reply in readable(answer[1]):
                self._hand_out(reply)

    def _hand_out(self, reply: Reply) -> None:
        waiters = self._waiters.get(reply.job_id)
        if waiters is None:
            self._kept[reply.job_id] = reply
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
                self._dropped_at = time.monotonic()
            return
        for waiter in waiters:
            waiter.reply = reply
            if waiter.ticket is not None:
                waiter.ticket.is_spent = True
            waiter.called.set()

    def _leave(self, job_id: str, waiter: _Waiter) -> None:
        """Stop waiting, and call one of the others to read where nobody does."""
        with self._lock:
            others = self._waiters[job_id]
            others.remove(waiter)
            if not others:
                del self._waiters[job_id]
            if not self._is_read:
                for each in self._waiters.values():
                    if each[0].reply is None:
                        each[0].called.set()
                        return
