"""Queue entries as our client writes them, in hand: to be put into queues as a test wants."""

import json
import uuid
from dataclasses import dataclass
from typing import Final

import redis

from contract.deployment import Deployment
from contract.families import FAMILIES
from tests.chaos.jobs import Mix
from tests.chaos.senders import OurSender
from tests.chaos.stand import Stand

#: A deployment on the same server that nobody serves: its queues keep what is sent to them.
_UNSERVED: Final = "unserved:"


@dataclass(frozen=True)
class Entry:
    """The message of one job and the queue that it is for."""

    queue: str
    job: str
    raw: bytes

    def again(self) -> "Entry":
        """Return the same work as a job of its own."""
        job = str(uuid.uuid4())
        return Entry(self.queue, job, self.raw.replace(self.job.encode(), job.encode()))


def collect(stand: Stand, number: int) -> list[Entry]:
    """Return the messages of so many jobs of the mix, which are in no queue that is served."""
    sender = OurSender(Deployment(url=stand.deployment.url, prefix=_UNSERVED))
    mix = Mix(seed=7)
    for _ in range(number):
        sender.submit(mix.single())
    sender.close()
    return [entry for family in FAMILIES for entry in _entries(stand.raw, family)]


def push(stand: Stand, entries: list[Entry]) -> None:
    """Put entries into their queues, one after another."""
    with stand.raw.pipeline(transaction=False) as pipe:
        for entry in entries:
            pipe.lpush(entry.queue, entry.raw)
        pipe.execute()


def _entries(raw: redis.Redis, queue: str) -> list[Entry]:
    found: list[bytes] = raw.lrange(f"{_UNSERVED}{queue}", 0, -1)  # type: ignore[assignment]
    return [Entry(queue, json.loads(text)["headers"]["id"], text) for text in found]
