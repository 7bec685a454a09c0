"""The page on adding an operation and a family, followed to the letter in a copy of the tree."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native_c

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adding-an-operation.md"

pytestmark = pytest.mark.slow

#: A step of the page: where its block goes, and the block.
STEP = re.compile(
    r"^(?P<how>New file|At the end of|Into `(?P<list>[^`]+)` of|Above `(?P<line>[^`]+)` in"
    r"|In the imports of) `(?P<path>[^`]+)`:\n\n(?P<fence>```+)\w*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)

STEPS = list(STEP.finditer(PAGE.read_text()))

#: What the page adds.
OPERATIONS = ["analytics.moving_average", "forecast.exponential_smoothing"]

#: What a reader writes in words of his own.
UNSHOWN = {"README.md", "CHANGELOG.md", "docs/index.md", "docs/determinism.md"}
UNSHOWN |= {"tests/native_c/c/test_analytics.c"}


def follow(step: re.Match[str], tree: Path) -> None:
    """Do one step of the page in a tree."""
    path, how, text = tree / step["path"], step["how"], step["text"]
    assert path.exists() != (how == "New file"), f"{how} {step['path']}"
    old = path.read_text() if path.exists() else ""
    if step["line"]:
        at = old.index(step["line"])
        gap = "\n\n" if path.suffix == ".py" else "\n"
        path.write_text(old[:at] + text + gap + old[at:])
    elif step["list"]:
        at = end_of_list(old, step["list"])
        comma = "" if old[:at].rstrip()[-1] in ",[(" else ","
        path.write_text(old[:at].rstrip() + comma + "\n" + text + old[at:])
    elif how == "In the imports of":
        at = old.index("\nfrom ") + 1
        path.write_text(old[:at] + text + old[at:])
    else:
        path.write_text(f"{old}\n\n{text}" if old else text)


def end_of_list(source: str, name: str) -> int:
    """Return where the bracket stands that closes the list or tuple that `name` is set to."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            before = source.splitlines(keepends=True)[: node.end_lineno - 1]
            return sum(map(len, before)) + node.end_col_offset - 1
    raise AssertionError(f"{name}: not found, expected a list of this name")


def run(tree: Path, *arguments: str) -> str:
    """Run Python in a tree and return what it printed; fail where it fails."""
    # What runs there is measured by nobody: coverage would look for the sources of a copy.
    environment = {name: text for name, text in os.environ.items() if "COVERAGE" not in name}
    environment |= {"PYTHONPATH": str(tree), "NATIVE_C_BACKEND": native_c.current().name}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tree in which each step of the page is done, built where C is in use."""
    tree = tmp_path_factory.mktemp("adding") / "tree"
    built = shutil.ignore_patterns("*.so", "__pycache__", ".*", "build", "out", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=built)
    for step in STEPS:
        follow(step, tree)
    if native_c.current().name == "compiled":
        builder = tree / "native_c" / "_build.py"  # nothing here is timed, so it may be built fast
        builder.write_text(builder.read_text().replace('"-O3"', '"-O0"'))
        run(tree, "setup.py", "--quiet", "build_ext", "--inplace")
    else:
        # An editable installation would hand out the extension of its own tree, which lacks ours.
        (tree / "native_c" / "_kernels.py").write_text("raise ImportError('not built here')\n")
    return tree


def test_the_tables_of_the_page_name_exactly_what_its_steps_touch() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
    named = {path for row in rows for path in re.findall(r"`([^`]+)`", row)}
    assert named == {step["path"] for step in STEPS} | UNSHOWN


def test_what_the_page_adds_passes_its_tests_and_those_of_the_house(tree: Path) -> None:
    added = [step["path"] for step in STEPS if Path(step["path"]).name.startswith("test_")]
    house = ["tests/test_imports.py", "tests/test_conformance.py", "tests/benchmarks/test_cases.py"]
    said = run(tree, "-m", "pytest", "-q", "-k", "imports or moving or forecast", *house, *added)
    assert " passed" in said
    assert "failed" not in said


def test_what_the_page_adds_takes_part_in_the_tests_of_all_kernels(tree: Path) -> None:
    names = " or ".join([*(name.partition(".")[2] for name in OPERATIONS), "test_every"])
    tests = ["tests/native_c/test_determinism.py", "tests/native_c/test_cases.py"]
    assert " passed" in run(tree, "-m", "pytest", "-q", "-k", names, *tests)
    if native_c.current().name == "compiled":
        command = ["make", "-f", "tests/native_c/c/Makefile", "ONLY=test_bounds"]
        subprocess.run(command, cwd=tree, check=True, timeout=100)


def test_what_the_page_adds_has_tasks_queues_and_schemas(tree: Path) -> None:
    program = f"""
from contract.families import operation
from workers import app
for name in {OPERATIONS}:
    queue = app.amqp.router.route({{}}, name)["queue"].name
    print(name, name in app.tasks, queue, operation(name).json_schema()["operation"])
"""
    said = run(tree, "-c", program).splitlines()
    assert said == [f"{name} True {name.partition('.')[0]} {name}" for name in OPERATIONS]


def test_the_examples_of_what_the_page_adds_run_as_jobs(tree: Path) -> None:
    program = f"""
import runpy
from gristmill.testing import in_process
for name in {OPERATIONS}:
    with in_process():
        runpy.run_path("examples/" + name.partition(".")[0] + ".py", run_name="__main__")
"""
    said = run(tree, "-c", program)
    assert "averages of 50 parts" in said
    assert "tomorrow" in said
