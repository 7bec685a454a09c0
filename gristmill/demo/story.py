"""The course of the demo: its chapters in order, and what is shown of them in the terminal."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

import native_c
from gristmill.demo import analytics, fusion, mcts, optimization, series
from gristmill.demo.chapter import FULL, Chapter, Size, Table
from gristmill.demo.mill import Account, Mill

#: Jobs with the same warning that are named; the others are counted.
NUM_NAMED: Final = 3


def machine(mill: Mill) -> str:
    """Say what the demo runs on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the reason is told here
        made = native_c.info()
    if made["backend"] == "compiled":
        kernels = f"compiled C ({made['simd']}, {made['compiler']})"
    else:
        reason = made["fallback_reason"] or "asked for by NATIVE_C_BACKEND"
        kernels = f"the NumPy fallback: {reason}"
    binary = mill.server.binary
    version = ".".join(map(str, binary.version))
    processes = f"{mill.num_workers} process{'es' * (mill.num_workers > 1)}"
    return (
        f"Queue: {binary.name} {version}, private. Worker: Celery with {processes}. "
        f"Kernels: {kernels}."
    )


def tell(mill: Mill, console: Console, size: Size | None) -> list[Chapter]:
    """Run the chapters one after the other, show what each found, and return them."""
    data, extent = series.load(), size or FULL
    chapters = []
    for family in (analytics, fusion, optimization, mcts):
        console.print(f"\n{family.QUESTION}", style="bold", markup=False, highlight=False)
        console.print(f"  {family.OPERATION.name}", style="cyan", markup=False, highlight=False)
        chapters.append(family.tell(mill, data, extent))
        _show(console, chapters[-1])
    console.print()
    return chapters


def _show(console: Console, chapter: Chapter) -> None:
    findings = RichTable.grid(padding=(0, 1, 0, 0))
    for finding in chapter.findings:
        findings.add_row("  -", Text(finding))
    console.print(findings)
    show_table(console, chapter.table)


def show_table(console: Console, table: Table) -> None:
    """Print a table, its words to the left and its numbers to the right."""
    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print(f"\n  {table.title}", style="italic", highlight=False)
    console.print(Padding(shown, (0, 0, 0, 2), expand=False))


def accounts_table(accounts: Mapping[str, Account]) -> Table:
    """Return how the jobs of each operation were computed, and what they cost."""
    rows = tuple(
        (
            name.partition(".")[2],
            f"{account.num_jobs:,}",
            account.how,
            f"{account.kernel_seconds * 1e3:,.0f} ms",
            f"{account.median_wait * 1e3:,.0f} ms",
            f"{account.jobs_per_second:,.0f}",
        )
        for name, account in accounts.items()
    )
    columns = ("operation", "jobs", "computed by", "kernels", "queue", "jobs/s")
    return Table(title="The jobs", columns=columns, rows=rows)


def answer(chapters: Sequence[Chapter]) -> str:
    """Return what the chapters say together about CO2."""
    _, ties, _, models = (chapter.findings for chapter in chapters)
    return " ".join((*ties, models[0]))


def show_warnings(console: Console, accounts: Mapping[str, Account]) -> None:
    """Print what answers warned of: such as a year without a single sunspot, which has no skew."""
    for name, account in accounts.items():
        for warning, jobs in account.warnings.items():
            console.print(f"  {name} of {_few(jobs)}: {warning}", markup=False, highlight=False)


def _few(jobs: Sequence[str]) -> str:
    """Name some jobs, or count them where they have no names."""
    named = [name for name in jobs if name][:NUM_NAMED]
    rest = len(jobs) - len(named)
    if not named:
        return "1 job" if rest == 1 else f"{rest:,} jobs"
    return ", ".join(named) + (f" and {rest:,} more" if rest else "")


def next_steps() -> list[tuple[str, str]]:
    """Return commands that exist here, each with what it does."""
    python = _python()
    gristmill = f"{python} -m gristmill"
    steps = [
        (f"{gristmill} up", "a server, a worker and Flower, to send jobs to and to watch"),
        (
            (
                f'{python} -c "from producers import analytics; '
                'print(analytics.basic_statistics([1, 2, 4, 8]).to_dict())"'
            ),
            "a job of your own, in another terminal, with the GRISTMILL_URL that `up` prints",
        ),
        (
            f"{gristmill} schema",
            "every operation; with its name, the fields of its request and result",
        ),
        (f"{gristmill} doctor", "what this machine and the server lack, and what to do about it"),
        (f"NATIVE_C_BACKEND=fallback {gristmill} demo", "the same on NumPy alone"),
    ]
    if Path("Makefile").is_file():
        steps.append(("make help", "tests, benchmarks and the rest"))
    return steps


def _python() -> str:
    """Return this interpreter as a person would type it here."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def show_next_steps(console: Console, steps: Sequence[tuple[str, str]]) -> None:
    """Print the commands to try next."""
    console.print("\nWhat to try next:", style="bold")
    for command, what in steps:
        console.print(f"  {command}", style="cyan", soft_wrap=True, markup=False, highlight=False)
        console.print(Padding(Text(what), (0, 0, 0, 6), expand=False))
