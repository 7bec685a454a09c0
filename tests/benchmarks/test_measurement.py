"""What is timed has been verified, and what cannot be timed is seen."""

from typing import Any

import pytest

import native_c
from benchmarks import measurement
from benchmarks.__main__ import exit_status
from benchmarks.case import Call
from benchmarks.measurement import measure_size
from native_c import mcts
from tests.benchmarks.cases import JOB, MISSING, OTHER, SLOW, adding, case, is_never_right


def test_a_peer_that_takes_longer_gives_a_ratio_above_one_and_meets_its_bar() -> None:
    (record,) = measure_size(case(SLOW), 100, JOB)
    assert record.ours is not None
    assert record.peer_value is not None
    assert record.peer_value >= 2.0 > record.ours
    assert record.ratio == pytest.approx(record.peer_value / record.ours)
    assert (record.bar, record.verdict, record.error) == (2.0, "met", "")
    assert record.case == "100 numbers, added"
    assert record.peer.startswith("slow (numpy ")


def test_the_call_beside_the_figure_is_the_code_that_was_timed() -> None:
    (record,) = measure_size(case(SLOW), 100, JOB)
    assert record.ours_call == "sum(range(size))"
    assert record.peer_call == "slowly()"
    assert "spin(0.002)" in record.peer_setup


def test_a_wrong_answer_of_ours_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("timed")

    monkeypatch.setattr(measurement, "interleave", refuse)
    records = measure_size(case(SLOW, OTHER, verify=is_never_right), 100, JOB)
    assert [(record.ours, record.ratio, record.verdict) for record in records] == [(None,) * 3] * 2
    assert all("the oracle says otherwise" in record.error for record in records)
    assert exit_status(records, strict=False) == 1


def test_an_exception_of_ours_is_an_error_in_each_row() -> None:
    def failing(size: int) -> Call:
        return lambda: 1 // 0

    records = measure_size(case(SLOW, OTHER, ours=failing), 100, JOB)
    assert all("ZeroDivisionError" in record.error for record in records)


def test_a_missing_peer_is_an_error_that_is_seen_and_the_others_are_timed() -> None:
    records = {r.peer.partition(" ")[0]: r for r in measure_size(case(MISSING, SLOW), 100, JOB)}
    assert records["missing"].peer == "missing (a-library-that-nobody-has, not installed)"
    assert "a_library_that_nobody_has" in records["missing"].error
    assert records["missing"].ratio is None
    assert records["slow"].ratio is not None
    assert exit_status(list(records.values()), strict=False) == 1


def test_a_peer_that_does_another_job_is_not_timed() -> None:
    (record,) = measure_size(case(OTHER), 100, JOB)
    assert "200 is not 4950" in record.error
    assert record.peer_value is None


def test_a_bar_holds_on_one_thread_unless_the_case_says_more() -> None:
    both = measurement.Job("mcts", 0, 2, quick=True)
    assert measure_size(case(SLOW), 100, both)[0].bar is None
    assert measure_size(case(SLOW, bars_on_all_cores=True), 100, both)[0].bar == 2.0


def test_each_instruction_set_is_verified_and_timed_when_its_turn_comes() -> None:
    pytest.importorskip("native_c._kernels")
    seen = []

    def noting(size: int) -> Call:
        def note() -> int:
            mcts.ucb1_selection([[1]], [[1.0]], [1])
            seen.append(native_c.made()["simd"])
            return sum(range(size))

        return lambda: note()

    with native_c.use_backend("compiled"):
        levels, best = native_c.info()["simd_supported"], native_c.info()["simd"]
        job = measurement.Job("mcts", 0, 1, simd=levels, quick=True)
        records = measure_size(case(SLOW, ours=noting), 100, job)
        assert native_c.info()["simd"] == best
    assert [record.simd for record in records] == list(levels)
    assert [record.simd for record in records if record.bar is not None] == [best]
    assert set(seen) == set(levels)
    assert seen[: len(levels)] == list(levels)


def test_the_data_of_a_case_reaches_ours_and_the_oracle() -> None:
    reached = []

    def note(answer: int, size: int) -> None:
        reached.append((answer, size))

    measure_size(case(SLOW, verify=note, ours=adding), 100, JOB)
    assert reached == [(4950, 100)]
