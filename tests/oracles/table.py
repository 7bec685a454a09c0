"""Golden tables: what a public library once answered, to which our kernels are held ever after."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

GOLDEN: Final = Path(__file__).with_name("golden")

#: Largest relative and largest absolute difference; numbers agree that keep either sum of both.
Tolerance = tuple[float, float]

EXACT: Final[Tolerance] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What one oracle answers to some requests of one operation.

    A request is not stored: it is made again from the parameters of its case by arithmetic that has
    one result on every machine, and a digest in the file says that it is still the same.
    """

    #: Name of the file in golden/, without its ending: <family>_<oracle>_<what>.
    name: str
    #: Full name of the operation, such as "mcts.ucb1_selection".
    operation: str
    #: Distributions whose versions the file records; empty for values that someone published.
    oracle: tuple[str, ...]
    #: Parameters of each case, by the name of the case.
    cases: Mapping[str, Mapping[str, Any]]
    #: Makes the request, the operation's arguments by name, from those parameters. NumPy alone.
    request: Callable[..., dict[str, Any]]
    #: Asks the oracle for fields of the operation's result, by name.
    answer: Callable[[dict[str, Any]], dict[str, Any]]
    #: How far our kernels may be from the answer, by field; a field that is not named is exact.
    within: Mapping[str, Tolerance]
    #: How far the oracle may be from itself on another machine, of numbers that are not whole.
    rerun_within: Tolerance = (1e-13, 1e-13)

    @property
    def path(self) -> Path:
        """Return where the table is committed."""
        return GOLDEN / f"{self.name}.json"

    def compute(self) -> dict[str, Any]:
        """Ask the oracle every case and return the table as it is written."""
        cases = {}
        for name, parameters in self.cases.items():
            try:
                request = self.request(**parameters)
                answer = {key: _plain(value) for key, value in self.answer(request).items()}
            except Exception as error:
                error.add_note(f"{self.name}: {name}")
                raise
            cases[name] = {"parameters": parameters, "sha256": digest(request), "answer": answer}
        return {
            "operation": self.operation,
            "oracle": {name: metadata.version(name) for name in self.oracle},
            "cases": cases,
        }

    def read(self) -> dict[str, Any]:
        """Return the committed table. Raises OSError where there is none."""
        table: dict[str, Any] = json.loads(self.path.read_text())
        return table

    def write(self, table: Mapping[str, Any]) -> None:
        """Commit a computed table to its file, one line for each field of an answer."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(_render(table) + "\n")


def tables() -> Iterator[Table]:
    """Yield the tables of all families: each module beside this one may list some in TABLES."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("__") and path.stem != Path(__file__).stem:
            yield from import_module(f"tests.oracles.{path.stem}").TABLES


def digest(request: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a request: names, types, shapes and the bits of every number."""
    sha256 = hashlib.sha256()
    for name, value in sorted(request.items()):
        array = np.asarray(value)
        little = array.astype(array.dtype.newbyteorder("<"))
        sha256.update(f"{name} {little.dtype.str} {little.shape} ".encode() + little.tobytes())
    return sha256.hexdigest()


def difference(found: Any, expected: Any, tolerance: Tolerance) -> tuple[bool, float]:
    """Return whether two answers agree, and the largest absolute difference of their numbers.

    Shapes must be equal, infinities and NaN must meet their like, whole numbers must be equal
    unless the tolerance says otherwise.
    """
    one, other = np.asarray(found, float), np.asarray(expected, float)
    if one.shape != other.shape:
        return False, np.inf
    relative, absolute = tolerance
    agree = np.isclose(one, other, rtol=relative, atol=absolute, equal_nan=True).all()
    finite = np.isfinite(one) & np.isfinite(other)
    return bool(agree), float(np.abs(one[finite] - other[finite]).max(initial=0.0))


def _plain(value: Any) -> Any:
    """Return an answer as JSON holds it: float32 in the few digits that name it among float32."""
    array = np.asarray(value)
    if array.dtype == np.float32:
        return json.loads(f"[{', '.join(map(str, array.ravel()))}]") if array.ndim else float(array)
    return array.tolist()


def _render(value: Any, indent: str = "") -> str:
    """Write JSON with nested mappings over lines and every list on one; NaN and Infinity stay."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value)
    inner = indent + " "
    entries = (f"{inner}{json.dumps(key)}: {_render(part, inner)}" for key, part in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
