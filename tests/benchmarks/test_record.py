"""Records hold what the files promise, and a ratio above its bar is what counts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import exit_status
from benchmarks.measurement import measure_size
from benchmarks.record import Figure, Record, compare, judge, read, write
from tests.benchmarks.cases import JOB, MISSING, SLOW, case

PROMISED = {
    *("operation", "case", "metric", "unit", "ours", "peer", "peer_value", "threads", "better"),
    *("ratio", "bar", "simd", "peer_call", "ours_spread", "peer_spread", "error", "machine"),
}

RECORD = Record(
    operation="mcts.ucb1_selection",
    case="1 node",
    size=1,
    metric="time",
    unit="ms",
    peer="somebody",
    threads=1,
    simd="none",
)


def figure(value: float, spread: float = 0.0) -> Figure:
    return Figure(value=value, low=value - spread, high=value + spread)


def test_a_record_has_every_promised_key() -> None:
    for record in measure_size(case(SLOW, MISSING), 100, JOB):
        written = json.loads(json.dumps(record.to_dict()))
        assert written.keys() >= PROMISED
        assert written["better"] == "lower"


def test_ours_in_half_the_time_is_a_ratio_of_two() -> None:
    found = compare(figure(1.0), figure(2.0), bar=2.0)
    assert (found["ratio"], found["verdict"]) == (2.0, "met")


@pytest.mark.parametrize(
    ("spread", "verdict"), [(0.0, "missed"), (0.01, "missed"), (0.1, "near"), (0.5, "near")]
)
def test_a_bar_missed_by_less_than_the_spread_is_near(spread: float, verdict: str) -> None:
    assert compare(figure(1.0, spread), figure(1.9, spread), bar=2.0)["verdict"] == verdict


def test_without_a_bar_there_is_no_verdict() -> None:
    assert compare(figure(1.0), figure(0.5), bar=None)["verdict"] is None


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_only_a_ratio_at_its_bar_or_above_is_met(ratio: float, kindest: float, bar: float) -> None:
    assert (judge(ratio, kindest, bar) == "met") == (ratio >= bar)


def test_missed_bars_end_with_status_one_only_when_strict() -> None:
    missed = Record(**RECORD.to_dict() | {"verdict": "missed"})
    near = Record(**RECORD.to_dict() | {"verdict": "near"})
    assert exit_status([missed], strict=False) == 0
    assert exit_status([missed], strict=True) == 1
    assert exit_status([near], strict=True) == 0
    assert exit_status([Record(**RECORD.to_dict() | {"error": "gone"})], strict=False) == 1


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = measure_size(case(SLOW, MISSING), 100, JOB)
    write(tmp_path / "out" / "mcts.json", records, keep=False)
    assert read(tmp_path / "out" / "mcts.json") == records


def test_cases_that_were_not_measured_again_stay_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "mcts.json"
    other = Record(**RECORD.to_dict() | {"case": "2 nodes"})
    again = Record(**RECORD.to_dict() | {"ratio": 3.0})
    write(path, [RECORD, other], keep=False)
    write(path, [again], keep=True)
    assert read(path) == [other, again]
    write(path, [again], keep=False)
    assert read(path) == [again]
