"""Every public kernel takes part in the C tests that treat all kernels alike."""

import re
from pathlib import Path

from native_c._build import DECLARATIONS, read_headers

CASES = Path(__file__).parent / "c"

#: A prototype of a function that takes an array or work space.
PROTOTYPE = re.compile(r"^\w[\w *]*\b(nc_\w+)\(([^;]*\*[^;]*)\);", re.MULTILINE)


def kernels() -> set[str]:
    """Return the public functions that read or write memory of their caller."""
    text = "".join(
        declarations
        for header in read_headers()
        for declarations in DECLARATIONS.findall(header.read_text(encoding="utf-8"))
    )
    without_comments = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return {name for name, _ in PROTOTYPE.findall(without_comments)}


def test_the_prototypes_are_found() -> None:
    assert {"nc_mcts_ucb1_selection", "nc_fusion_discovery_step", "nc_random_words"} <= kernels()


def test_every_public_kernel_has_a_case_at_guarded_memory() -> None:
    called = "".join(path.read_text(encoding="utf-8") for path in CASES.glob("cases_*.c"))
    missing = {name for name in kernels() if f"{name}(" not in called}
    assert not missing, f"expected calls in {CASES}/cases_<family>.c of {sorted(missing)}"
