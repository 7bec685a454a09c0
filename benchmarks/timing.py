"""Times calls beside each other: warmed up, in turns, in samples long enough for the clock."""

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import quantiles

from benchmarks.case import Call
from benchmarks.record import Clock, Figure

#: A sample lasts at least this long: 20,000 times the 50 ns that reading the clock costs.
SAMPLE_SECONDS = 1e-3

#: A call up to this long is made once untimed before each sample, which takes the caches back from
#: the one before; a longer one fills them by itself.
REWARM_SECONDS = 0.02

#: A sample is disturbed if its threads waited for a core for more than this part of it.
_MOST_WAITING = 0.05

_TASKS = Path("/proc/self/task")

#: Pause before a sample where several threads work: OpenMP and BLAS threads spin for some
#: milliseconds after their last job, on the cores of the next contestant.
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """How long to measure: whole rounds until `seconds` are over, at least `rounds` of them."""

    threads: int = 1
    seconds: float = 2.0
    rounds: int = 5
    most: int = 300


#: For a look: figures may be off by a quarter.
QUICK = Plan(seconds=0.1, rounds=2, most=20)


@dataclass(frozen=True)
class Sample:
    """Seconds of one call, by the wall clock and of processors, and whether interrupted."""

    wall: float
    processor: float
    disturbed: bool


def interleave(
    calls: Mapping[str, Call], plan: Plan, before: Callable[[str], object] = lambda name: None
) -> dict[str, Figure]:
    """Return the figure of each call, in milliseconds, from rounds in which each has its turn.

    What drifts (clocks, heat, neighbours) so meets all of them alike, and each round begins with
    another one. `before` is told whose turn it is.
    """
    repeats = {}
    for name, call in calls.items():
        before(name)
        repeats[name] = _calibrate(call)
    samples: dict[str, list[Sample]] = {name: [] for name in calls}
    names, end = list(calls), time.perf_counter() + plan.seconds
    gc.collect()
    gc.disable()
    try:
        for turn in count():
            if turn >= plan.most or (turn >= plan.rounds and time.perf_counter() > end):
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                before(name)
                time.sleep(SETTLE_SECONDS if plan.threads > 1 else 0.0)
                samples[name].append(_sample(calls[name], *repeats[name]))
    finally:
        gc.enable()
    return {name: summarize(taken, plan.threads == 1) for name, taken in samples.items()}


def summarize(samples: list[Sample], one_thread: bool) -> Figure:
    """Return median and quartiles, in milliseconds.

    A sample whose threads waited for a core measures the neighbours, and long calls and those of
    several threads meet that more often than short ones, which would flatter the faster side. So
    where enough samples were left alone, they alone count. Where not, the processor's time does,
    which stops meanwhile; and with several threads, which no such clock covers, the least sample.
    """
    alone = [sample for sample in samples if not sample.disturbed]
    is_quiet = len(alone) >= min(5, (len(samples) + 1) // 2)
    clock: Clock = "wall" if is_quiet else "processor" if one_thread else "least"
    kept = alone if is_quiet else samples
    times = [min(s.wall, s.processor) if clock == "processor" else s.wall for s in kept]
    low, middle, high = _quartiles([seconds * 1e3 for seconds in times])
    if clock == "least":
        low, middle, high = min(times) * 1e3, min(times) * 1e3, middle
    cores = sum(sample.processor for sample in kept) / sum(sample.wall for sample in kept)
    return Figure(value=middle, low=low, high=high, cores=cores, clock=clock)


def _quartiles(times: list[float]) -> list[float]:
    return quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3


def _calibrate(call: Call) -> tuple[int, bool]:
    """Warm a call up; return how often a sample makes it, and whether to make it once before."""
    call()
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first > REWARM_SECONDS:
        return 1, False
    seconds = min([first, *(_sample(call, 1, False).wall for _ in range(3))])
    return max(1, round(SAMPLE_SECONDS / max(seconds, 1e-8))), True


def _sample(call: Call, repeats: int, rewarm: bool) -> Sample:
    if rewarm:
        call()
    waited = _waited()
    processor, start = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    wall, processor = time.perf_counter() - start, time.process_time() - processor
    disturbed = _waited() - waited > _MOST_WAITING * wall
    return Sample(wall / repeats, processor / repeats, disturbed)


def _waited() -> float:
    """Return for how many seconds our threads were ready and had no core; 0 outside Linux.

    The second number of schedstat: proc(5), and sched-stats.rst of the kernel.
    """
    waited = 0
    for thread in _TASKS.iterdir() if _TASKS.exists() else ():
        with suppress(OSError):  # the thread has ended
            waited += int((thread / "schedstat").read_text().split()[1])
    return waited / 1e9
