"""Idempotency keys: what many processes claim at the same moment."""

import subprocess
import sys

from tests.chaos.events import Kind
from tests.chaos.load import settle
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand
from tests.chaos.worker import ROOT


class OnceOnly(Scenario):
    """Many processes submit jobs under the same idempotency keys at the same moment."""

    name = "once"

    def run(self, short: bool) -> list[Row]:
        """Let processes claim the same keys, and count the jobs that come of it."""
        processes, keys = (4, 20) if short else (8, 200)
        with Stand() as stand:
            first = self._claim(stand, processes, keys)
            found = settle(stand, sorted({job for jobs in first.values() for job in jobs}))
            later = self._claim(stand, 1, keys)
            starts = [e.job for e in stand.read() if e.kind is Kind.STARTED]
        several = sum(len(jobs) > 1 for jobs in first.values())
        anew = sum(later[key] != first[key] for key in first)
        runs = max((starts.count(job) for jobs in first.values() for job in jobs), default=0)
        bad = len(found.lost) + len(found.stuck) + len(found.failed)
        fault = f"{processes} processes, {keys} keys"
        return [
            self.row(
                "an idempotency key stands for one job, which runs once",
                fault,
                processes * keys,
                f"keys of several jobs {several}, most runs of a job {runs}, not well ended {bad}",
                not several and not bad and runs == 1,
            ),
            self.row(
                "after its end the key still stands for the same job",
                fault,
                keys,
                f"other jobs {anew} of {keys}",
                not anew,
            ),
        ]

    def _claim(self, stand: Stand, processes: int, keys: int) -> dict[str, set[str]]:
        """Return the ids that any of so many processes was given for each key."""
        command = [sys.executable, "-m", "tests.chaos.claimant", stand.deployment.url, str(keys)]
        running = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        found: dict[str, set[str]] = {}
        for process in running:
            output, _ = process.communicate(timeout=120)
            for line in output.splitlines():
                key, job = line.split()
                found.setdefault(key, set()).add(job)
        return found
