"""The command line of the suite: `python -m tests.chaos [scenario ...] [--short]`."""

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from datetime import UTC, datetime

from rich.console import Console

from tests.chaos import sheet
from tests.chaos.catalogue import SCENARIOS
from tests.chaos.scenario import Scenario
from tests.chaos.stand import commit


def main(arguments: list[str] | None = None) -> int:
    """Run scenarios, print the sheet and write it; return 1 where a promise was broken."""
    options = _parser().parse_args(arguments)
    # A word to stop unwinds the stand, so that nothing is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    console = Console(width=None if sys.stdout.isatty() else 170)
    every = [one for one in SCENARIOS if one.in_short or not options.short]
    chosen = [one for one in SCENARIOS if one.name in options.scenario] or every
    chapters = []
    for scenario in chosen:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {scenario.name}: {scenario.about}")
        chapter = _run(scenario, options.short)
        sheet.write(chapter)
        sheet.show([chapter], console)
        chapters.append(chapter)
    if len(chapters) > 1:
        sheet.show(chapters, console)
    return int(not all(chapter.passed for chapter in chapters))


def _run(scenario: Scenario, short: bool) -> sheet.Chapter:
    began = time.monotonic()
    try:
        rows = scenario.run(short)
    except Exception as error:
        # One scenario that cannot be finished is a broken promise, and no reason to stop.
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"[:300]
        rows = [
            sheet.Row(
                scenario=scenario.name,
                promise="the scenario comes to its end",
                fault=scenario.name,
                runs=1,
                figure=said,
                passed=False,
            )
        ]
    return sheet.Chapter(
        scenario=scenario.name,
        about=scenario.about,
        rows=tuple(rows),
        seconds=round(time.monotonic() - began, 1),
        short=short,
        made={
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            "commit": commit(),
            "machine": _machine(),
        },
    )


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[1]
    return (
        f"{cores} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"load of the host at the end {load:.1f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.chaos", description="Break it, then count.")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument(
        "scenario", nargs="*", choices=[*names, []], help=f"of {', '.join(names)}; default: all"
    )
    parser.add_argument("--short", action="store_true", help="few runs: for every day")
    return parser


if __name__ == "__main__":
    sys.exit(main())
