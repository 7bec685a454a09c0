"""The command line of the benchmarks: `python -m benchmarks [family ...]`."""

import argparse
import sys

from rich.console import Console

from benchmarks import record, table
from benchmarks.run import run_family
from contract.families import FAMILIES
from native_c.extension import supported_simd


def main(arguments: list[str] | None = None) -> int:
    """Verify, time, print and write; return 1 where anything could not be verified or timed."""
    options = _parser().parse_args(arguments)
    # In a log a row stays a row.
    console = Console(width=None if sys.stdout.isatty() else 140)
    everything = []
    for family in options.family or FAMILIES:
        found = []
        for records in run_family(family, options.case, options.simd, options.quick):
            table.show(records, console)
            found += records
        if found:
            path = record.OUT / f"{family}.json"
            record.write(path, found, keep=bool(options.case))
            console.print(f"{len(found)} records in {path}", highlight=False)
        everything += found
    if not everything:
        console.print(f"--case: no case contains {options.case!r}", style="bold red")
        return 1
    table.summarize(everything, console)
    return exit_status(everything, options.strict)


def exit_status(records: list[record.Record], strict: bool) -> int:
    """Return 1 for an error in any row and, if `strict`, for a missed bar; else 0."""
    is_missed = strict and any(row.verdict == "missed" for row in records)
    return int(is_missed or any(row.error for row in records))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Verify, then time.")
    parser.add_argument(
        "family",
        nargs="*",
        type=_family,
        help=f"some of {', '.join(FAMILIES)}; default: all",
    )
    parser.add_argument("--case", default="", help="only cases with this in operation or name")
    parser.add_argument(
        "--simd",
        type=_levels,
        default=(),
        help="instruction sets for ours, such as portable,avx2,avx512; default: the best",
    )
    parser.add_argument("--quick", action="store_true", help="less time a figure: for a look")
    parser.add_argument("--strict", action="store_true", help="a missed bar is an error too")
    return parser


def _family(text: str) -> str:
    if text not in FAMILIES:
        raise argparse.ArgumentTypeError(f"{text!r}, expected one of {', '.join(FAMILIES)}")
    return text


def _levels(text: str) -> tuple[str, ...]:
    levels = tuple(text.split(",")) if text else ()
    legal = supported_simd()
    for level in levels:
        if level not in legal:
            raise argparse.ArgumentTypeError(f"{level!r}, expected some of {', '.join(legal)}")
    return levels


if __name__ == "__main__":
    sys.exit(main())
