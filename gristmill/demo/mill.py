"""The mill of the demo: a private server, a real worker, and the account of all jobs."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contract.operation import Job, Operation, Result
from gristmill.server import EmbeddedServer
from gristmill.stack import Stack, StackError
from producers import Client, ResultTimeout

R = TypeVar("R", bound=Result)

#: Seconds without an answer after which the demo gives up on a job.
PATIENCE: Final = 60.0

#: Seconds between two looks at the queue for the progress bar.
_LOOK_SECONDS: Final = 0.1


@dataclass
class Account:
    """What the jobs of one operation cost, and how they were computed."""

    #: Number of jobs that were answered.
    num_jobs: int = 0
    #: Seconds in kernels, all jobs together.
    kernel_seconds: float = 0.0
    #: Seconds on the clock from the first submission to the last answer, all batches together.
    wall_seconds: float = 0.0
    #: Seconds that each job waited for a worker.
    waits: list[float] = field(default_factory=list)
    #: Each way in which answers were made: (backend, simd, threads).
    made: set[tuple[str, str, int]] = field(default_factory=set)
    #: What answers warned of, and the names of the jobs that did.
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def add(self, result: Result, name: str = "") -> None:
        """Enter one answer, of the job called `name`."""
        self.num_jobs += 1
        self.kernel_seconds += result.kernel_seconds
        self.waits.append(result.queue_seconds or 0.0)
        self.made.add((result.backend, result.simd, result.threads))
        for warning in result.warnings:
            self.warnings.setdefault(warning, []).append(name)

    @property
    def jobs_per_second(self) -> float:
        """Return the throughput on the clock."""
        return self.num_jobs / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def median_wait(self) -> float:
        """Return the median of the seconds that jobs waited for a worker."""
        return statistics.median(self.waits) if self.waits else 0.0

    @property
    def how(self) -> str:
        """Say how answers were made: `compiled avx512 x 2` (threads) or `fallback (NumPy)`."""
        ways = (
            "fallback (NumPy)" if backend == "fallback" else f"{backend} {simd} x {threads}"
            for backend, simd, threads in sorted(self.made)
        )
        return "; ".join(ways)


class Mill:
    """A running server and worker, and a client that keeps account.

        with Mill(console) as mill:
            results = mill.grind(analytics.basic_statistics, requests, "years")

    `console`: where progress is shown; as lines where it is no terminal that can move its cursor.
    `num_workers`: how many jobs run at a time. Defaults to one for each core.
    `check`: called before each wait for a job; what it raises ends the wait. Defaults to nothing.
    """

    def __init__(
        self,
        console: Console,
        num_workers: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare it; nothing runs before the `with` block."""
        self.num_workers = num_workers or _num_cores()
        #: The account of each operation, by its name.
        self.accounts: dict[str, Account] = {}
        self._console = console
        self._check = check
        self._end = ExitStack()

    def __enter__(self) -> Self:
        """Start server and worker; raise ServerError or StackError when they do not answer."""
        with ExitStack() as starting:
            self.server = starting.enter_context(EmbeddedServer())
            #: A private directory, gone when the mill stops.
            self.directory = Path(tempfile.mkdtemp(dir=self.server.directory))
            self._stack = starting.enter_context(
                Stack(concurrency=self.num_workers, logs=self.directory, server=self.server)
            )
            self._client = starting.enter_context(Client(self.server.url, timeout=PATIENCE))
            self._redis = starting.enter_context(redis.Redis.from_url(self.server.url))
            self._end = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop worker and server; nothing of them stays."""
        self._end.close()

    def grind(
        self,
        operation: Operation[Any, R],
        requests: Sequence[Mapping[str, Any]],
        label: str,
        names: Sequence[str] = (),
    ) -> list[R]:
        """Submit all requests at once and return their results in order.

        `names`: what each request is of, for who reads warnings. Defaults to none.
        """
        with self.watched(operation, label, len(requests)) as advance:
            jobs, results = [], []
            for request in requests:
                jobs.append(operation.submit(**request))
                advance(0)
            for job, name in zip(jobs, names or [""] * len(jobs), strict=True):
                results.append(self.fetch(operation, job, name))
                advance(1)
        return results

    def fetch(self, operation: Operation[Any, R], job: Job[R], name: str = "") -> R:
        """Wait for a job's result and enter it into the account, under `name`.

        Raises what the job raised, or StackError when server or worker died meanwhile.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            self._check()
            try:
                result = job.result(timeout=1.0)
            except ResultTimeout:
                if ended := self._stack.ended:
                    last = self._stack.last_words(ended)
                    raise StackError(f"{ended}: ended by itself{last}") from None
                if time.monotonic() > deadline:
                    raise
            else:
                self.accounts.setdefault(operation.name, Account()).add(result, name)
                return result

    @contextmanager
    def watched(
        self, operation: Operation[Any, Any], label: str, total: int, unit: str = "jobs"
    ) -> Iterator[Callable[[int], None]]:
        """Show the progress of a block that runs jobs; yield the function that advances it."""
        account = self.accounts.setdefault(operation.name, Account())
        before, started, looked = account.num_jobs, time.perf_counter(), 0.0
        bars = _bars(self._console)
        bar = bars.add_task(label, total=total, state="")

        def advance(steps: int) -> None:
            nonlocal looked
            bars.advance(bar, steps)
            now = time.perf_counter()
            if not bars.disable and now - looked > _LOOK_SECONDS:
                looked = now
                rate = (account.num_jobs - before) / (now - started)
                queued = self._redis.llen(operation.family)
                bars.update(bar, state=f"{queued} queued, {rate:,.0f} jobs/s")

        with bars:
            yield advance
            seconds = time.perf_counter() - started
            account.wall_seconds += seconds
            num_jobs = account.num_jobs - before
            state = f"{num_jobs / seconds:,.0f} jobs/s"
            bars.update(bar, state=state)
        if bars.disable:
            done = f"{total:,} {unit}" if unit == "jobs" else f"{total:,} {unit}, {num_jobs:,} jobs"
            self._console.print(f"  {label}: {done} in {seconds:.1f} s, {state}", highlight=False)


def _num_cores() -> int:
    # macOS does not tell which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bars(console: Console) -> Progress:
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_interactive)
