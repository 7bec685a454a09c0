"""The ledger: decides from the logs and the server what became of every accepted job."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.events import Event, Kind

#: Seconds before a blow in which what was in hand was received, and after it until all began again.
_LOOK_BACK: Final = 300.0
_LOOK_AHEAD: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What became of the jobs of a load."""

    num_accepted: int
    #: Jobs without an end that are nowhere: their callers would wait for ever.
    lost: tuple[str, ...]
    #: Jobs without an end that lie at the server, where nobody moves them any more.
    stuck: tuple[str, ...]
    #: Jobs that ended visibly more than once, or whose end changed after it was first seen.
    doubled: tuple[str, ...]
    #: Jobs that ended otherwise than well.
    failed: tuple[str, ...]
    #: How many jobs were begun more than once: the price of acknowledging late.
    num_run_again: int
    #: Entries left in queues and in records of what is in hand, after all is over.
    residue: Mapping[str, int] = field(default_factory=dict)


def audit(
    *,
    accepted: Sequence[str],
    states: Mapping[str, str],
    at_server: AbstractSet[str],
    ends: Mapping[str, int],
    changed: AbstractSet[str],
    events: Iterable[Event],
    residue: Mapping[str, int],
) -> Audit:
    """Weigh the accepted jobs.

    `states` holds the end of each job that has one, `at_server` the ids that are in a queue or in
    somebody's hands, `ends` how many ends of a job were published, `changed` the jobs whose stored
    end is not the first that was seen, and `events` the logs.
    """
    present = {message_of(job) for job in at_server}
    open_jobs = [job for job in accepted if job not in states]
    ours = set(accepted)
    messages = {message_of(job) for job in accepted}
    starts = Counter(event.job for event in events if event.kind is Kind.STARTED)
    return Audit(
        num_accepted=len(accepted),
        lost=tuple(job for job in open_jobs if message_of(job) not in present),
        stuck=tuple(job for job in open_jobs if message_of(job) in present),
        doubled=tuple(job for job in ours if ends.get(job, 0) > 1 or job in changed),
        failed=tuple(job for job in accepted if states.get(job, "SUCCESS") != "SUCCESS"),
        num_run_again=sum(
            count > 1 for job, count in starts.items() if message_of(job) in messages
        ),
        residue=dict(residue),
    )


def message_of(job: str) -> str:
    """Return the id of the message that a job came in: an item of a batch came in the batch's."""
    return job.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One fault that was done: when, to whom, and when its cause was over."""

    at: float
    #: When the cause was over: the server back, the network whole. The same as `at` for a kill.
    over_at: float
    #: Parents of the workers that it struck.
    parents: frozenset[int] = frozenset()
    #: The process that it struck, where it struck no parent.
    process: int | None = None

    @property
    def is_personal(self) -> bool:
        """Whether it struck some worker or process, rather than all or the road to them."""
        return bool(self.parents) or self.process is not None

    def strikes(self, event: Event) -> bool:
        """Say whether the one who wrote this line was struck."""
        if self.process is not None:
            return event.process == self.process
        return event.parent in self.parents


def in_hand(events: Sequence[Event], blow: Blow) -> set[str]:
    """Return the jobs that the struck one had received or begun, and not ended, at the blow."""
    found: set[str] = set()
    first = bisect_left(events, blow.at - _LOOK_BACK, key=_time)
    last = bisect_right(events, blow.at, key=_time)
    for event in events[first:last]:
        if event.kind is Kind.ENDED:
            found.discard(event.job)
        elif blow.strikes(event) and event.kind in (Kind.RECEIVED, Kind.STARTED):
            found.add(event.job)
    return found


def rescues(events: Sequence[Event], blow: Blow, ended: Container[str]) -> list[float]:
    """Return, for each job that a blow took from its worker, the seconds until it began elsewhere.

    Infinity stands for a
    job that never began again, unless it is among those that `ended`: its result was stored when
    the blow fell, and only the log did not say so.
    """
    struck = in_hand(events, blow)
    found: dict[str, float] = {}
    first = bisect_right(events, blow.at, key=_time)
    last = bisect_left(events, blow.at + _LOOK_AHEAD, key=_time)
    for event in events[first:last]:
        if event.kind is Kind.STARTED and event.job in struck and not blow.strikes(event):
            found.setdefault(event.job, event.at - blow.at)
    never = [math.inf for job in struck if job not in found and job not in ended]
    return [*found.values(), *never]


def resumptions(events: Sequence[Event], blow: Blow, names: Iterable[str]) -> list[float]:
    """Return, for each worker by name, the seconds from the end of a fault to its next ended job.

    Infinity stands for a worker that never ended one again.
    """
    first: dict[str, float] = dict.fromkeys(names, math.inf)
    for event in events[bisect_left(events, blow.over_at, key=_time) :]:
        if event.kind is Kind.ENDED and first.get(event.name) == math.inf:
            first[event.name] = event.at - blow.over_at
            if math.inf not in first.values():
                break
    return list(first.values())


def run_times(events: Iterable[Event]) -> list[float]:
    """Return the seconds that each run took at its worker, from start to stored result."""
    begun: dict[tuple[str, int], float] = {}
    found = []
    for event in events:
        if event.kind is Kind.STARTED:
            begun[event.job, event.process] = event.at
        elif event.kind is Kind.ENDED and (event.job, event.process) in begun:
            found.append(event.at - begun.pop((event.job, event.process)))
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed; NaN of none."""
    ordered = sorted(values)
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1] if ordered else math.nan


def _time(event: Event) -> float:
    return event.at
