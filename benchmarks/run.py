"""Runs cases, each in processes of its own, and gathers their records."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.case import Case, cases_of
from benchmarks.machine import describe_machine
from benchmarks.measurement import Job, named, row
from benchmarks.record import Figure, Record, compare, revive

ROOT = Path(__file__).parent.parent

#: What the libraries read, most of them once at import, to know how many threads they may use.
THREAD_VARIABLES = (
    "MKL_NUM_THREADS",
    "NATIVE_C_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

#: No process may take longer: a peer that hangs becomes an error in its row.
_TIMEOUT_SECONDS = 300

_NANOSECONDS_A_MILLISECOND = 1e6


def run_family(
    family: str, only: str = "", simd: tuple[str, ...] = (), quick: bool = False
) -> Iterator[list[Record]]:
    """Yield the records of each case of a family whose operation and name contain `only`."""
    machine = describe_machine()
    for index, case in enumerate(cases_of(family)):
        if only in f"{case.operation}: {case.name}":
            jobs = [Job(family, index, threads, simd, quick) for threads in thread_counts()]
            records = [record for job in jobs for record in times(job)]
            if case.grows:
                records += [*growth(case, records), *memory(jobs[0], records)]
            yield [replace(record, machine=machine) for record in records]


def thread_counts() -> tuple[int, ...]:
    """Return the numbers of threads of the rows: 1, and all cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    return (1, cores) if cores > 1 else (1,)


def times(job: Job) -> list[Record]:
    """Return the rows of one case on one number of threads, errors where its process fails."""
    found, failure = _measure(job)
    if not failure:
        return [revive(fields) for fields in found]
    case = job.case
    return [row(job, case, size, peer, error=failure) for size in case.sizes for peer in case.peers]


def growth(case: Case, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the time per element at each size, on one thread, beside the fastest peer there."""
    rows = [record for record in records if record.threads == 1 and not record.error]
    for size in case.sizes:
        scale = _NANOSECONDS_A_MILLISECOND / case.elements(size)
        fastest = min((record for record in rows if record.size == size), key=_speed, default=None)
        if fastest is not None:
            yield replace(
                fastest,
                metric="time per element",
                unit=f"ns per {case.element}",
                bar=None,
                verdict=None,
                **{
                    name: _times(getattr(fastest, name), scale)
                    for name in ("ours", "peer_value", "ours_spread", "peer_spread")
                },
            )


def _speed(record: Record) -> tuple[float, float]:
    return record.ours or 0.0, record.peer_value or 0.0


def _times(value: Any, scale: float) -> Any:
    return tuple(each * scale for each in value) if isinstance(value, tuple) else value * scale


def memory(job: Job, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the peak extra memory of ours and of the fastest peer at the largest size."""
    case, size = job.case, max(job.case.sizes)
    rows = [record for record in records if record.size == size and record.metric == "time"]
    timed = [record for record in rows if record.threads == 1 and not record.error]
    fastest = min(timed, key=_speed, default=row(job, case, size, case.peers[0]))
    peer = next(peer for peer in case.peers if named(peer) == fastest.peer)
    about: dict[str, Any] = {"metric": "peak extra memory", "unit": "MB"}
    megabytes = []
    for who in ("ours", peer.name):
        found, failure = _measure(replace(job, simd=(), memory_of=who))
        if failure:
            yield row(job, case, size, peer, error=f"{who}: {failure}", **about)
            return
        megabytes.append(Figure(value=found, low=found, high=found))
    ours, theirs = megabytes
    yield row(job, case, size, peer, fastest.simd, **about, **compare(ours, theirs, None))


def _measure(job: Job) -> tuple[Any, str]:
    """Return what a process of its own finds out, or why it failed."""
    threads = {variable: str(job.threads) for variable in THREAD_VARIABLES}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        module = [sys.executable, "-m", "benchmarks.measurement"]
        try:
            ended = subprocess.run(
                [*module, json.dumps(asdict(job)), str(answer)],
                cwd=ROOT,
                env=os.environ | threads | {"NATIVE_C_BACKEND": "compiled"},
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"its process did not end within {_TIMEOUT_SECONDS} s"
        if ended.returncode == 0:
            return json.loads(answer.read_text()), ""
        last = (ended.stderr.strip() or "nothing said").splitlines()[-1]
        return None, f"its process ended with status {ended.returncode}: {last}"
