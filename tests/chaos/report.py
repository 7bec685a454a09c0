"""Turns the sheet of a full run into docs/guarantees.md: no figure is typed."""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.chaos import sheet
from tests.chaos.catalogue import SCENARIOS
from tests.chaos.sheet import Chapter, Row

_DOCS: Final = Path(__file__).parents[2] / "docs"

#: The page, and the sheet that it was made of.
PAGE: Final = _DOCS / "guarantees.md"
KEPT: Final = _DOCS / "guarantees.json"

#: The scenarios of the headline, whose jobs and kills are counted together, and the peer's.
HEADLINE: Final = ("parent", "child", "server", "network")
PEER: Final = "stock"

_INTRODUCTION: Final = """\
# Guarantees

Every accepted job ends in one state that its caller sees, whatever happens to workers, server and
network. This page says what that means, fault by fault, and what was seen. Every figure was
written by `make chaos chaos-report`, which runs on any machine that has `redis-server`: a server
of its own with `appendfsync always`, two supervised workers of two processes each, and producers
that keep sending a mix of all four families, short jobs, long ones and chains. A submit that
returned counts as accepted. Producers log the ids that were accepted, workers each start and end;
both logs are append-only, and the results are read from Redis. The server is killed with SIGKILL.

| word | means |
|---|---|
| lost | a job without an end that is nowhere at the server either: its caller would wait for ever |
| stuck | a job without an end that lies at the server, where nobody moves it any more |
| left over | entries in queues and records of what workers hold, after the last job has ended |
| double | a job whose end became visible twice, or changed after it was first seen |
| begun again | a job that was begun more than once, which late acknowledgement costs |
"""

_LIMITS: Final = """\
## What is not promised

- A job that was begun may be begun again. What a task of your own does outside its result must
  bear that, or look at an idempotency key of its own.
- With `appendfsync everysec`, Redis's default, a crash of the server's host loses the last 1.5 s or
  so of accepted jobs and of results; a crash of the server alone loses nothing. Without an
  append-only file a restart loses everything.
- A submit that raised `BrokerUnavailable` may have been accepted, if the broker fell silent in
  that very moment. An idempotency key makes it safe to submit again.
"""


def main() -> int:
    """Write the page from the last sheet, and keep the sheet beside it."""
    found = {chapter.scenario: chapter for chapter in sheet.read()}
    if not found:
        print(f"tests.chaos.report: {sheet.OUT} is missing, expected after `make chaos`")
        return 1
    chapters = [found[one.name] for one in SCENARIOS if one.name in found]
    for chapter in chapters:
        if chapter.short:
            print(f"tests.chaos.report: {chapter.scenario} was run in its short form")
    PAGE.write_text("\n".join(page(chapters)))
    shutil.copyfile(sheet.OUT, KEPT)
    print(f"{PAGE} written")
    return 0


def page(chapters: list[Chapter]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield _INTRODUCTION
    by_name = {chapter.scenario: chapter for chapter in chapters}
    yield "## In short\n"
    yield from _headline(by_name)
    missing = [one.name for one in SCENARIOS if one.name not in by_name]
    if missing:
        yield f"Not in this run: {', '.join(missing)}.\n"
    broken = [row for chapter in chapters for row in chapter.rows if row.passed is False]
    if broken:
        yield f"Not kept in this run ({len(broken)}):\n"
        yield from _table(
            ("promise", "fault", "runs", "seen"),
            ((row.promise, row.fault, row.runs, row.figure) for row in broken),
        )
    yield _LIMITS
    yield "## Fault by fault\n"
    for chapter in chapters:
        if chapter.scenario != PEER:
            yield from _chapter(chapter)
    if PEER in by_name:
        yield from _peer(by_name[PEER], by_name.get("parent"))


def _headline(chapters: Mapping[str, Chapter]) -> Iterator[str]:
    parts = [chapters[name] for name in HEADLINE if name in chapters]
    names = {"parent": "parent kills", "child": "child kills"}
    names |= {"server": "Redis kills", "network": "network cuts"}
    struck = ", ".join(f"{part.rows[0].runs} {names[part.scenario]}" for part in parts)
    sums = {
        key: int(sum(row.details.get(key, 0) for part in parts for row in part.rows))
        for key in ("jobs", "lost", "stuck", "doubled")
    }
    yield (
        f"{struck}, under load, over {sums['jobs']:,} jobs: **lost {sums['lost']}, "
        f"stuck {sums['stuck']}, double {sums['doubled']}**.\n"
    )
    rows = [
        (names[part.scenario], row.promise, row.figure)
        for part in parts
        for row in part.rows
        if "p99" in row.details
    ]
    yield from _table(("fault", "recovery", "seen"), rows)


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f"### {chapter.rows[0].fault[0].upper()}{chapter.rows[0].fault[1:]}\n"
    yield f"{chapter.about}\n"
    yield from _table(
        ("promise", "fault", "runs", "seen", "kept"), (_cells(row) for row in chapter.rows)
    )
    yield from _made(chapter)


def _peer(chapter: Chapter, ours: Chapter | None) -> Iterator[str]:
    yield "## The same kills on stock Celery\n"
    yield (
        "The same jobs as plain Celery tasks on Celery's own Redis transport, with the settings "
        "that its documentation gives for tasks that must not get lost: `acks_late`, "
        "`reject_on_worker_lost`, and a visibility timeout of 10 s with a sweep every second, "
        "where the default is an hour. It is struck as above.\n"
    )
    beside = {row.promise: row.figure for row in ours.rows} if ours else {}
    runs = f"{chapter.rows[0].runs} kills"
    our_runs = f"{ours.rows[0].runs} kills" if ours else ""
    yield from _table(
        ("", f"stock, {runs}", f"Gristmill, {our_runs}"),
        ((row.promise, row.figure, beside.get(row.promise, "")) for row in chapter.rows),
    )
    yield from _made(chapter)


def _made(chapter: Chapter) -> Iterator[str]:
    load = chapter.rows[0].details
    took = ""
    if "run_p50" in load:
        took = (
            f" A job took {load['run_p50']:.1f} ms at its worker at the median, "
            f"{load['run_p95']:.0f} ms at the 95th percentile, {load['run_max']:.0f} ms at most."
        )
    made = chapter.made
    short = ", the short form" if chapter.short else ""
    yield (
        f"`make chaos SCENARIO={chapter.scenario}`, {chapter.seconds:.0f} s{short}, "
        f"{made.get('date')}, commit {made.get('commit')}, {made.get('machine')}.{took}\n"
    )


def _cells(row: Row) -> tuple[object, ...]:
    return row.promise, row.fault, row.runs, row.figure, "yes" if row.passed else "**no**"


def _table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(list(headings))}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
