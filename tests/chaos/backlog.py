"""A backlog: a queue that is far longer than its worker is quick."""

import time

import psutil

from tests.chaos.entries import collect, push
from tests.chaos.load import settle
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand

#: Entries that are made by the client; all others are the same work under ids of their own.
_NUM_MADE = 200

#: Most that the parent process of a worker may grow by, in bytes.
_GROWTH = 50e6


class Backlog(Scenario):
    """A queue of many thousands, filled at once, before one worker with one process."""

    name = "backlog"

    def run(self, short: bool) -> list[Row]:
        """Fill the queue, look at the worker while it works, and count the ends."""
        number = 1_000 if short else 12_000
        with Stand(workers=1, concurrency=1) as stand:
            made = collect(stand, _NUM_MADE)
            entries = [made[count % len(made)].again() for count in range(number)]
            before = largest = _memory(stand)
            held = 0
            push(stand, entries)
            jobs = [entry.job for entry in entries]
            while stand.raw.llen("mcts"):
                held, largest = max(held, _held(stand)), max(largest, _memory(stand))
                time.sleep(0.1)
            found = settle(stand, jobs)
        bad = len(found.lost) + len(found.stuck) + len(found.failed) + sum(found.residue.values())
        fault, grown = f"a queue of {number:,}", largest - before
        return [
            self.row(
                "every accepted job ends",
                fault,
                1,
                f"not well ended {bad} of {found.num_accepted:,}, double {len(found.doubled)}",
                not bad and not found.doubled,
                jobs=found.num_accepted,
            ),
            self.row(
                "a worker takes no more than its prefetch, and no memory for what waits",
                fault,
                1,
                f"held at most {held}, parent grew by {grown / 1e6:.0f} MB",
                held <= 4 and grown < _GROWTH,
                held=held,
            ),
        ]


def _memory(stand: Stand) -> int:
    return int(psutil.Process(stand.workers["w1"].pid).memory_info().rss)


def _held(stand: Stand) -> int:
    keys = (*stand.raw.scan_iter("*gristmill:inbox:*"), b"unacked")
    return max(int(str(stand.raw.hlen(key))) for key in keys)
