"""The promise sheet: what is promised, under which fault, how often tried, and what was seen."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where a run leaves its sheet; git ignores it.
OUT: Final = Path(__file__).parent / "out" / "sheet.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One promise under one fault."""

    #: The scenario that found it; rows of one scenario stand together.
    scenario: str
    promise: str
    fault: str
    #: How often the fault was done.
    runs: int
    #: What was seen, in words and units.
    figure: str
    #: Whether the promise was kept; None for a peer, who promised nothing.
    passed: bool | None
    #: The same in numbers, for whoever reads the JSON.
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """What one scenario found, and when and on what."""

    scenario: str
    #: What is done and why, in a sentence or two.
    about: str
    rows: tuple[Row, ...]
    seconds: float
    #: Whether it was run in its short form, which is for every day and not for the page.
    short: bool
    #: Date, commit and machine.
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(row.passed is not False for row in self.rows)


def write(chapter: Chapter, path: Path = OUT) -> None:
    """Write a chapter into the sheet, in the place of an older one of its scenario."""
    kept = [old for old in read(path) if old.scenario != chapter.scenario]
    path.parent.mkdir(parents=True, exist_ok=True)
    chapters = [asdict(one) for one in (*kept, chapter)]
    path.write_text(json.dumps(chapters, indent=1) + "\n")


def read(path: Path = OUT) -> list[Chapter]:
    """Return the chapters of a sheet; none where there is no file."""
    found = json.loads(path.read_text()) if path.exists() else []
    return [Chapter(**{**one, "rows": tuple(Row(**row) for row in one["rows"])}) for one in found]


def show(chapters: Sequence[Chapter], console: Console) -> None:
    """Print the sheet and its verdict."""
    table = Table(title="The promise sheet", title_justify="left", show_lines=False)
    for heading in ("promise", "fault"):
        table.add_column(heading)
    table.add_column("runs", justify="right")
    table.add_column("figure")
    table.add_column("")
    for chapter in chapters:
        for row in chapter.rows:
            table.add_row(row.promise, row.fault, str(row.runs), row.figure, _verdict(row))
        table.add_section()
    console.print(table)
    failed = [row for chapter in chapters for row in chapter.rows if row.passed is False]
    kept = sum(row.passed is True for chapter in chapters for row in chapter.rows)
    console.print(f"{kept} promises kept, {len(failed)} broken.", highlight=False)


def _verdict(row: Row) -> Text:
    match row.passed:
        case True:
            return Text("pass", "green")
        case False:
            return Text("FAIL", "bold red")
    return Text("peer", "dim")
