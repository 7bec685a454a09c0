"""Limits of a client: it refuses to enqueue behind too long or too old a queue."""

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from contract.arrays import describe
from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.errors import InvalidRequest, QueueFull

N = TypeVar("N", int, float)

#: Environment variables that limit a client's queues where it is not told otherwise.
LENGTH_VARIABLE: Final = "GRISTMILL_MAX_QUEUE_LENGTH"
AGE_VARIABLE: Final = "GRISTMILL_MAX_QUEUE_AGE_SECONDS"

#: Seconds for which a look at a queue that has room counts.
LOOK_SECONDS: Final = 1.0

#: The least time between two looks at a queue that has none, in seconds.
_AGAIN_SECONDS: Final = 0.05

#: A look that takes long, for the oldest message is large, counts so many times as long.
_LOOKS_SHARE: Final = 20

#: What kombu puts between a queue's name and a priority below the usual one.
_LOWER_PRIORITIES: Final = ("\x06\x163", "\x06\x166", "\x06\x169")

#: Where an entry of ours tells when it was submitted. Nothing in its base64 body looks like this,
#: and in the text of a header the quotes would be escaped.
_SUBMITTED: Final = re.compile(rb'"submitted_at": ?([0-9.e+]+)')


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The longest and the oldest queue that a client enqueues behind; None for any."""

    max_length: int | None = None
    max_age_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        length, age = self.max_length, self.max_age_seconds
        if length is not None and (isinstance(length, bool) or not isinstance(length, int)):
            length = -1
        if length is not None and length < 0:
            was = describe(self.max_length)
            raise InvalidRequest(f"max_queue_length: {was}, expected zero or more jobs, or None")
        if age is not None and not (isinstance(age, int | float) and age >= 0):
            was = describe(age)
            expected = "seconds, zero or more, or None"
            raise InvalidRequest(f"max_queue_age_seconds: {was}, expected {expected}")

    @classmethod
    def from_environment(cls, max_length: int | None, max_age_seconds: float | None) -> Self:
        """Return the limits that are given, else the environment's, else none."""
        if max_length is None:
            max_length = _from(LENGTH_VARIABLE, int, "zero or more jobs")
        if max_age_seconds is None:
            max_age_seconds = _from(AGE_VARIABLE, float, "seconds, zero or more")
        return cls(max_length=max_length, max_age_seconds=max_age_seconds)


def _from(variable: str, read: Callable[[str], N], expected: str) -> N | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        number = read(text)
    except ValueError:
        number = read("-1")
    if not number >= 0:
        raise InvalidRequest(f"{variable}: {text!r}, expected {expected}")
    return number


@dataclass(frozen=True)
class Look:
    """A look at a queue that has begun."""

    queue: str
    began: float
    #: Jobs that had arrived then.
    arrived: int


@dataclass
class _View:
    """What a look at a queue showed."""

    looked_at: float
    #: When it is too old to count.
    ends_at: float
    length: int
    age_seconds: float
    #: Jobs that this process has enqueued since.
    num_sent: int


class Gate:
    """Stands before the queues of a deployment and lets jobs in while there is room.

    Threads may share it. What other processes enqueue shows at the next look: together they hold
    the limits to within what they enqueue in a second.
    """

    def __init__(
        self, client: Any, deployment: Deployment, limits: Limits, clock: BrokerClock
    ) -> None:
        """Look through `client`; nothing is looked at where there are no limits."""
        self._client = client
        self._deployment = deployment
        self._limits = limits
        self._clock = clock
        self._views: dict[str, _View] = {}
        #: Jobs that were ever let in, and that are no longer on their way, by queue.
        self._admitted: Counter[str] = Counter()
        self._arrived: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def admit(self, queue: str) -> Iterator[None]:
        """Let a job in that is enqueued in this block.

        Raises `QueueFull` when the queue is longer, or its oldest job older, than it may be.
        """
        if self._limits == Limits():
            yield
            return
        if self.is_due(queue):
            self._look(queue)
        with self._lock:
            view = self._views[queue]
            fault = self._fault(queue, view)
            if fault:
                raise QueueFull(fault)
            view.num_sent += 1
            self._admitted[queue] += 1
        try:
            yield
        finally:
            with self._lock:
                self._arrived[queue] += 1

    def is_due(self, queue: str) -> bool:
        """Say whether `admit` looks at the queue first."""
        if self._limits == Limits():
            return False
        view, now = self._views.get(queue), time.monotonic()
        if view is None:
            return True
        refuses = bool(self._fault(queue, view))
        return now > (view.looked_at + _AGAIN_SECONDS if refuses else view.ends_at)

    def _fault(self, queue: str, view: _View) -> str:
        most, oldest = self._limits.max_length, self._limits.max_age_seconds
        length = view.length + view.num_sent
        if most is not None and length >= most:
            return f"queue {queue}: {length} jobs, expected fewer than {most}"
        if oldest is not None and view.age_seconds > oldest:
            was = f"its oldest job waits for {view.age_seconds:.1f} s"
            return f"queue {queue}: {was}, expected at most {oldest:g} s"
        return ""

    def _look(self, queue: str) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            look = self.ask(queue, pipe)
            self.note(look, pipe.execute())

    def ask(self, queue: str, pipe: Any) -> "Look":
        """Put into a pipeline what a look at a queue asks; `note` takes the answers."""
        key = self._deployment.queue_key(queue)
        for ending in ("", *_LOWER_PRIORITIES):
            pipe.llen(key + ending)
        if self._limits.max_age_seconds is not None:
            pipe.lindex(key, -1)  # workers take from the right
        with self._lock:
            return Look(queue, time.monotonic(), self._arrived[queue])

    def note(self, look: "Look", answers: list[Any]) -> None:
        """Take in what a look has shown."""
        ended = time.monotonic()
        *lengths, last = (*answers, None)[:5]
        age_seconds = self._age(last)
        with self._lock:
            self._views[look.queue] = _View(
                looked_at=ended,
                ends_at=ended + max(LOOK_SECONDS, _LOOKS_SHARE * (ended - look.began)),
                length=sum(lengths),
                age_seconds=age_seconds,
                # What arrived during the look may have been seen: rather too many than too few.
                num_sent=self._admitted[look.queue] - look.arrived,
            )

    def _age(self, entry: Any) -> float:
        """Return how long an entry has waited; 0 where it does not tell, or there is none."""
        found = _SUBMITTED.search(entry) if entry else None
        try:
            return max(0.0, self._clock.now() - float(found[1])) if found else 0.0
        except ValueError:  # an entry of anybody's, which is no message
            return 0.0
