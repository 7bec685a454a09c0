"""Duplicated messages: every entry of a queue twice, as after a retry that nobody needed."""

import random
from typing import Final

import redis

from contract.deployment import Deployment
from contract.families import FAMILIES
from tests.chaos.jobs import Mix
from tests.chaos.load import settle
from tests.chaos.scenario import Scenario
from tests.chaos.senders import OurSender
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand

#: A deployment on the same server that nobody serves: its queues keep what is sent to them.
_UNSERVED: Final = "unserved:"


class Duplicates(Scenario):
    """Each message is put into its queue twice, the copies somewhere among the others."""

    name = "duplicates"

    def run(self, short: bool) -> list[Row]:
        """Collect messages, push them twice in a random order, and count the ends."""
        number = 300 if short else 3_000
        with Stand() as stand:
            ids, entries = self._collect(stand, number)
            twice = entries * 2
            random.Random(1).shuffle(twice)
            for queue, entry in twice:
                stand.raw.lpush(queue, entry)
            found = settle(stand, ids)
        again, double = found.num_run_again, len(found.doubled)
        fault, unended = "every message twice", len(found.lost) + len(found.stuck)
        left_over = sum(found.residue.values())
        return [
            self.row(
                "a job has one visible end",
                fault,
                number,
                f"double {double} of {number:,} (begun again {again})",
                not double,
                doubled=double,
                run_again=again,
                jobs=number,
            ),
            self.row(
                "every accepted job ends, and nothing is left behind",
                fault,
                number,
                f"without an end {unended}, left over {left_over}",
                not unended and not left_over,
                lost=len(found.lost),
                stuck=len(found.stuck),
                residue=left_over,
            ),
        ]

    def _collect(self, stand: Stand, number: int) -> tuple[list[str], list[tuple[str, bytes]]]:
        """Return the ids of jobs and their messages with the queues that these are for."""
        deployment = Deployment(url=stand.deployment.url, prefix=_UNSERVED)
        sender, mix = OurSender(deployment), Mix(seed=7)
        ids: list[str] = []
        while len(ids) < number:
            job = mix.next()
            if job is not None:
                ids.append(sender.submit(*job))
        sender.close()
        entries = [
            (family, entry)
            for family in FAMILIES
            for entry in self._entries(stand.raw, f"{_UNSERVED}{family}")
        ]
        return ids, entries

    def _entries(self, raw: redis.Redis, key: str) -> list[bytes]:
        found: list[bytes] = raw.lrange(key, 0, -1)  # type: ignore[assignment]
        return found
