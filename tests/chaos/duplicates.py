"""Duplicated messages: every entry of a queue twice, as after a retry that nobody needed."""

import random

from tests.chaos.entries import collect, push
from tests.chaos.load import settle
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand


class Duplicates(Scenario):
    """Each message is put into its queue twice, the copies somewhere among the others."""

    name = "duplicates"

    def run(self, short: bool) -> list[Row]:
        """Collect messages, push them twice in a random order, and count the ends."""
        number = 300 if short else 3_000
        with Stand() as stand:
            entries = collect(stand, number)
            twice = entries * 2
            random.Random(1).shuffle(twice)
            push(stand, twice)
            found = settle(stand, [entry.job for entry in entries])
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
