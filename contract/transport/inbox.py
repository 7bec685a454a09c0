"""The inbox of a consumer: what it took from its queues and has not acknowledged, kept in Redis.

A lease covers all of it. While the lease is renewed nobody else touches the inbox; when it runs
out, another worker puts the entries back at the front of their queues.
"""

import contextlib
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
from typing import Any, Final

import redis
from kombu.log import get_logger

from contract.deployment import Deployment
from contract.transport import scripts

logger = get_logger(__name__)

#: What a broker that is away, full or in trouble makes of a call.
TROUBLE: Final = (redis.RedisError, OSError)

#: Inboxes that one attempt looks after.
_RECOVERED_AT_ONCE: Final = 10


#: Seconds until a thread that could not renew a lease tries again.
_AGAIN_SECONDS: Final = 0.1


class LeaseLost(redis.ConnectionError):
    """Raised when this worker was silent for so long that another has taken what it held."""


@dataclass(frozen=True)
class Entry:
    """An entry of a queue that was reserved, and what befell it before."""

    tag: str
    raw: bytes
    digest: str = ""
    lost: int = 0
    returned: int = 0


@dataclass(frozen=True)
class Call:
    """One run of the reserving script: its keys and arguments, and what it acknowledges."""

    arguments: list[Any]
    acks: list[str] = field(default_factory=list)


class Inbox:
    """What one consumer holds. Acknowledging may be done by any thread, the rest by one."""

    def __init__(self, client: "redis.Redis", deployment: Deployment) -> None:
        """Name a new inbox on the Redis that `client` talks to; nothing is written before use."""
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.key = deployment.inbox_key(self.name)
        self.client = client
        #: Whether another worker has taken all of it.
        self.is_lost = False
        #: Called after each acknowledgement, by the thread that gave it.
        self.on_ack: Callable[[], None] = _nothing
        self._keys = [deployment.leases_key, deployment.counts_key, self.key]
        self._other_inboxes = deployment.inbox_key("")
        self._reserve = client.register_script(scripts.RESERVE)
        self._return = client.register_script(scripts.RETURN)
        self._recover = client.register_script(scripts.RECOVER)
        self._held: dict[str, Any] = {}
        self._digests: dict[str, str] = {}
        self._acks: deque[str] = deque()
        #: How what could not be put back yet goes back, and the fault to count.
        self._unreturned: dict[str, tuple[str, str]] = {}
        self._has_lease = self._was_used = False
        self._next_number = 1
        self._keeper: threading.Thread | None = None
        self._is_closed = threading.Event()

    @property
    def digest(self) -> str:
        """The name by which Redis knows the reserving script."""
        return str(self._reserve.sha)

    @property
    def has_acks(self) -> bool:
        """Whether acknowledgements wait to be sent."""
        return bool(self._acks)

    def hold(self, tag: str, message: Any) -> None:
        """Note who answers for an entry: a message that `has_begun` outlives its connection."""
        self._held[tag] = message

    def acknowledge(self, tag: str) -> None:
        """Be done with an entry. It is sent with the next call; one that was lost is not."""
        if self._held.pop(tag, None) is not None:
            self._acks.append(tag)
            self.on_ack()

    def put_back(self, tag: str, fault: str = "", *, behind: bool = False) -> None:
        """Put an entry back at the front of its queue; count the `fault` that befell it.

        `behind`: at the back of its queue. Where the broker is away that is done once it is back.
        """
        if self._held.pop(tag, None) is not None:
            self._unreturned[tag] = ("behind" if behind else "these", fault)
            with contextlib.suppress(*TROUBLE):
                self._put_back()

    def _put_back(self) -> None:
        for tag, (mode, fault) in list(self._unreturned.items()):
            self._call_return(mode, [tag], fault)
            self._unreturned.pop(tag, None)

    # --- Reserving ---

    def call(self, queues: Sequence[str], wanted: int) -> Call:
        """Return what reserves up to `wanted` entries of `queues`, acknowledges and renews."""
        acks = self._waiting_acks()
        digests = [self._digests[tag] for tag in acks if tag in self._digests]
        first, self._next_number = self._next_number, self._next_number + wanted
        limits = (int(self._has_lease), first, wanted, scripts.MAX_BYTES)
        fields = [digest + fault for digest in digests for fault in _FAULTS]
        keys = [*self._keys, *queues]
        self._was_used = True
        return Call([len(keys), *keys, self.name, *limits, len(acks), *acks, *fields], acks)

    def undo(self, call: Call) -> None:
        """Note that nobody knows what became of a call: its acknowledgements are sent again."""
        self._acks.extendleft(reversed(call.acks))

    def take(self, answer: list[Any], call: Call) -> tuple[list[Entry], bool]:
        """Return the entries of an answer, and whether the queues are empty now.

        Raises `LeaseLost`. Entries that another worker lost are put back on the way.
        """
        if not answer[0]:
            self._lose()
        _, is_late, is_empty, faults, entries = answer
        self._has_lease = True
        for tag in call.acks:
            self._digests.pop(tag, None)
        for fault in faults:
            logger.error("a queue cannot be read: %s", fault.decode(errors="replace"))
        if is_late:
            self.recover()
        if self._unreturned:
            with contextlib.suppress(*TROUBLE):
                self._put_back()
        return [self._entry(*found) for found in entries], bool(is_empty)

    def _lose(self) -> None:
        self.is_lost = True
        self._held.clear()
        self._acks.clear()
        self._unreturned.clear()
        raise LeaseLost(f"the lease of {self.name} ran out, and its jobs were taken")

    def _entry(self, tag: bytes, raw: bytes, digest: bytes = b"", *counts: int) -> Entry:
        entry = Entry(tag.decode(), raw, digest.decode(), *counts)
        if digest:
            self._digests[entry.tag] = entry.digest
        return entry

    def reserve(self, queues: Sequence[str], wanted: int) -> list[Entry]:
        """Reserve at once, on a connection of the inbox's own; with no queues, only renew."""
        if self.is_lost:
            self._lose()
        call = self.call(queues, wanted)
        count, *rest = call.arguments
        try:
            answer: Any = self._reserve(keys=rest[:count], args=rest[count:])
        except BaseException:
            self.undo(call)
            raise
        return self.take(answer, call)[0]

    def recover(self) -> None:
        """Put back what workers whose lease ran out held, and count it against the entries."""
        try:
            arguments: list[Any] = [self._other_inboxes, _RECOVERED_AT_ONCE]
            found: Any = self._recover(keys=self._keys[:2], args=arguments)
        except TROUBLE as error:
            logger.warning("other workers' jobs could not be looked after: %s", error)
            return
        for worker, moved in found:
            name = worker.decode(errors="replace")
            logger.warning("%s is gone: %d of its jobs are back in their queues", name, moved)

    def _waiting_acks(self) -> list[str]:
        acks: list[str] = []
        with contextlib.suppress(IndexError):  # another thread may have taken the last one
            while len(acks) < scripts.MAX_ACKS:
                acks.append(self._acks.popleft())
        return acks

    # --- Giving back ---

    def settle(self) -> None:
        """Put back, on a new connection, what is in the inbox and in nobody's hands.

        That may be entries whose reply was lost on the way. Raises `LeaseLost` where entries that
        somebody here waits to begin have been taken.
        """
        if not self._was_used:
            return
        missing = self.hand_back(self._held)
        waiting = [tag for tag in missing if not _has_begun(self._held.pop(tag, None))]
        if waiting:
            self._lose()

    def hand_back(self, but: Iterable[str] = (), *, is_leaving: bool = False) -> list[str]:
        """Put everything `but` some back in order; return those of them that others have taken."""
        self._put_back()
        kept = list(but)
        missing = self._call_return("but", kept, "", is_leaving=is_leaving)
        self._has_lease = not is_leaving
        self._forget(kept)
        return missing

    def hand_back_waiting(self) -> None:
        """Put back what has not begun, at once, and keep the rest while it runs."""
        if not self.is_lost:
            self.hand_back(self._begun())

    def _call_return(
        self, mode: str, tags: Sequence[str], fault: str, *, is_leaving: bool = False
    ) -> list[str]:
        acks = self._waiting_acks()
        arguments: list[Any] = [self.name, int(is_leaving), mode, fault, len(acks), *acks, *tags]
        try:
            missing: Any = self._return(keys=self._keys, args=arguments)
        except BaseException:
            self._acks.extendleft(reversed(acks))
            raise
        return [tag.decode() for tag in missing]

    def _forget(self, but: Iterable[str]) -> None:
        for tag in set(self._held).difference(but):
            self._held.pop(tag, None)

    def _begun(self) -> list[str]:
        """Return the tags of what has begun; what has not never will from now on."""
        return [tag for tag, message in list(self._held.items()) if not message.hand_back()]

    # --- From channel to channel ---

    @classmethod
    def adopt(cls, place: tuple[Any, ...]) -> "Inbox | None":
        """Return an inbox that an earlier channel to the same place left with this process."""
        with contextlib.suppress(KeyError, IndexError):
            return _left.get(place, []).pop()
        return None

    def leave(self, place: tuple[Any, ...]) -> None:
        """Hand back what has not begun, as a channel ends; leave the rest to the next channel.

        Its jobs run on while a worker reconnects. Where the broker is away all of it is left.
        """
        self.on_ack = _nothing
        if self.is_lost or not self._was_used:
            return self.close()
        begun = self._begun()
        try:
            self.hand_back(begun, is_leaving=not begun)
        except TROUBLE as error:
            logger.warning("jobs could not be handed back yet: %s", error)
            self._forget(begun)
        else:
            if not begun:
                return self.close()
        _left.setdefault(place, []).append(self)
        return None

    def keep(self) -> None:
        """Renew the lease by a thread from now on: where no event loop does, or a job blocks it."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._renew, name="gristmill-lease", daemon=True)
            self._keeper.start()

    def distrust(self) -> None:
        """Ask on new connections from now on: what led nowhere may not have been the only one."""
        self.client.connection_pool.disconnect(inuse_connections=False)

    def _renew(self) -> None:
        pause = scripts.RENEW_SECONDS
        while not self._is_closed.wait(pause):
            pause = _AGAIN_SECONDS
            try:
                self.reserve((), 0)
                pause = scripts.RENEW_SECONDS
            except LeaseLost:
                return  # whoever reads the queues learns of it by `is_lost`
            except TROUBLE as error:
                logger.debug("the lease of %s could not be renewed: %s", self.name, error)
            except Exception:
                logger.exception("the lease of %s could not be renewed", self.name)

    def close(self) -> None:
        """End the thread and the connections of an inbox that holds nothing."""
        self._is_closed.set()
        self.client.connection_pool.disconnect()


def _has_begun(message: Any) -> bool:
    return message is not None and bool(message.has_begun)


def _nothing() -> None:
    """Do nothing: nobody listens."""


_FAULTS: Final = (scripts.LOST, scripts.RETURNED)

#: Inboxes that channels left, by the place that they are at.
_left: dict[tuple[Any, ...], list[Inbox]] = {}


def _hand_back_all() -> None:
    """Hand back, as the process ends, what no channel came to look after any more."""
    for inbox in [inbox for inboxes in _left.values() for inbox in inboxes]:
        with contextlib.suppress(*TROUBLE):
            inbox.hand_back(is_leaving=True)


# Not in a child, which has a copy of it all: it tells by its process id.
Finalize(None, _hand_back_all, exitpriority=1)
