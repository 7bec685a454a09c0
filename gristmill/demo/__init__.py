"""The demo: a private server, a real worker and all four families at work on real data."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from contract.errors import GristmillError
from gristmill.console import console as make_console
from gristmill.demo.interrupts import Interrupts
from gristmill.server import ServerError
from gristmill.stack import StackError
from native_c.errors import NativeError

if TYPE_CHECKING:
    from gristmill.demo.chapter import Size

#: Exit status of a process that Ctrl-C ended, by the custom of shells.
INTERRUPTED: Final = 130


class DemoError(RuntimeError):
    """Raised when the demo cannot begin here."""


def run(directory: Path, size: "Size | None" = None) -> None:
    """Run the demo and write its report into `directory`.

    Ends in SystemExit with status 1 and the reason on standard error where anything fails, and with
    status 130 after Ctrl-C or SIGTERM; server and worker are gone by then.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ñ shows a question mark
    console = make_console()
    try:
        with Interrupts() as interrupts:
            _run(console, directory, size, interrupts)
    except KeyboardInterrupt:
        console.print("\nStopped. The server and its worker are gone.")
        raise SystemExit(INTERRUPTED) from None
    except (DemoError, GristmillError, NativeError, OSError, ServerError, StackError) as error:
        Console(stderr=True, soft_wrap=True).print(f"demo: {error}", markup=False, highlight=False)
        raise SystemExit(1) from error


def _run(console: Console, directory: Path, size: "Size | None", interrupts: Interrupts) -> None:
    _check(directory)
    from gristmill.demo import report, story
    from gristmill.demo.mill import Mill

    started = time.perf_counter()
    _say(console, "Starting a private server and a worker ...")
    with Mill(console, check=interrupts.check) as mill, _matplotlib_in(mill.directory):
        machine = story.machine(mill)
        _say(console, machine)
        chapters = story.tell(mill, console, size)
        accounts = story.accounts_table(mill.accounts)
        steps = story.next_steps()
        _say(console, "Drawing the report ...")
        told = report.Report(
            chapters=chapters,
            accounts=accounts,
            machine=machine,
            answer=story.answer(chapters),
            next_steps=steps,
        )
        page = report.write(directory, told)
    story.show_table(console, accounts)
    _say(console, f"  {report.LEGEND}")
    story.show_warnings(console, mill.accounts)
    _say(console, f"Done in {time.perf_counter() - started:.0f} s. Server and worker are gone.")
    # On a line of its own and never cut: people and scripts copy it.
    console.print("\nReport:", style="bold")
    console.print(f"  {page}", soft_wrap=True, markup=False, highlight=False)
    story.show_next_steps(console, steps)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _check(directory: Path) -> None:
    """Refuse to begin what cannot end in a report."""
    if find_spec("matplotlib") is None:
        raise DemoError("matplotlib: not installed, expected `pip install 'gristmill[plot]'`")
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise DemoError(f"report: {there} is not writable, expected a directory that is")


@contextmanager
def _matplotlib_in(directory: Path) -> Iterator[None]:
    """Keep matplotlib's cache of fonts in `directory`: home may be read-only, and is not ours."""
    variable = "MPLCONFIGDIR"
    given = os.environ.get(variable)
    os.environ.setdefault(variable, str(directory))
    try:
        yield
    finally:
        if given is None:
            del os.environ[variable]
