"""Cancels: how soon a running kernel stops, and how soon its caller knows."""

import random
import time
from functools import partial
from typing import Any

import numpy as np

from contract.errors import GristmillError, JobCancelled
from producers import Client, fusion, optimization
from tests.chaos.events import Kind
from tests.chaos.ledger import percentile
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand, wait_until


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
                wait_until(partial(stand.has, job.id, Kind.STARTED), 60)
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
            wait_until(lambda: all(stand.has(job, Kind.ENDED) for job in jobs), 30)
            ends = {e.job: e.at for e in stand.read() if e.kind is Kind.ENDED}
        free = [ends[job] - asked for job, asked in jobs.items()]
        p50, p99, most = (percentile(at_caller, percent) * 1e3 for percent in (50, 99, 100))
        also = f", not cancelled {missed}" if missed else ""
        return [
            self.row(
                "a running kernel has stopped and its caller knows, within 100 ms of cancel (p99)",
                "cancel of a running job",
                number,
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms{also}; "
                f"its process is free after p99 {percentile(free, 99) * 1e3:.0f} ms",
                p99 < 100 and not missed,
                p50=p50,
                p99=p99,
                max=most,
            )
        ]


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
