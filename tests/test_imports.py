"""The import table of the house: who may import whom, read from the source of every module."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Our packages, and what else each may import beside the standard library and itself. What pydantic
#: hands out of its core counts as pydantic.
PYDANTIC = {"pydantic", "pydantic_core"}
TABLE = {
    "contract": {"numpy", "msgpack", "redis", "kombu", "celery"} | PYDANTIC,
    "producers": {"contract", "celery", "redis"},
    "workers": {"contract", "native_c", "celeryconfig", "celery", "kombu", "billiard", "redis"},
    "native_c": {"numpy"},
    "celeryconfig": {"contract"},
    "flowerconfig": {"tornado"},
    "gristmill": {"contract", "producers", "workers", "native_c", "celeryconfig"}
    | {"celery", "kombu", "msgpack", "numpy", "redis", "rich", "typer"}
    | {"flower", "matplotlib", "prometheus_client", "pytest"},
}

#: The builder runs at build time only, and stands alone.
BUILDER = ROOT / "native_c" / "_build.py"

#: What serves the tree but is no part of it.
NOBODYS = {"tests", "benchmarks", "examples", "docs"}


def modules(package: str) -> list[Path]:
    folder = ROOT / package
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{package}.py"]


def imported_roots(module: Path) -> Iterator[tuple[int, str]]:
    """Yield line and first word of every absolute import, those inside functions too."""
    for node in ast.walk(ast.parse(module.read_text(), module.name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


@pytest.mark.parametrize("package", TABLE)
def test_every_module_imports_what_the_table_allows_and_no_more(package: str) -> None:
    allowed = TABLE[package] | {package} | sys.stdlib_module_names
    legal = ", ".join(sorted(TABLE[package]))
    refused = [
        f"{module.relative_to(ROOT)}:{line}: imports {root}, expected one of {legal}"
        for module in modules(package)
        if module != BUILDER
        for line, root in imported_roots(module)
        if root not in allowed
    ]
    assert not refused, "\n".join(refused)


def test_the_builder_of_the_kernels_needs_cffi_alone() -> None:
    roots = {root for _, root in imported_roots(BUILDER)}
    assert roots <= {"cffi"} | sys.stdlib_module_names


def test_nobody_imports_what_only_serves_the_tree() -> None:
    importers = [
        str(module)
        for package in TABLE
        for module in modules(package)
        for _, root in imported_roots(module)
        if root in NOBODYS
    ]
    assert not importers


def test_every_package_at_the_top_stands_in_the_table() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - NOBODYS <= TABLE.keys()


def loaded_by(statement: str) -> set[str]:
    """Return the roots of the modules that a fresh interpreter has loaded after `statement`."""
    listing = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    ended = subprocess.run(
        [sys.executable, "-c", f"{statement}; {listing}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stdout.split())


def test_an_app_that_enqueues_loads_no_kernel_no_worker_and_no_terminal() -> None:
    loaded = loaded_by("from producers import analytics, fusion, mcts, optimization")
    assert "contract" in loaded
    # cffi is there, but not for kernels: billiard, under Celery, calls prctl through it.
    assert not loaded & {"native_c", "workers", "gristmill", "rich", "typer", "matplotlib"}


def test_the_kernels_know_no_job() -> None:
    loaded = loaded_by("import native_c")
    assert not loaded & {"contract", "producers", "workers", "celery", "kombu", "redis", "pydantic"}
