"""What callers ask of running and waiting jobs: cancel them, name them once, stop their worker."""

import random
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any, Final

import numpy as np
import psutil

from contract.errors import GristmillError, JobCancelled
from producers import Client, fusion, optimization
from tests.chaos.events import Kind
from tests.chaos.ledger import percentile
from tests.chaos.load import Load, settle
from tests.chaos.scenario import Scenario
from tests.chaos.senders import QUEUE, OurSender
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand, wait_until
from tests.chaos.worker import ROOT


class Cancels(Scenario):
    """Running kernels of seconds are cancelled, one after another, a moment after their start."""

    name = "cancels"

    def run(self, short: bool) -> list[Row]:
        """Cancel, and measure until the kernel has stopped and until the caller knows."""
        number = 30 if short else 1_000
        # Between two of them the worker is idle: latency is measured, not the queue.
        with Stand(workers=1, concurrency=1) as stand, Client(stand.deployment.url) as client:
            jobs, at_caller, missed = {}, [], 0
            for count in range(number):
                job = client.submit(*_long(count))
                wait_until(partial(_has, stand, job.id, Kind.STARTED), 60)
                time.sleep(random.uniform(0.02, 0.15))
                asked = time.monotonic()
                job.cancel()
                try:
                    job.result(timeout=60)
                except JobCancelled:
                    at_caller.append(time.monotonic() - asked)
                    jobs[job.id] = asked
                except GristmillError:
                    missed += 1
                else:
                    missed += 1  # it had ended before
            wait_until(lambda: all(_has(stand, job, Kind.ENDED) for job in jobs), 30)
            ends = {e.job: e.at for e in stand.read() if e.kind is Kind.ENDED}
            at_kernel = [ends[job] - asked for job, asked in jobs.items()]
        return [
            self._latency(
                "a running kernel stops within 100 ms of cancel (p99)", at_kernel, missed
            ),
            self._latency("its caller knows within 100 ms (p99)", at_caller, missed),
        ]

    def _latency(self, promise: str, seconds: list[float], missed: int) -> Row:
        p50, p99, most = (percentile(seconds, percent) * 1e3 for percent in (50, 99, 100))
        also = f", not cancelled {missed}" if missed else ""
        figure = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms{also}"
        kept = p99 < 100 and not missed
        return self.row(
            promise,
            "cancel of a running job",
            len(seconds),
            figure,
            kept,
            p50=p50,
            p99=p99,
            max=most,
        )


def _has(stand: Stand, job: str, kind: Kind) -> bool:
    return any(event.job == job and event.kind is kind for event in reversed(stand.read()))


def _long(count: int) -> tuple[Any, Any]:
    """Return an operation and a request that take a second or more."""
    if count % 4 == 0:
        embeddings = np.random.default_rng(count).normal(size=(100_000, 2)).astype(np.float32)
        fields = {"modalities": np.arange(100_000) % 3, "threshold": 0.9999999}
        return fusion.connection_discovery, fusion.connection_discovery.build(
            embeddings=embeddings, **fields
        )
    return optimization.multi_armed_bandit, optimization.multi_armed_bandit.build(
        counts=[5] * 20, reward_sums=[2.5] * 20, policy="thompson", num_selections=4_000_000
    )


class HandBack(Scenario):
    """SIGTERM, remapped to a soft shutdown, to a worker in the middle of jobs beyond its grace."""

    name = "handback"

    #: Seconds that running jobs get, and that a job of the scenario takes.
    GRACE: Final = 3.0
    NAP: Final = 12.0

    def run(self, short: bool) -> list[Row]:
        """Fill a worker, stop it, and see its jobs run in its next life."""
        runs = 1 if short else 5
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
                failed += found.num_failed
                bad += len(found.lost) + len(found.stuck) + sum(found.residue.values())
        fault = "SIGTERM in the middle of long jobs"
        return [
            self.row(
                f"a worker ends within its grace of {self.GRACE:g} s and 2 s more",
                fault,
                runs,
                f"at most {max(exits):.1f} s",
                max(exits) < self.GRACE + 2,
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
        jobs = [
            str(
                sender.app.send_task("chaos.nap", (self.NAP if count < 2 else 0.1,), queue=QUEUE).id
            )
            for count in range(10)
        ]
        sender.close()
        wait_until(lambda: all(_has(stand, job, Kind.STARTED) for job in jobs[:2]), 30)
        time.sleep(0.5)
        received = {e.job for e in stand.read() if e.kind is Kind.RECEIVED}
        asked = time.monotonic()
        pid = worker.tell(signal.SIGTERM)
        assert pid is not None
        wait_until(lambda: not psutil.pid_exists(pid), 60)
        seconds = time.monotonic() - asked
        missing = set(jobs) - stand.jobs_at_the_server()
        wait_until(lambda: all(_has_again(stand, job, asked) for job in jobs), 60)
        begun = [e.job for e in stand.read() if e.kind is Kind.STARTED and e.at > asked]
        first = begun[: len(received)]
        return jobs, seconds, len(missing), set(first) == received


def _has_again(stand: Stand, job: str, since: float) -> bool:
    return any(e.job == job and e.kind is Kind.STARTED and e.at > since for e in stand.read())


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
        bad = len(found.lost) + len(found.stuck) + found.num_failed + sum(found.residue.values())
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
        bad = len(found.lost) + len(found.stuck) + found.num_failed
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
