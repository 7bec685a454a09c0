"""Poison: jobs that end the process that runs them, and a fault in a C kernel."""

import time
from functools import partial
from typing import Any, Final

import numpy as np

from contract.dead_letters import DeadLetters
from contract.errors import GristmillError
from contract.operation import Job
from producers import Client, mcts
from tests.chaos.events import Kind
from tests.chaos.ledger import percentile
from tests.chaos.load import Load
from tests.chaos.scenario import Scenario
from tests.chaos.senders import QUEUE, OurSender
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand, wait_until

#: How a job of the suite ends its process, by what `chaos.die` is told.
DEATHS: Final = {
    "segfault": "segmentation fault",
    "abort": "abort()",
    "exit": "_exit(3)",
    "killed": "SIGKILL, as by the kernel when memory is out",
    "stack": "stack overflow in C",
}

#: `CRASHING` and `DEADLY` of tests/chaos/tasks.py, which is for workers alone.
_CRASHING: Final = 1234.5
_DEADLY: Final = 4321.5

#: Most times that a poison job may begin.
_MOST_RUNS: Final = 2

_SECONDS: Final = 60.0

#: Two nodes of which the child that was visited less is the better one.
_NODES: Final[dict[str, Any]] = {
    "visits": np.array([[3, 1], [1, 5]]),
    "value_sums": np.array([[1.0, 0.5], [0.2, 4.0]]),
    "parent_visits": np.array([4, 6]),
}


class Poison(Scenario):
    """Jobs that kill their process each time, among others that do no harm.

    The last kind is a fault in a C kernel, which the NumPy twin does not have.
    """

    name = "poison"

    def run(self, short: bool) -> list[Row]:
        """Send each kind of poison while a load runs, then look at the load."""
        runs = 1 if short else 6
        with Stand() as stand, Load(stand, rate=30) as load:
            load.reach(50)
            sender = OurSender(stand.deployment)
            rows = [self._deaths(stand, sender, how, runs) for how in DEATHS]
            rows += [self._kernel(sender.client, runs), self._batch(sender.client, runs)]
            sender.close()
            load.stop()
            found = load.drain()
            lives = sum(len(stand.lives(name)) for name in stand.workers)
        bad = len(found.lost) + len(found.stuck) + len(found.failed)
        rows.append(
            self.row(
                "other jobs go on",
                "poison among them",
                runs * (len(DEATHS) + 2),
                f"not well ended {bad} of {found.num_accepted:,}",
                not bad,
                failed=len(found.failed),
                lost=len(found.lost),
                stuck=len(found.stuck),
            )
        )
        extra = lives - len(stand.workers)
        rows.append(
            self.row(
                "a worker's parent outlives its poisoned processes",
                "poison",
                runs * (len(DEATHS) + 2),
                f"parents lost {extra}",
                not extra,
            )
        )
        return rows

    def _deaths(self, stand: Stand, sender: OurSender, how: str, runs: int) -> Row:
        seconds, most, wrong = [], 0, []
        for _ in range(runs):
            sent_at = time.monotonic()
            job = str(sender.app.send_task("chaos.die", (how,), queue=QUEUE).id)
            try:
                wait_until(partial(stand.observer.states.get, job), _SECONDS)
            except TimeoutError:
                wrong.append("no end")
                continue
            seconds.append(time.monotonic() - sent_at)
            wrong += self._faults(stand, sender, job)
            starts = [event for event in stand.read() if event.job == job]
            most = max(most, sum(event.kind is Kind.STARTED for event in starts))
        said = f"begun at most {most} times, verdict after at most {max(seconds, default=0):.1f} s"
        return self.row(
            "a job that kills its process ends failed and as a dead letter, after two runs",
            DEATHS[how],
            runs,
            f"{said}{'; ' if wrong else ''}{', '.join(sorted(set(wrong)))}",
            not wrong and most <= _MOST_RUNS,
            most_runs=most,
            p50=percentile(seconds, 50) if seconds else -1.0,
        )

    def _faults(self, stand: Stand, sender: OurSender, job: str) -> list[str]:
        """Return what is wrong with the end of a poison job."""
        faults = []
        if stand.observer.states[job] != "FAILURE":
            faults.append(f"state {stand.observer.states[job]}")
        letters = DeadLetters(stand.raw, stand.deployment)
        time.sleep(0.2)  # the letter may follow the result
        if job not in {letter.job for letter in letters.list()}:
            faults.append("no dead letter")
        return faults

    def _batch(self, client: Client, runs: int) -> Row:
        """Send batches in which one item crashes the C kernel, and one ends every process."""
        explorations = [1.0] * 20
        explorations[7], explorations[13] = _CRASHING, _DEADLY
        wrong = []
        for _ in range(runs):
            requests = [
                mcts.ucb1_selection.build(**_NODES, exploration=value) for value in explorations
            ]
            jobs = client.submit_many(mcts.ucb1_selection, requests)
            for job, value in zip(jobs, explorations, strict=True):
                expected = {_CRASHING: "fallback", _DEADLY: "InternalError"}.get(value, "compiled")
                if (found := _outcome(job)) != expected:
                    wrong.append(f"{found} for {expected}")
        return self.row(
            "a batch whose process dies is split: it loses only the item that ends every process",
            "of 20 items one crashes the C kernel, one ends any process",
            runs,
            f"wrong {len(wrong)} of {runs * len(explorations)}"
            f"{'; ' if wrong else ''}{', '.join(sorted(set(wrong)))}",
            not wrong,
        )

    def _kernel(self, client: Client, runs: int) -> Row:
        wrong, seconds = [], []
        for _ in range(runs):
            began = time.monotonic()
            request = mcts.ucb1_selection.build(**_NODES, exploration=_CRASHING)
            try:
                result = client.submit(mcts.ucb1_selection, request).result(timeout=_SECONDS)
            except GristmillError as error:
                wrong.append(type(error).__name__)
                continue
            seconds.append(time.monotonic() - began)
            if result.backend != "fallback" or not result.warnings:
                wrong.append(f"backend {result.backend}, {len(result.warnings)} warnings")
            if result.chosen.tolist() != [1, 0]:  # the child that was visited less
                wrong.append("wrong answer")
        return self.row(
            "a job that crashes the C kernel is answered by the NumPy twin, which says so",
            "segmentation fault in a kernel",
            runs,
            f"answered {len(seconds)} of {runs}, after at most {max(seconds, default=0):.1f} s"
            f"{'; ' if wrong else ''}{', '.join(sorted(set(wrong)))}",
            not wrong,
        )


def _outcome(job: Job[Any]) -> str:
    """Return the backend that answered, or the name of the error."""
    try:
        return str(job.result(timeout=_SECONDS).backend)
    except GristmillError as error:
        return type(error).__name__
