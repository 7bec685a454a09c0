"""Recompute the golden tables with the libraries they came from, and compare, or write them.

    python -m tests.oracles [--write] [TABLE ...]

Without names: all tables. Ends with status 1 where a table is missing, is no longer asked for, or
differs from what its oracle answers today. docs/oracles.md says what each oracle vouches for.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from tests.oracles.table import EXACT, GOLDEN, Table, difference, tables


def main() -> int:
    """Do what the command line asks for and return the status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.oracles", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="write what the oracles answer")
    parser.add_argument("names", nargs="*", metavar="TABLE", help="tables; all by default")
    arguments = parser.parse_args()
    known = {table.name: table for table in tables()}
    unknown = sorted(set(arguments.names) - known.keys())
    if unknown:
        parser.error(f"TABLE: {unknown[0]}, expected one of {', '.join(known)}")
    complaints = [] if arguments.names else _strays(known)
    for name in arguments.names or known:
        complaints += _write(known[name]) if arguments.write else _compare(known[name])
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


def _strays(known: Mapping[str, Table]) -> list[str]:
    found = sorted(path.stem for path in GOLDEN.glob("*.json"))
    return [f"{name}: a file without a table, expected none" for name in found if name not in known]


def _write(table: Table) -> list[str]:
    computed = table.compute()
    table.write(computed)
    print(f"{table.name}: wrote {len(computed['cases'])} cases, {table.path.stat().st_size} bytes")
    return []


def _compare(table: Table) -> list[str]:
    if not table.path.exists():
        return [f"{table.name}: no such file, expected one; write it with --write"]
    computed, committed = table.compute(), table.read()
    complaints, largest = [], 0.0
    for name in sorted(computed["cases"].keys() | committed["cases"].keys()):
        one, other = (part["cases"].get(name, {}) for part in (computed, committed))
        if {**one, "answer": 0} != {**other, "answer": 0}:
            complaints.append(f"{table.name}: {name} asks for something else than the committed")
            continue
        wrong, furthest = _compare_answers(table, one["answer"], other["answer"])
        largest = max(largest, furthest)
        complaints += [f"{table.name}: {name}: {field} differs" for field in wrong]
    print(f"{table.name}: {len(computed['cases'])} cases, largest difference {largest:.1e}", end="")
    print(_versions(computed["oracle"], committed["oracle"]))
    return complaints


def _compare_answers(
    table: Table, computed: Mapping[str, Any], committed: Mapping[str, Any]
) -> tuple[list[str], float]:
    wrong, largest = sorted(computed.keys() ^ committed.keys()), 0.0
    for field in sorted(computed.keys() & committed.keys()):
        tolerance = table.rerun_within if field in table.within else EXACT
        agrees, furthest = difference(computed[field], committed[field], tolerance)
        largest = max(largest, furthest)
        if not agrees:
            wrong.append(field)
    return wrong, largest


def _versions(computed: Mapping[str, str], committed: Mapping[str, str]) -> str:
    if not computed:
        return ", published values"
    return "".join(
        f", {name} {version}" + (f" (was {was})" if (was := committed.get(name)) != version else "")
        for name, version in computed.items()
    )


if __name__ == "__main__":
    sys.exit(main())
