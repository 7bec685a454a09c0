"""What one family contributes to the demo: a question, what was found, a table and pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much work the demo does."""

    #: First year that is described by a job of its own.
    first_year: int
    #: Shifted copies of the record that a connection is compared with.
    num_shifts: int
    #: Seeds that each policy with random numbers is replayed with.
    num_seeds: int
    #: Trees that search side by side, and how often each is descended.
    num_trees: int
    num_descents: int


#: What `gristmill demo` runs.
FULL = Size(first_year=1749, num_shifts=99, num_seeds=16, num_trees=40, num_descents=150)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Words and numbers in rows; the first column is text, the others stand to the right."""

    #: What the rows are.
    title: str
    #: Head of each column, [c].
    columns: tuple[str, ...]
    #: The cells, each row [c].
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the report, drawn when the report is written."""

    #: File name, without the ending.
    name: str
    #: What it shows, in full sentences.
    caption: str
    #: Whose numbers it shows.
    source: str
    #: Width and height in inches.
    size: tuple[float, float]
    #: Draws it into an empty figure.
    draw: "Callable[[Figure], None]"


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One family at work on the data."""

    #: The operation that did it.
    operation: str
    #: What is asked of the data.
    question: str
    #: What was sent to the mill, in a sentence.
    work: str
    #: What came out, in sentences.
    findings: tuple[str, ...]
    table: Table
    pictures: tuple[Picture, ...]
