"""Guarded processes: they end when they are told to, when their owner ends, and by themselves."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gristmill.guard import GuardedProcess
from tests.gristmill.processes import alive, wait_until

STUBBORN = "trap '' TERM; echo $$ >> {pids}; while :; do sleep 0.1; done"
PARENT = "sleep 300 & echo $! >> {pids}; echo $$ >> {pids}; wait"


def shell(script: str, tmp_path: Path, stop_seconds: float = 5.0) -> tuple[GuardedProcess, Path]:
    pids = tmp_path / "pids"
    command = ["sh", "-c", script.format(pids=pids)]
    return GuardedProcess(command, log=tmp_path / "log", stop_seconds=stop_seconds), pids


def pids_in(path: Path, count: int) -> list[int]:
    assert wait_until(lambda: path.exists() and len(path.read_text().split()) == count)
    return [int(word) for word in path.read_text().split()]


def test_a_process_that_ends_by_itself_tells_its_status(tmp_path: Path) -> None:
    process, _ = shell("exit 7", tmp_path)
    assert process.wait(timeout=10) == 7
    assert process.status == 7
    process.stop()


def test_a_process_that_runs_has_no_status(tmp_path: Path) -> None:
    process, _ = shell("sleep 300", tmp_path)
    assert process.status is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)
    process.stop()
    assert process.status is not None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process, pids = shell(STUBBORN, tmp_path, stop_seconds=0.3)
    (pid,) = pids_in(pids, 1)
    before = time.monotonic()
    process.stop()
    assert 0.3 <= time.monotonic() - before < 5.0
    assert not alive(pid)


@pytest.mark.parametrize("ending", ["stop", "by itself"])
def test_what_a_process_started_ends_with_it(tmp_path: Path, ending: str) -> None:
    process, pids = shell(PARENT, tmp_path)
    child, parent = pids_in(pids, 2)
    if ending == "stop":
        process.stop()
    else:
        os.kill(parent, 9)
        process.wait(timeout=10)
    assert wait_until(lambda: not alive(child))
    assert not alive(parent)


def test_the_output_goes_to_the_log(tmp_path: Path) -> None:
    process, _ = shell("echo ground; echo bran >&2", tmp_path)
    process.wait(timeout=10)
    assert (tmp_path / "log").read_text().split() == ["ground", "bran"]


def test_the_environment_can_be_replaced(tmp_path: Path) -> None:
    process = GuardedProcess(
        ["/bin/sh", "-c", "echo $GRAIN"],
        log=tmp_path / "log",
        environment={**os.environ, "GRAIN": "rye"},
    )
    process.wait(timeout=10)
    assert (tmp_path / "log").read_text() == "rye\n"


def test_a_program_that_does_not_exist_ends_at_once_and_is_named(tmp_path: Path) -> None:
    process = GuardedProcess([str(tmp_path / "nothing")], log=tmp_path / "log")
    assert process.wait(timeout=10) != 0
    assert "nothing" in (tmp_path / "log").read_text()


def test_a_directory_goes_with_the_process_and_stays_for_a_restart(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = GuardedProcess(["true"], log=tmp_path / "log", directory=scratch)
    process.wait(timeout=10)
    assert scratch.exists()
    process.stop()
    assert not scratch.exists()


def test_a_process_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner = f"""
import pathlib, time
from gristmill.guard import GuardedProcess
scratch = pathlib.Path({str(tmp_path / "scratch")!r})
scratch.mkdir()
script = {PARENT.format(pids=tmp_path / "pids")!r}
process = GuardedProcess(["sh", "-c", script], directory=scratch)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", owner], cwd=Path.cwd()) as running:
        child, parent = pids_in(tmp_path / "pids", 2)
        running.kill()
    assert wait_until(lambda: not alive(child) and not alive(parent))
    assert wait_until(lambda: not (tmp_path / "scratch").exists())
