"""A case: data of growing size, ours, its peers, and the checks that come before any timing."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from contract.families import FAMILIES

#: What is timed: no arguments, for those are prepared before the clock starts.
Call = Callable[[], Any]

#: Takes the data of a case and returns the call to time: imports, conversions that a user makes
#: once, and compilation stand in its body, and its last line is `return lambda: ...`.
Prepare = Callable[..., Call]


@dataclass(frozen=True)
class Peer:
    """Another library doing the same job, called as its own documentation advises for speed."""

    #: Name of the peer as the tables show it.
    name: str
    #: Name of the distribution that does the work, whose version stands beside the figure.
    library: str
    prepare: Prepare
    #: Takes the peer's answer and ours; raises AssertionError unless both did the same job.
    agree: Callable[[Any, Any], None]
    #: The least ratio of its time to ours, by the size at which it is asked for.
    bars: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One kind of data for one operation, at one size or several."""

    #: Name of the operation, `<family>.<verb>`.
    operation: str
    #: What sets this case apart from the operation's others.
    name: str
    #: Takes a size and returns the data, the same at each call.
    data: Callable[[int], tuple[Any, ...]]
    sizes: tuple[int, ...]
    #: What the size counts, in the plural.
    unit: str
    ours: Prepare
    #: Takes our answer and the data; raises AssertionError unless an oracle that is not our code
    #: agrees.
    verify: Callable[..., None]
    peers: tuple[Peer, ...]
    #: What time per element is counted by, in the singular, and how many of them a size has.
    element: str
    elements: Callable[[int], int] = int
    #: Whether the bars hold on all cores too, not on one thread alone.
    bars_on_all_cores: bool = False
    #: What a reader must know to judge the ratio fairly, in full sentences.
    note: str = ""

    def title(self, size: int) -> str:
        """Return the name of the case at a size."""
        return f"{size:,} {self.unit}, {self.name}"

    @property
    def grows(self) -> bool:
        """Whether growth and memory are measured: at three sizes or more."""
        return len(self.sizes) >= 3


def cases_of(family: str) -> tuple[Case, ...]:
    """Return the cases of a family; raise `ValueError` for an unknown one."""
    if family not in FAMILIES:
        raise ValueError(f"family: {family!r}, expected one of {', '.join(FAMILIES)}")
    cases: tuple[Case, ...] = import_module(f"benchmarks.{family}").CASES
    return cases


def call_text(prepare: Prepare) -> str:
    """Return the source of the call that `prepare` returns: the text is the code that is timed."""
    last = _body(prepare)[-1]
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Lambda)):
        raise TypeError(f"{prepare.__name__}: ends otherwise, expected `return lambda: ...`")
    return ast.unparse(last.value.body)


def setup_text(prepare: Prepare) -> str:
    """Return the source of what is prepared before the clock starts, one statement a line."""
    return "\n".join(ast.unparse(statement) for statement in _body(prepare)[:-1])


def _body(prepare: Prepare) -> list[ast.stmt]:
    function = ast.parse(textwrap.dedent(inspect.getsource(prepare))).body[0]
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"{prepare!r}: {type(function).__name__}, expected a function with a name")
    body = function.body
    return body[1:] if ast.get_docstring(function) is not None else body
