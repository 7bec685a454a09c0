"""Shows records as tables for a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.record import Record

_COLORS = {"met": "green", "near": "yellow", "missed": "red", None: ""}


def show(records: list[Record], console: Console) -> None:
    """Print one case: a row for each peer, number of threads, instruction set and metric."""
    first = records[0]
    table = Table(title=f"{first.operation}: {first.case.partition(', ')[2]}", title_justify="left")
    for heading in ("case", "metric", "peer", "threads", "simd"):
        table.add_column(heading)
    for heading in ("ours", "peer's", "ratio", "bar"):
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(*_cells(record))
    console.print(table)
    peers = dict.fromkeys(record.peer for record in records)
    console.print(f"  beside {', '.join(peers)}", style="dim", highlight=False, soft_wrap=True)
    for note in dict.fromkeys(note for record in records for note in record.notes):
        console.print(f"  * {note}", style="yellow", highlight=False)
    for error in dict.fromkeys(record.error for record in records if record.error):
        console.print(f"  error: {error}", style="bold red", highlight=False)


def _cells(record: Record) -> list[str | Text]:
    place: list[str | Text] = [
        record.case.partition(", ")[0],
        *(record.metric, record.peer.partition(" (")[0], str(record.threads), record.simd),
    ]
    if record.error:
        return [*place, "", "", Text("ERROR", "bold red"), ""]
    bar = "" if record.bar is None else f"{record.bar:g} {record.verdict}"
    return [
        *place,
        amount(record.ours, record.unit),
        amount(record.peer_value, record.unit),
        Text(f"{record.ratio:.2f}{'*' * bool(record.notes)}", "bold"),
        Text(bar, _COLORS[record.verdict]),
    ]


def amount(value: float | None, unit: str) -> str:
    """Return a value to three figures with its unit, a time in the unit that fits it."""
    if value is None:
        return ""
    if unit == "ms" and not 1 <= value < 1_000:
        value, unit = (value * 1e3, "us") if value < 1 else (value / 1e3, "s")
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def summarize(records: list[Record], console: Console) -> None:
    """Print what was missed and what went wrong, or that there is neither."""
    errors = [record for record in records if record.error]
    short = [record for record in records if record.verdict in ("near", "missed")]
    met = sum(record.verdict == "met" for record in records)
    console.print(f"\n{met} bars met, {len(short)} missed, {len(errors)} rows with errors.")
    for record in short:
        least = " (less than the spread)" if record.verdict == "near" else ""
        threads = f"{record.threads} thread{'s' * (record.threads > 1)}"
        where = f"{record.operation}, {record.case}, {threads}, {record.peer}"
        said = f"  missed: {where}: {record.ratio:.2f}, expected {record.bar:g}{least}"
        console.print(said, style=_COLORS[record.verdict], highlight=False, soft_wrap=True)
    for record in errors:
        said = f"  error: {record.operation}, {record.case}, {record.peer}: {record.error}"
        console.print(said, style="bold red", highlight=False, soft_wrap=True)
