"""Progress and the time to go, on a clock of the test's own."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.progress import REPORT_SECONDS, Progress, say


def reports(parts: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return the reports of a job that was so far at such times."""
    progress = Progress(0.0)
    found = [progress.report(part, now) for now, part in parts]
    return [report for report in found if report is not None]


def test_a_job_of_even_speed_knows_its_end() -> None:
    found = reports([(t / 10, t / 10 / 50) for t in range(1, 400)])
    for report in found:
        assert report["remaining_seconds"] == pytest.approx(50 * (1 - report["progress"]), rel=1e-3)


def test_reports_are_a_quarter_of_a_second_apart() -> None:
    progress = Progress(0.0)
    told = [t / 100 for t in range(1, 1001) if progress.report(t / 1000, t / 100) is not None]
    assert len(told) <= 10 / REPORT_SECONDS
    assert min(b - a for a, b in itertools.pairwise(told)) >= REPORT_SECONDS - 1e-9


def test_a_job_that_slows_down_says_so_and_without_a_jump() -> None:
    fast = [(t / 4, t / 4 / 20) for t in range(1, 41)]  # half done in 10 s
    slow = [(10 + t / 4, 0.5 + t / 4 / 200) for t in range(1, 121)]  # then a tenth of the speed
    found = reports(fast + slow)
    seconds = [report["remaining_seconds"] for report in found]
    assert seconds[39] == pytest.approx(10, rel=0.01)
    assert all(b < 1.3 * a for a, b in itertools.pairwise(seconds))
    last = found[-1]
    assert last["remaining_seconds"] == pytest.approx(200 * (1 - last["progress"]), rel=0.05)


def test_before_anything_is_done_nobody_knows_how_long_it_takes() -> None:
    assert reports([(1.0, 0.0)]) == [{"progress": 0.0, "remaining_seconds": None}]


def test_at_the_end_nothing_is_left() -> None:
    assert reports([(1.0, 0.5), (2.0, 1.0)])[-1] == {"progress": 1.0, "remaining_seconds": 0.0}


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50))
def test_progress_is_monotone_and_in_its_range_whatever_a_kernel_says(parts: list[float]) -> None:
    found = reports([(float(t), part) for t, part in enumerate(parts, 1)])
    told = [report["progress"] for report in found]
    assert told == sorted(told)
    assert all(0 <= part <= 1 for part in told)
    for report in found:
        seconds = report["remaining_seconds"]
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@pytest.mark.parametrize(
    ("progress", "seconds", "words"),
    [
        (0.0, None, "0 %"),
        (0.424, 3.2, "42 %, about 3 s left"),
        (0.5, 99.4, "50 %, about 99 s left"),
        (0.5, 120.0, "50 %, about 2 min left"),
        (0.01, 7200.0, "1 %, about 2 h left"),
    ],
)
def test_a_report_in_words(progress: float, seconds: float | None, words: str) -> None:
    assert say({"progress": progress, "remaining_seconds": seconds}) == words
