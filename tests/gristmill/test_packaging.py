"""The packaging: one version everywhere, locks that a stranger can install, files that arrive."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import gristmill
import native_c

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def test_all_parts_agree_on_the_version() -> None:
    assert native_c.__version__ == gristmill.__version__
    assert f"image: gristmill:{gristmill.__version__}" in (ROOT / "docker-compose.yml").read_text()
    assert f"\n## {gristmill.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_of_a_lock_is_pinned_with_its_hashes(lock: Path) -> None:
    text = lock.read_text().replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert re.match(r"[a-z0-9.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_place_to_download_from(lock: Path) -> None:
    assert "//" not in lock.read_text()


def test_the_worker_image_installs_what_developers_test() -> None:
    def pins(lock: str) -> set[str]:
        text = (ROOT / "requirements" / lock).read_text()
        return set(re.findall(r"^[a-z0-9.-]+==\S+(?: ;.*?)?(?= \\$)", text, re.MULTILINE))

    assert pins("worker.lock") <= pins("dev.lock")


def test_apps_see_the_types_of_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for pattern in settings["packages"]["find"]["include"]:
        assert (ROOT / pattern.rstrip("*") / "py.typed").is_file()


@pytest.mark.parametrize("module", ["producers", "workers", "gristmill.cli"])
def test_what_is_imported_is_what_a_plain_install_brings(module: str) -> None:
    # Developers have more than an app that installs the distribution, and hide what it lacks.
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    brought = _closure(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    )
    installed = metadata.packages_distributions()
    foreign = {
        name: installed[name]
        for name in found.stdout.split()
        if name in installed and not brought & set(map(_normal, installed[name]))
    }
    assert found.stdout
    ours = {"gristmill", "contract", "native_c", "producers", "workers", "celeryconfig"}
    # redis-py looks for the first, site-packages loads the second, the third measures this test.
    assert set(foreign) - ours <= {"hiredis", "_distutils_hack", "coverage"}


def _closure(dependencies: list[str]) -> set[str]:
    """Return the distributions that these requirements bring, and theirs, without extras."""
    wanted, found = [Requirement(line) for line in dependencies], set()
    while wanted:
        requirement = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if (name := _normal(requirement.name)) not in found:
            found.add(name)
            wanted += map(Requirement, metadata.requires(requirement.name) or [])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
