"""Cases run in processes of their own, whose failures are rows that everybody sees."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import case as declared
from benchmarks import record, run
from benchmarks.measurement import Job, measure_size
from benchmarks.memory import RESOLUTION_MEGABYTES, peak_megabytes
from tests.benchmarks.cases import JOB, SLOW, case


def test_a_process_that_dies_is_an_error_in_each_of_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    cases = declared.cases_of("mcts")
    records = run.times(Job("mcts", 0, 1))
    assert len(records) == len(cases[0].sizes) * len(cases[0].peers)
    assert {r.error for r in records} == {"its process ended with status 1: nothing said"}
    assert command_line.exit_status(records, strict=False) == 1


def test_a_process_that_hangs_is_an_error_in_each_of_its_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr(run, "_TIMEOUT_SECONDS", 0.2)
    assert {r.error for r in run.times(JOB)} == {"its process did not end within 0.2 s"}


def test_the_threads_of_a_process_are_set_for_every_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    telling = tmp_path / "python"
    shown = " ".join(f"${name}" for name in run.THREAD_VARIABLES)
    telling.write_text(f'#!/bin/sh\necho "{shown} $NATIVE_C_BACKEND" >&2\nexit 3\n')
    telling.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(telling))
    told = " ".join("2" for _ in run.THREAD_VARIABLES)
    (error,) = {r.error for r in run.times(replace(JOB, threads=2))}
    assert error == f"its process ended with status 3: {told} compiled"


def test_growth_is_the_time_divided_by_the_elements_beside_the_fastest_peer() -> None:
    counted = case(SLOW, sizes=(10, 20, 40), elements=lambda size: 2 * size)
    times = [r for size in counted.sizes for r in measure_size(counted, size, JOB)]
    rows = list(run.growth(counted, times))
    assert [row.size for row in rows] == [10, 20, 40]
    for row, time in zip(rows, times, strict=True):
        assert time.ours is not None
        assert row.ours == pytest.approx(time.ours * 1e6 / (2 * time.size))
        assert (row.metric, row.unit) == ("time per element", "ns per number")
        assert row.ratio == time.ratio


#: In a process of its own, as cases are: in the suite's, what a job takes hides in what was freed.
TAKING = """
from benchmarks.memory import peak_megabytes

def taking(megabytes):
    kept = bytearray(b"1") * 50_000_000
    return lambda: kept and b"1" * (megabytes * 1_000_000)

print(peak_megabytes(taking, (1,), (20,)))
"""


def test_the_peak_of_memory_counts_what_a_job_takes_and_not_its_data() -> None:
    told = subprocess.run(
        [sys.executable, "-c", TAKING], cwd=run.ROOT, capture_output=True, text=True, check=True
    )
    assert 15 < float(told.stdout) < 35


def test_a_job_that_takes_nothing_has_the_least_that_can_be_told() -> None:
    assert peak_megabytes(lambda: lambda: None, (), ()) < 1.0
    assert RESOLUTION_MEGABYTES > 0


def test_only_known_families_and_levels_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["alchemy"])
    assert "'alchemy', expected one of analytics" in capsys.readouterr().err


def test_a_case_that_nobody_has_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(record, "OUT", tmp_path)
    assert command_line.main(["mcts", "--case", "no such case"]) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_family_is_measured_printed_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("native_c._kernels")
    monkeypatch.setattr(record, "OUT", tmp_path)
    monkeypatch.setattr(run, "thread_counts", lambda: (1,))
    monkeypatch.setitem(os.environ, "COLUMNS", "200")
    assert command_line.main(["mcts", "--quick"]) == 0
    records = record.read(tmp_path / "mcts.json")
    metrics = {row.metric for row in records}
    assert metrics == {"time", "time per element", "peak extra memory"}
    assert all(row.quick and not row.error and row.machine["cores"] for row in records)
    assert "bars met" in capsys.readouterr().out
