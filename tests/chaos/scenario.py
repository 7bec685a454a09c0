"""A scenario: one chapter of the sheet, from an empty stand to its rows."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.faults import Fault
from tests.chaos.ledger import (
    Audit,
    Blow,
    in_hand,
    message_of,
    percentile,
    rescues,
    resumptions,
    run_times,
)
from tests.chaos.load import Load
from tests.chaos.sheet import Row
from tests.chaos.stand import Fsync, Side, Stand, wait_until

#: Jobs that one producer's load has ended before the first blow.
_WARM: Final = 100


#: So many dead processes make a job a poison job, which is given up.
_GUILTY: Final = 2

#: No submit may take longer, whatever the broker does.
SUBMIT_SECONDS: Final = 15.0


class Scenario(ABC):
    """Tests promises on stands of its own. Its docstring tells the reader what is done."""

    #: One word for the command line.
    name: str
    #: Whether the short form of the suite has it.
    in_short: bool = True

    @property
    def about(self) -> str:
        """What is done, for the reader of the page."""
        return " ".join((type(self).__doc__ or "").split())

    @abstractmethod
    def run(self, short: bool) -> list[Row]:
        """Do it, in the short form where asked, and return what was seen."""

    def row(
        self, promise: str, fault: str, runs: int, figure: str, kept: bool, **details: float
    ) -> Row:
        """Return a row of this scenario."""
        return Row(
            scenario=self.name,
            promise=promise,
            fault=fault,
            runs=runs,
            figure=figure,
            passed=kept,
            details=details,
        )


@dataclass(frozen=True, kw_only=True)
class UnderLoad(Scenario):
    """Strikes a stand again and again while producers send the mix, and then counts every job."""

    name: str
    #: What strikes, in the full and in the short form.
    fault: Fault
    short_fault: Fault | None = None
    #: How often, and the least number of jobs, in the full and in the short form.
    runs: tuple[int, int]
    jobs: tuple[int, int]
    #: Promised bound of the 99th percentile of recovery, in seconds.
    within: float = 10.0
    #: Jobs sent a second.
    rate: float = 80.0
    side: Side = "ours"
    in_short: bool = False
    #: What the sheet calls the fault; its own name where empty.
    called: str = ""
    fsync: Fsync = "always"
    #: How many hours the clock of a worker's host is ahead, by worker.
    clocks: Mapping[str, int] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """What the fault does."""
        return " ".join((type(self.fault).__doc__ or "").split())

    def run(self, short: bool) -> list[Row]:
        """Strike, drain, count."""
        fault = self.short_fault if short and self.short_fault else self.fault
        with (
            Stand(
                side=self.side, networks=fault.needs_networks, clocks=self.clocks, fsync=self.fsync
            ) as stand,
            Load(stand, rate=self.rate) as load,
        ):
            load.reach(_WARM)
            blows = []
            for _ in range(self.runs[short]):
                fault.wait()
                blows.append(fault.strike(stand))
            self._await_all(stand, blows[-1])
            load.reach(max(self.jobs[short], len(load.accepted) + _WARM))
            load.stop()
            found = load.drain()
            return self._rows(stand, load, blows, found)

    def _await_all(self, stand: Stand, blow: Blow) -> None:
        """Keep the load up until each worker has ended a job after the last blow, or is late."""
        names = list(stand.workers)
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: math.inf not in resumptions(stand.read(), blow, names),
                self.within + 1,
                every=0.1,
            )

    def _rows(self, stand: Stand, load: Load, blows: Sequence[Blow], found: Audit) -> list[Row]:
        ours = self.side == "ours"
        rows = [
            self._row(
                "every accepted job ends",
                blows,
                f"lost {len(found.lost)} of {found.num_accepted:,}",
                not found.lost,
                lost=len(found.lost),
                jobs=found.num_accepted,
                **_run_times(stand),
            ),
            self._row(
                "no job gets stuck, and nothing is left behind",
                blows,
                f"stuck {len(found.stuck)}, left over {sum(found.residue.values())}",
                not found.stuck and not found.residue,
                stuck=len(found.stuck),
                residue=sum(found.residue.values()),
            ),
            self._row(
                "a job has one visible end",
                blows,
                f"double {len(found.doubled)} (begun again {found.num_run_again})",
                not found.doubled,
                doubled=len(found.doubled),
                run_again=found.num_run_again,
            ),
            self._failures(stand, blows, found),
            *self._recovery(stand, blows),
        ]
        if ours:
            rows += [self._callers(load, blows), self._submits(load, blows)]
        return rows

    def _failures(self, stand: Stand, blows: Sequence[Blow], found: Audit) -> Row:
        events = stand.read()
        struck = Counter(job for blow in blows for job in in_hand(events, blow))
        blame = {job: sum(struck[one] for one in {job, message_of(job)}) for job in found.failed}
        innocent = [job for job in found.failed if blame[job] < _GUILTY]
        others = len(found.failed) - len(innocent)
        also = f", and {others} that were struck twice" if others else ""
        errors = f": {stand.observer.errors.get(innocent[0], '')[:160]}" if innocent else ""
        return self._row(
            "no job fails, unless processes died under it twice",
            blows,
            f"failed {len(innocent)}{errors}{also}",
            not innocent,
            failed=len(innocent),
            struck_twice=others,
        )

    def _recovery(self, stand: Stand, blows: Sequence[Blow]) -> list[Row]:
        events, ended = stand.read(), stand.observer.states
        to_some = [blow for blow in blows if blow.is_personal]
        to_all = [blow for blow in blows if not blow.is_personal]
        rescued = [seconds for blow in to_some for seconds in rescues(events, blow, ended)]
        resumed = [
            seconds for blow in to_all for seconds in resumptions(events, blow, list(stand.workers))
        ]
        rows = []
        if to_some:
            what = "what a struck worker had in hand begins again"
            rows.append(self._seconds(what, to_some, rescued))
        if to_all:
            rows.append(self._seconds("each worker ends jobs again after it", to_all, resumed))
        return rows

    def _seconds(self, what: str, blows: Sequence[Blow], seconds: Sequence[float]) -> Row:
        p50, p99, most = (percentile(seconds, percent) for percent in (50, 99, 100))
        return self._row(
            f"{what} within {self.within:g} s (p99)",
            blows,
            f"p50 {_told(p50)}, p99 {_told(p99)}, max {_told(most)} of {len(seconds)}"
            if seconds
            else "nothing was in hand",
            not seconds or p99 < self.within,
            **({"p50": p50, "p99": p99, "max": most} if seconds else {}),
            count=len(seconds),
        )

    def _callers(self, load: Load, blows: Sequence[Blow]) -> Row:
        number = len(load.abandoned)
        example = f" ({load.abandoned[0].replace('_', ' ')[:80]})" if number else ""
        return self._row(
            "waiting callers get their answers",
            blows,
            f"sent away {number} of {number + load.num_answered}{example}",
            not number,
            abandoned=number,
            answered=load.num_answered,
        )

    def _submits(self, load: Load, blows: Sequence[Blow]) -> Row:
        refused = ", ".join(f"{count} {name}" for name, count in sorted(load.refused.items()))
        return self._row(
            f"a submit is accepted or refused within {SUBMIT_SECONDS:g} s",
            blows,
            f"longest {load.longest_submit:.2f} s, refused {refused or 'none'}",
            load.longest_submit < SUBMIT_SECONDS,
            longest=load.longest_submit,
            refused=load.refused.total(),
        )

    def _row(
        self, promise: str, blows: Sequence[Blow], figure: str, kept: bool, **details: Any
    ) -> Row:
        return Row(
            scenario=self.name,
            promise=promise,
            fault=self.called or self.fault.name,
            runs=len(blows),
            figure=figure,
            passed=kept if self.side == "ours" else None,
            details=details,
        )


def _run_times(stand: Stand) -> dict[str, float]:
    """Return what the jobs took at the worker, in milliseconds."""
    seconds = run_times(stand.read())
    percents = {"run_p50": 50, "run_p95": 95, "run_max": 100}
    return {name: percentile(seconds, percent) * 1e3 for name, percent in percents.items()}


def _told(seconds: float) -> str:
    """Say a time; one that did not come while it was waited for has no figure."""
    return f"{seconds:.2f} s" if math.isfinite(seconds) else "never"
