"""Measures one case in a process of its own, whose threads the environment has set.

`python -m benchmarks` starts `python -m benchmarks.measurement`, says in JSON what to measure and
reads the records back; so a peer that crashes takes no other case along.
"""

import dataclasses
import json
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import native_c
from benchmarks.case import Call, Case, Peer, call_text, cases_of, setup_text
from benchmarks.memory import peak_megabytes
from benchmarks.record import Figure, Record, compare
from benchmarks.timing import QUICK, Plan, interleave

#: More cores than this in a row of one thread: somebody does not keep to the number of threads.
_ONE_CORE = 1.1

_CLOCKS = {"processor": "processor time", "least": "the least sample"}

_OURS = "ours on "


@dataclass(frozen=True)
class Job:
    """What one process measures: a case at all its sizes, or the memory of one contestant."""

    family: str
    #: Place of the case in its family's list.
    index: int
    threads: int
    #: Instruction sets to time ours on; empty: the best of this processor.
    simd: tuple[str, ...] = ()
    quick: bool = False
    #: Whose memory to measure instead of times: "ours" or a peer's name.
    memory_of: str = ""

    @property
    def case(self) -> Case:
        """The case itself."""
        return cases_of(self.family)[self.index]


def measure(job: Job) -> list[Record]:
    """Return the records of a case at all its sizes."""
    return [record for size in job.case.sizes for record in measure_size(job.case, size, job)]


def measure_size(case: Case, size: int, job: Job) -> list[Record]:
    """Verify ours, verify each peer, and only then time, in turns, those that passed."""
    best = native_c.info()["simd"]
    try:
        return _measure_levels(case, size, job, best)
    finally:
        _take_turn(_OURS + best)


def _measure_levels(case: Case, size: int, job: Job, best: str) -> list[Record]:
    data, levels = case.data(size), job.simd or (best,)
    try:
        ours = verified(case, data, levels)
    except Exception as error:
        reason = f"ours is not verified, so nothing is timed: {_describe(error)}"
        return [row(job, case, size, peer, error=reason) for peer in case.peers]
    records, calls = [], {_OURS + level: ours for level in levels}
    for peer in case.peers:
        try:
            calls[peer.name] = agreeing(peer, data, ours())
        except Exception as error:
            reason = f"{peer.name} cannot be timed: {_describe(error)}"
            records.append(row(job, case, size, peer, simd=best, error=reason))
    plan = dataclasses.replace(QUICK if job.quick else Plan(), threads=job.threads)
    figures = interleave(calls, plan, before=_take_turn)
    bars_hold = job.threads == 1 or case.bars_on_all_cores
    for level in levels:
        for peer in case.peers:
            if peer.name in figures:
                bar = peer.bars.get(size) if bars_hold and level == best else None
                both = figures[_OURS + level], figures[peer.name]
                fields = compare(*both, bar) | {"notes": _notes(*both, job.threads)}
                records.append(row(job, case, size, peer, simd=level, **fields))
    return records


def verified(case: Case, data: tuple[Any, ...], levels: tuple[str, ...]) -> Call:
    """Return our call; raise what the check of its answer raises on any instruction set."""
    ours = case.ours(*data)
    for level in levels:
        _take_turn(_OURS + level)
        case.verify(ours(), *data)
    return ours


def agreeing(peer: Peer, data: tuple[Any, ...], answer: Any) -> Call:
    """Return a peer's call; raise what preparing it or comparing its answer with ours raises."""
    call = peer.prepare(*data)
    peer.agree(call(), answer)
    return call


def row(job: Job, case: Case, size: int, peer: Peer, simd: str = "none", **fields: Any) -> Record:
    """Return a record of times with all that is known before the clock starts."""
    return Record(
        operation=case.operation,
        case=case.title(size),
        size=size,
        peer=named(peer),
        threads=job.threads,
        simd=simd,
        ours_call=call_text(case.ours),
        peer_call=call_text(peer.prepare),
        peer_setup=setup_text(peer.prepare),
        quick=job.quick,
        **{"metric": "time", "unit": "ms"} | fields,
    )


def named(peer: Peer) -> str:
    """Return the peer's name with the version of its library, where that is installed."""
    try:
        return f"{peer.name} ({peer.library} {version(peer.library)})"
    except PackageNotFoundError:
        return f"{peer.name} ({peer.library}, not installed)"


def measure_memory(job: Job) -> float:
    """Return the peak extra memory of one contestant's job at the largest size, in MB."""
    case = job.case
    contestants = {"ours": case.ours} | {peer.name: peer.prepare for peer in case.peers}
    small, large = case.data(min(case.sizes)), case.data(max(case.sizes))
    return peak_megabytes(contestants[job.memory_of], small, large)


def _take_turn(name: str) -> None:
    """Set the instruction set that ours is to use; NumPy's twin has "none" to set."""
    level = name.removeprefix(_OURS)
    if level not in (name, "none"):
        native_c.set_simd(level)


def _notes(ours: Figure, peer: Figure, threads: int) -> tuple[str, ...]:
    notes = []
    for who, figure in (("ours", ours), ("the peer", peer)):
        if figure.clock != "wall":
            notes.append(f"{who}: {_CLOCKS[figure.clock]}, for most samples had to wait for a core")
        if threads == 1 and figure.cores > _ONE_CORE:
            notes.append(f"{who} used {figure.cores:.1f} cores in a row of one thread")
    return tuple(notes)


def _describe(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said} ({Path(where.filename).name}:{where.lineno})"


def main() -> None:
    """Measure the job of the first argument; write the answer to the file named by the second."""
    job = Job(**json.loads(sys.argv[1], object_pairs_hook=_with_tuples))
    found: object = measure_memory(job) if job.memory_of else [r.to_dict() for r in measure(job)]
    Path(sys.argv[2]).write_text(json.dumps(found))


def _with_tuples(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in pairs}


if __name__ == "__main__":
    main()
