"""The request and result of multi_armed_bandit: what is accepted, and which words refuse."""

from typing import Any

import numpy as np
import pytest

from contract import optimization
from contract.errors import InvalidRequest
from contract.operation import fields_of
from contract.optimization import MultiArmedBanditRequest, multi_armed_bandit
from native_c import optimization as kernels
from tests import hostile

ARRAYS: dict[str, Any] = {
    "counts": np.array([3, 4, 1, 2]),
    "reward_sums": np.array([1.0, 2.0, 1.0, 0.0]),
    "arms": np.array([1, 0, 1, 3]),
    "rewards": np.array([0.0, 1.0, 1.0, 1.0]),
    "outcomes": np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]] * 2),
}


def test_a_request_needs_only_the_state() -> None:
    request = multi_armed_bandit.build([0, 0, 0], [0, 0, 0])
    assert isinstance(request, MultiArmedBanditRequest)
    assert request.policy == "ucb1"
    assert request.num_selections == 1
    assert request.exploration == np.sqrt(2)


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("name", ARRAYS)
def test_any_layout_becomes_the_same_native_array(name: str, kind: str) -> None:
    request = multi_armed_bandit.build(**{**ARRAYS, name: hostile.SAME[kind](ARRAYS[name])})
    field = getattr(request, name)
    assert field.dtype == ARRAYS[name].dtype
    assert field.flags.c_contiguous
    assert field.flags.aligned
    np.testing.assert_array_equal(field, ARRAYS[name])


REFUSED = [
    (name, kind)
    for name in ARRAYS
    for kind in hostile.REFUSED
    if (name, kind) != ("outcomes", "none_at_all")  # which may be left out
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(name: str, kind: str) -> None:
    other = {"arms": "rewards", "rewards": "arms"}.get(name, name)
    named = other if kind == "none_at_all" else name
    with pytest.raises(InvalidRequest, match=f"^{named}: .*, expected "):
        multi_armed_bandit.build(**{**ARRAYS, name: hostile.REFUSED[kind](ARRAYS[name])})


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
@pytest.mark.parametrize("name", ["reward_sums", "rewards", "outcomes"])
def test_values_that_are_not_finite_are_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: 1 of "):
        multi_armed_bandit.build(**{**ARRAYS, name: hostile.NOT_FINITE[kind](ARRAYS[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "exp3"}, "policy: 'exp3', expected 'ucb1', 'thompson', "),
        ({"counts": []}, "counts: 0 elements, expected at least 1"),
        ({"counts": [3, -4, 1, 2]}, "counts: 1 of 4 below 0 (first at 1), expected at least 0"),
        ({"counts": [3, 4.5, 1, 2]}, "counts: 1 of 4 not whole int64 numbers (first at 1)"),
        ({"counts": [2**62] * 4}, "counts: 1.845e+19 pulls in all, expected at most 2**62"),
        ({"reward_sums": [1.0, 2.0]}, "reward_sums: 2 elements, expected 4 as counts"),
        ({"reward_sums": [1e301] * 4}, "reward_sums: 4 of 4 above 1e+300 (first at 0)"),
        ({"arms": None}, "rewards: given alone, expected arms and rewards together"),
        ({"rewards": None}, "arms: given alone, expected arms and rewards together"),
        ({"arms": [1, 0, 1, 4]}, "arms: index 4, expected below 4, the number of arms"),
        ({"arms": [-1, 0, 1, 3]}, "arms: 1 of 4 below 0 (first at 0), expected at least 0"),
        ({"rewards": [1.0]}, "rewards: 1 elements, expected 4 as arms"),
        ({"outcomes": [[1.0, 2.0]]}, "outcomes: 2 columns, expected 4, one for each arm"),
        ({"num_selections": 3}, "num_selections: 3, expected nothing beside outcomes of 4 steps"),
        ({"exploration": -1.0}, "exploration: -1.0, expected greater than or equal to 0"),
        ({"exploration": 1e301}, "exploration: 1e+301, expected at most 1e300"),
        ({"epsilon": 1.5}, "epsilon: 1.5, expected less than or equal to 1"),
        ({"temperature": 0.0}, "temperature: 0.0, expected greater than 0"),
        ({"temperature": float("inf")}, "temperature: inf, expected a finite number"),
        ({"prior_alpha": 0.0}, "prior_alpha: 0.0, expected greater than 0"),
        ({"prior_beta": 1e-310}, "prior_beta: 1e-310, expected from 1e-300 to 1e300"),
        ({"seed": 2**64}, "seed: 18446744073709551616, expected less than "),
        ({"step": -1}, "step: -1, expected greater than or equal to 0"),
        ({"arm": [1]}, "arm: unknown argument"),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        multi_armed_bandit.build(**{**ARRAYS, **change})
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [0, 0, 2, 1]}, "rewards: 2.0, expected numbers in [0, 1]"),
        ({"outcomes": [[0, 0, -0.5, 0]]}, "outcomes: -0.5, expected numbers in [0, 1]"),
        ({"reward_sums": [1, 5, 1, 0]}, "reward_sums: 5.0 in 4 pulls of arm 1, expected from 0"),
        ({"reward_sums": [1, -1, 1, 0]}, "reward_sums: -1.0 in 4 pulls of arm 1, expected from"),
    ],
)
def test_thompson_refuses_rewards_outside_the_unit_interval(
    change: dict[str, Any], message: str
) -> None:
    multi_armed_bandit.build(**{**ARRAYS, **change})
    with pytest.raises(InvalidRequest) as refused:
        multi_armed_bandit.build(**{**ARRAYS, **change}, policy="thompson")
    assert str(refused.value).startswith(message)


def test_a_sum_without_pulls_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^reward_sums: 2\.5 for arm 1 .*, expected 0$"):
        multi_armed_bandit.build([1, 0], [0.5, 2.5])


def test_the_rows_of_outcomes_may_be_counted_or_not() -> None:
    assert multi_armed_bandit.build(**ARRAYS, num_selections=4).num_selections == 4
    assert multi_armed_bandit.build(**ARRAYS, num_selections=1).num_selections == 1


def test_inputs_stay_untouched() -> None:
    copies = {name: array.copy() for name, array in ARRAYS.items()}
    multi_armed_bandit.build(**ARRAYS, policy="thompson")
    for name, copy in copies.items():
        np.testing.assert_array_equal(ARRAYS[name], copy)


def test_the_state_of_a_result_is_the_state_of_the_next_request() -> None:
    answer = multi_armed_bandit.read_result(
        {
            "chosen": [1],
            "rewards": [],
            "counts": [1, 2],
            "reward_sums": [0.5, 1.5],
            "means": [0.5, 0.75],
            "scores": [np.inf, 1.0],
            "step": 3,
            "backend": "fallback",
            "simd": "none",
            "threads": 1,
            "kernel_seconds": 0.0,
            "queue_seconds": 0.0,
        }
    )
    state = {name: getattr(answer, name) for name in ("counts", "reward_sums", "step")}
    assert fields_of(multi_armed_bandit.build(**state))["step"] == 3
    assert answer.to_dict()["scores"] == ["Infinity", 1.0]


def test_the_kernels_hold_the_same_limits() -> None:
    # The kernels import nothing of the contract, so the limits stand in both.
    ours = (optimization.MAX_REWARD, optimization.MAX_REWARD_SUM, optimization.MAX_PULLS)
    assert ours == (kernels._MAX_REWARD, kernels._MAX_REWARD_SUM, kernels._MAX_PULLS)
