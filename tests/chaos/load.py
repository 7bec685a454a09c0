"""The load: producers in processes of their own, and what became of every job they sent."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from contract.deployment import URL_VARIABLE
from gristmill.guard import GuardedProcess
from tests.chaos.events import DIRECTORY_VARIABLE, NAME_VARIABLE, Kind, Reader
from tests.chaos.ledger import Audit, audit
from tests.chaos.stand import Stand, wait_until
from tests.chaos.worker import ROOT

#: How many jobs may wait before producers pause: a few seconds' work.
BACKLOG: Final = 400

#: Seconds without any new end after which what is left is not waited for any longer.
PATIENCE: Final = 40.0


class Load:
    """Producers that send the mix to a stand, together `rate` jobs a second."""

    def __init__(
        self,
        stand: Stand,
        *,
        rate: float,
        producers: int = 2,
        backlog: int = BACKLOG,
        seed: int = 1,
    ) -> None:
        self._stand, self._rate, self._backlog = stand, rate, backlog
        self._names = [f"p{number}" for number in range(1, producers + 1)]
        self._seed = seed
        self._processes: list[GuardedProcess] = []
        self._reader = Reader(stand.directory, "p")
        #: Jobs that were accepted, in order, and how many submits were refused, by error.
        self.accepted: list[str] = []
        self.refused: Counter[str] = Counter()
        #: The longest that a submit took to be accepted or refused, in seconds.
        self.longest_submit = 0.0
        #: Waits for a result that ended well, and how others ended.
        self.num_answered = 0
        self.abandoned: list[str] = []

    def __enter__(self) -> Self:
        """Start the producers."""
        for number, name in enumerate(self._names):
            self._processes.append(self._start(number, name))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the producers."""
        self.stop()

    def reach(self, jobs: int, seconds: float = 1800) -> None:
        """Return once so many jobs were accepted."""
        wait_until(lambda: self._count() >= jobs, seconds, lambda: f"{jobs} jobs", every=0.2)

    def _check(self) -> None:
        """Raise RuntimeError with its last words where a producer has ended by itself."""
        for name, process in zip(self._names, self._processes, strict=False):
            if process.status is not None:
                output = (self._stand.directory / f"{name}.out").read_text()
                raise RuntimeError(f"producer {name} has ended: {output[-500:]}")

    def stop(self) -> None:
        """Stop sending, and let callers that wait have their answers."""
        for process in self._processes:
            process.stop()
        self._processes = []
        self._count()

    def drain(self, patience: float = PATIENCE) -> Audit:
        """Wait until every job has ended or nothing ends any more; return what became of all."""
        return settle(self._stand, self.accepted, patience)

    def _count(self) -> int:
        self._check()
        for event in self._reader.read():
            match event.kind:
                case Kind.ACCEPTED:
                    self.accepted.append(event.job)
                    self.longest_submit = max(self.longest_submit, float(event.note))
                case Kind.REFUSED:
                    self.refused[event.job] += 1
                    self.longest_submit = max(self.longest_submit, float(event.note))
                case Kind.ANSWERED:
                    self.num_answered += 1
                case Kind.ABANDONED:
                    self.abandoned.append(event.note)
        return len(self.accepted)

    def _start(self, number: int, name: str) -> GuardedProcess:
        numbers = (self._seed + number, self._rate / len(self._names), self._backlog)
        program = (sys.executable, "-m", "tests.chaos.producer", self._stand.side)
        return GuardedProcess(
            [*program, *map(str, numbers)],
            log=self._stand.directory / f"{name}.out",
            environment={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                URL_VARIABLE: self._stand.url("apps"),
                DIRECTORY_VARIABLE: str(self._stand.directory),
                NAME_VARIABLE: name,
            },
            stop_seconds=60,
        )


def settle(stand: Stand, accepted: Sequence[str], patience: float = PATIENCE) -> Audit:
    """Wait until every job has ended or nothing ends any more; return what became of all."""
    observer = stand.observer
    left, changed_at = list(accepted), time.monotonic()
    while left and time.monotonic() - changed_at < patience:
        still = [job for job in left if job not in observer.states]
        if len(still) < len(left):
            left, changed_at = still, time.monotonic()
        observer.look(left)
        time.sleep(0.2)
    with contextlib.suppress(TimeoutError):  # what is not gone by then is told
        wait_until(lambda: not stand.residue(), 15)
    observer.compare(accepted)
    return audit(
        accepted=accepted,
        states=observer.states,
        at_server=stand.jobs_at_the_server() if left else set(),
        ends=observer.ends,
        changed=observer.changed,
        events=stand.read(),
        residue=stand.residue(),
    )
