"""Shutdown: a worker that is told to stop hands back what it cannot finish."""

import signal
import time
from typing import Final

import psutil

from tests.chaos.events import Kind
from tests.chaos.load import settle
from tests.chaos.scenario import Scenario
from tests.chaos.senders import QUEUE, OurSender
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand, wait_until


class HandBack(Scenario):
    """SIGTERM, remapped to a soft shutdown, to a worker in the middle of jobs beyond its grace."""

    name = "handback"

    #: Seconds that running jobs get, and that a job of the scenario takes.
    GRACE: Final = 3.0
    NAP: Final = 12.0

    def run(self, short: bool) -> list[Row]:
        """Fill a worker, stop it, and see its jobs run in its next life."""
        runs = 1 if short else 3
        environment = {
            "REMAP_SIGTERM": "SIGQUIT",
            "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": str(self.GRACE),
        }
        exits, held, bad, orders, failed = [], [], 0, 0, 0
        for _ in range(runs):
            with Stand(workers=1, environments={"w1": environment}) as stand:
                jobs, seconds, at_once, order = self._strike(stand)
                found = settle(stand, jobs)
                exits.append(seconds)
                held.append(at_once)
                orders += order
                failed += len(found.failed)
                bad += len(found.lost) + len(found.stuck) + sum(found.residue.values())
        fault = "SIGTERM in the middle of long jobs"
        return [
            self.row(
                f"a worker ends within its grace of {self.GRACE:g} s and 3 s more",
                fault,
                runs,
                f"at most {max(exits):.1f} s",
                max(exits) < self.GRACE + 3,
            ),
            self.row(
                "what it held is back in the queues at once, none of it lost or failed",
                fault,
                runs,
                f"in nobody's queue {sum(held)}, without an end {bad}, failed {failed}",
                not bad and not failed and not sum(held),
            ),
            self.row(
                "what it held runs before what waited",
                fault,
                runs,
                f"in order {orders} of {runs}",
                orders == runs,
            ),
        ]

    def _strike(self, stand: Stand) -> tuple[list[str], float, int, bool]:
        """Return the jobs, the seconds to the end, how many nobody held then, and the order."""
        sender = OurSender(stand.deployment)
        worker = stand.workers["w1"]
        naps = [self.NAP] * 2 + [0.1] * 8
        sent = [sender.app.send_task("chaos.nap", (nap,), queue=QUEUE) for nap in naps]
        jobs = [str(one.id) for one in sent]
        sender.close()
        wait_until(lambda: all(stand.has(job, Kind.STARTED) for job in jobs[:2]), 30)
        time.sleep(0.5)
        received = {e.job for e in stand.read() if e.kind is Kind.RECEIVED}
        asked = time.monotonic()
        pid = worker.tell(signal.SIGTERM)
        assert pid is not None
        wait_until(lambda: not psutil.pid_exists(pid), 60)
        seconds = time.monotonic() - asked
        missing = set(jobs) - stand.jobs_at_the_server()
        wait_until(lambda: all(stand.has(job, Kind.STARTED, since=asked) for job in jobs), 60)
        begun = [e.job for e in stand.read() if e.kind is Kind.STARTED and e.at > asked]
        first = begun[: len(received)]
        return jobs, seconds, len(missing), set(first) == received
