"""A backlog: a queue that is far longer than its worker is quick."""

import psutil

from tests.chaos.load import Load
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand


class Backlog(Scenario):
    """One slow worker and producers who care for nobody: a queue of many thousands."""

    name = "backlog"

    def run(self, short: bool) -> list[Row]:
        """Fill the queue at full speed, then let it run empty."""
        number = 1_000 if short else 12_000
        with (
            Stand(workers=1, concurrency=1) as stand,
            Load(stand, rate=2_000, backlog=10**9) as load,
        ):
            load.reach(100)
            before, taken = _memory(stand), 0
            while len(load.accepted) < number:
                load.reach(len(load.accepted) + 50)
                taken = max(taken, _held(stand))
            load.stop()
            longest = sum(count for key, count in stand.residue().items() if ":inbox:" not in key)
            grown = _memory(stand) - before
            found = load.drain()
        bad = len(found.lost) + len(found.stuck) + len(found.failed) + sum(found.residue.values())
        fault = f"a queue of {longest:,}"
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
                f"held at most {taken}, parent grew by {grown / 1e6:.0f} MB",
                taken <= 4 and grown < 50e6,
                held=taken,
            ),
        ]


def _memory(stand: Stand) -> int:
    return int(psutil.Process(stand.workers["w1"].pid).memory_info().rss)


def _held(stand: Stand) -> int:
    keys = (*stand.raw.scan_iter("*gristmill:inbox:*"), b"unacked")
    return max(int(str(stand.raw.hlen(key))) for key in keys)
