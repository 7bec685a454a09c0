"""Contestants take turns, warmed up, and interrupted samples do not flatter anybody."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.timing import Plan, Sample, interleave, summarize
from tests.benchmarks.cases import spin

PLAN = Plan(seconds=0.0, rounds=4, most=4)


def named_calls(log: list[str], seconds: float) -> dict[str, Callable[[], None]]:
    def call(name: str) -> None:
        log.append(name)
        if seconds:
            time.sleep(seconds)

    return {name: lambda name=name: call(name) for name in "abc"}  # type: ignore[misc]


def test_each_round_gives_everybody_a_turn_and_begins_with_another() -> None:
    log: list[str] = []
    turns: list[str] = []
    interleave(named_calls(log, 0.0), PLAN, before=turns.append)
    assert "".join(turns) == "abc" + "abc" + "bca" + "cab" + "abc"


def test_a_call_is_made_twice_before_it_is_first_timed() -> None:
    log: list[str] = []
    interleave(named_calls(log, 0.021), Plan(seconds=0.0, rounds=2, most=2))
    # A long call: two to warm up, then once a sample.
    assert "".join(log) == "aabbcc" + "abc" + "bca"


def test_a_short_call_is_repeated_until_the_clock_can_tell() -> None:
    log: list[str] = []
    interleave({"a": named_calls(log, 0.0)["a"]}, PLAN)
    assert len(log) > 100


def test_a_figure_is_no_less_than_what_was_worked() -> None:
    figure = interleave({"a": lambda: spin(0.005)}, PLAN)["a"]
    assert 5.0 <= figure.low <= figure.value <= figure.high


def test_interrupted_samples_are_left_out_where_enough_remain() -> None:
    alone = [Sample(0.001, 0.001, False)] * 5
    figure = summarize([*alone, *[Sample(0.9, 0.001, True)] * 4], one_thread=True)
    assert (figure.value, figure.high, figure.clock) == (1.0, 1.0, "wall")


def test_the_processors_time_counts_where_nearly_all_were_interrupted() -> None:
    samples = [Sample(0.9, 0.002, True)] * 9 + [Sample(0.002, 0.002, False)]
    figure = summarize(samples, one_thread=True)
    assert (figure.value, figure.clock) == (2.0, "processor")


def test_on_several_threads_the_least_sample_counts_where_nearly_all_were_interrupted() -> None:
    samples = [Sample(wall, 0.9, True) for wall in (0.7, 0.5, 0.6)]
    figure = summarize(samples, one_thread=False)
    assert (figure.value, figure.high, figure.clock) == (500.0, 600.0, "least")
    assert figure.cores == pytest.approx(1.5)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50))
def test_the_median_lies_between_the_quartiles_and_those_within_the_samples(
    seconds: list[float],
) -> None:
    figure = summarize([Sample(each, each, False) for each in seconds], one_thread=True)
    near = 1 + 1e-9
    assert min(seconds) * 1e3 / near <= figure.low <= figure.value * near
    assert figure.value <= figure.high * near <= max(seconds) * 1e3 * near * near
