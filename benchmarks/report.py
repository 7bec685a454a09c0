"""Turns the records of a full run into docs/benchmarks.md and its plots: no figure is typed."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks import record as records_of
from benchmarks import timing
from benchmarks.case import Case, cases_of
from benchmarks.record import Record
from benchmarks.table import amount
from contract.families import FAMILIES

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

_INTRODUCTION = f"""\
# Benchmarks

Every figure here was written by `make bench bench-report`, which runs on any machine. Each answer
was first compared with an oracle that is not ours, and each peer's answer with ours; then all took
turns in one process, in samples of at least {timing.SAMPLE_SECONDS * 1e3:g} ms. A figure is the
median of the samples with the farther of their quartiles; the ratio is the peer's median over ours:
above 1, ours is faster. Ours is the facade as Python calls it, its checks and allocations included,
without the queue. What a call names and does not show stands in `benchmarks/`.

A star: the machine was busy, so that most samples had to wait for a core. On one thread the
processor's time then stands for the clock's, on several the least sample for the median.
"""


class Unreportable(Exception):
    """Raised when the records are no full, good run of all cases."""


def main() -> int:
    """Write the page, or say what is missing."""
    try:
        found = {family: load(family) for family in FAMILIES}
    except Unreportable as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 1
    PAGE.write_text("\n".join(page(found)))
    print(f"{PAGE} written")
    return 0


def load(family: str) -> list[Record]:
    """Return a family's records; raise Unreportable where they are no full run without errors."""
    path = records_of.OUT / f"{family}.json"
    found = records_of.read(path)
    for record in found:
        name = f"{record.operation}, {record.case}, {record.peer}"
        if record.error:
            raise Unreportable(f"{name}: {record.error}")
        if record.quick:
            raise Unreportable(f"{name}: measured with QUICK=1, expected a full run")
    for case in cases_of(family):
        for name in _missing(case, found):
            raise Unreportable(f"{name}: not in {path}, expected after `make bench`")
    expected = {(case.operation, case.title(n)) for case in cases_of(family) for n in case.sizes}
    for record in found:
        if (record.operation, record.case) not in expected:
            name = f"{record.operation}, {record.case}"
            raise Unreportable(f"{name}: in {path}, expected a case that there is")
    return found


def _missing(case: Case, found: list[Record]) -> Iterator[str]:
    """Yield what a full run of a case has and these records have not: rows, bars, metrics."""
    records = [record for record in found if record.operation == case.operation]
    for size in case.sizes:
        name = f"{case.operation}, {case.title(size)}"
        here = [record for record in records if record.case == case.title(size)]
        for peer in case.peers:
            rows = [r for r in here if r.metric == "time" and r.peer.startswith(f"{peer.name} (")]
            threads = {record.threads for record in rows}
            if 1 not in threads:
                yield f"{name}, {peer.name}, 1 thread"
            if threads == {1} and rows[0].machine["cores"] > 1:
                yield f"{name}, {peer.name}, all cores"
            bar = peer.bars.get(size)
            if bar is not None and bar not in [record.bar for record in rows]:
                yield f"{name}, {peer.name}, the bar of {bar:g}"
        if case.grows and not any(record.metric == "time per element" for record in here):
            yield f"{name}, time per element"
    largest = case.title(max(case.sizes))
    if case.grows and not any(
        record.metric == "peak extra memory" and record.case == largest for record in records
    ):
        yield f"{case.operation}, {largest}, peak extra memory"


def page(found: dict[str, list[Record]]) -> Iterator[str]:
    """Yield the lines of the page."""
    everything = [record for records in found.values() for record in records]
    yield _INTRODUCTION
    yield from _machines(everything)
    yield from _bars(everything)
    for family, records in found.items():
        yield f"## {family}\n"
        for case in cases_of(family):
            titles = {case.title(size) for size in case.sizes}
            yield from _case(case, [r for r in records if _is_of(r, case.operation, titles)])


def _is_of(record: Record, operation: str, titles: set[str]) -> bool:
    return record.operation == operation and record.case in titles


def _machines(everything: Iterable[Record]) -> Iterator[str]:
    rows = dict.fromkeys(
        (family, *(record.machine[name] for name in _MACHINE))
        for family, records in groupby(everything, key=lambda r: r.operation.partition(".")[0])
        for record in records
    )
    yield from _table(["family", *_MACHINE.values()], map(list, rows))


_MACHINE = {
    "date": "measured on",
    "processor": "processor",
    "cores": "cores",
    "memory_gb": "memory, GB",
    "system": "system",
    "python": "Python",
    "compiler": "compiler",
    "load": "load at start",
}


def _bars(everything: list[Record]) -> Iterator[str]:
    yield "## Bars\n"
    rows = [
        [
            f"{record.operation}, {record.case}",
            str(record.threads),
            record.peer,
            _ratio(record),
            f"{record.bar:g}",
            f"**{record.verdict}**" if record.verdict != "met" else "met",
        ]
        for record in everything
        if record.bar is not None
    ]
    met = sum(record.verdict == "met" for record in everything)
    yield f"{met} of {len(rows)} are met; near is missed by less than the spread of the samples.\n"
    yield from _table(["what", "threads", "peer", "ratio", "bar", ""], rows)


def _case(case: Case, records: list[Record]) -> Iterator[str]:
    yield f"### {case.operation}: {case.name}\n"
    if case.note:
        yield f"{case.note}\n"
    times = [record for record in records if record.metric == "time"]
    best = records[-1].simd if case.grows else times[-1].simd
    if case.grows:
        plot = PAGE.parent / "benchmarks" / f"{_slug(f'{case.operation} {case.name}')}.svg"
        _draw([record for record in times if record.simd == best], case, plot)
        yield f"![time against size, ours and each peer]({plot.relative_to(PAGE.parent)})\n"
    yield from _times(case, times)
    if case.grows:
        yield from _growth_and_memory(records)
    yield from _calls(times)


def _draw(times: list[Record], case: Case, plot: Path) -> None:
    from benchmarks.plots import draw  # matplotlib is needed here alone

    draw(times, case.unit, plot)


def _times(case: Case, times: list[Record]) -> Iterator[str]:
    has_levels = len({record.simd for record in times}) > 1
    headings = [case.unit, "threads", *(["simd"] if has_levels else []), "peer"]
    rows = [
        [
            f"{record.size:,}",
            str(record.threads),
            *([record.simd] if has_levels else []),
            record.peer,
            _figure(record.ours, record.ours_spread),
            _figure(record.peer_value, record.peer_spread),
            _ratio(record),
        ]
        for record in times
    ]
    yield from _table([*headings, "ours", "peer's", "ratio"], rows)


def _growth_and_memory(records: list[Record]) -> Iterator[str]:
    yield "Growth and memory, on one thread, beside the fastest peer:\n"
    rows = [
        [
            f"{record.metric}, {record.case.partition(', ')[0]}",
            amount(record.ours, record.unit),
            amount(record.peer_value, record.unit),
            record.peer,
        ]
        for record in records
        if record.metric != "time"
    ]
    yield from _table(["", "ours", "peer's", "peer"], rows)


def _calls(times: list[Record]) -> Iterator[str]:
    yield "<details><summary>The calls that were timed</summary>\n"
    yield "```python"
    yield f"# ours\n{times[0].ours_call}"
    for record in {record.peer: record for record in times}.values():
        setup = f"{record.peer_setup}\n" if record.peer_setup else ""
        last = "; the last line is timed" if record.peer_setup else ""
        yield f"\n# {record.peer}{last}"
        yield f"{setup}{record.peer_call}"
    yield "```\n\n</details>\n"


def _ratio(record: Record) -> str:
    return f"{record.ratio:.2f}{'*' * bool(record.notes)}"


def _figure(milliseconds: float | None, spread: tuple[float, float] | None) -> str:
    """Return a time with the greater distance of its quartiles, in percent."""
    if milliseconds is None or spread is None:
        return ""
    farther = max(spread[1] - milliseconds, milliseconds - spread[0]) / milliseconds
    return f"{amount(milliseconds, 'ms')} ±{'over ' * (farther > 1)}{min(farther, 1.0):.0%}"


def _table(headings: list[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
