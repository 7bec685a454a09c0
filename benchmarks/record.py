"""A record: one figure of ours beside one peer's, as the JSON files and the report hold it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

#: Where the records of each family lie, in <family>.json.
OUT = Path(__file__).parent / "out"

#: How a ratio stands to its bar: `near` is missed, but by less than the spread of the two figures.
Verdict = Literal["met", "near", "missed"]

#: What a figure is: the median of the wall clock or, on a busy machine, of the processor's time, or
#: the least sample of the wall clock.
Clock = Literal["wall", "processor", "least"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The median of one contestant's samples, and what tells how far to trust it."""

    #: Median of the samples, and the quartiles around it.
    value: float
    low: float
    high: float
    #: Processor seconds per second of the wall clock: above 1 where more than one core worked.
    cores: float = 1.0
    clock: Clock = "wall"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Ours and one peer in one row; an `error` stands where there are no figures."""

    operation: str
    case: str
    size: int
    #: "time", "time per element" or "peak extra memory".
    metric: str
    unit: str
    peer: str
    threads: int
    simd: str
    ours: float | None = None
    peer_value: float | None = None
    better: Literal["lower", "higher"] = "lower"
    #: How many times better ours is: above 1, ours is better.
    ratio: float | None = None
    bar: float | None = None
    verdict: Verdict | None = None
    ours_call: str = ""
    peer_call: str = ""
    peer_setup: str = ""
    #: Quartiles of the samples.
    ours_spread: tuple[float, float] | None = None
    peer_spread: tuple[float, float] | None = None
    #: What a reader should know to trust or doubt the row.
    notes: tuple[str, ...] = ()
    #: Why there are no figures; empty where there are.
    error: str = ""
    #: Whether it was measured in a hurry, which is good for a look and not for a report.
    quick: bool = False
    #: Processor, cores, system, date, and versions of what took part.
    machine: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the record ready for JSON."""
        return asdict(self)


def compare(ours: Figure, peer: Figure, bar: float | None) -> dict[str, Any]:
    """Return the fields of a record that two figures, of which less is better, and a bar decide."""
    ratio = peer.value / ours.value
    return {
        "ours": ours.value,
        "peer_value": peer.value,
        "ratio": ratio,
        "bar": bar,
        "verdict": None if bar is None else judge(ratio, peer.high / ours.low, bar),
        "ours_spread": (ours.low, ours.high),
        "peer_spread": (peer.low, peer.high),
    }


def judge(ratio: float, kindest: float, bar: float) -> Verdict:
    """Return how a ratio stands to its bar, given the ratio that the spread would allow at best."""
    if ratio >= bar:
        return "met"
    return "near" if kindest >= bar else "missed"


def revive(fields: dict[str, Any]) -> Record:
    """Return the record that was written as JSON, which makes lists of tuples."""
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Record(**plain)


def write(path: Path, records: list[Record], keep: bool) -> None:
    """Write records; with `keep`, the cases on file that were not measured again stay."""
    again = {(record.operation, record.case) for record in records}
    kept = [old for old in read(path) if (old.operation, old.case) not in again] if keep else []
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([record.to_dict() for record in kept + records], indent=1) + "\n")


def read(path: Path) -> list[Record]:
    """Return the records of a file; none where there is no file."""
    return [revive(fields) for fields in json.loads(path.read_text())] if path.exists() else []
