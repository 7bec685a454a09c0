"""What multi_armed_bandit takes and what it refuses: hostile arrays, ranges, named errors."""

import math
from typing import Any

import numpy as np
import pytest

import native_c
from native_c import optimization
from native_c.bandit import POLICIES
from native_c.errors import InvalidArgument, OutOfMemory
from tests import hostile


def bandit(counts: Any, reward_sums: Any, policy: str = "ucb1", **rest: Any) -> dict[str, Any]:
    return native_c.run(optimization.multi_armed_bandit(counts, reward_sums, policy, **rest))


def arguments() -> dict[str, Any]:
    return {
        "counts": np.array([3, 4, 1, 2]),
        "reward_sums": np.array([1.0, 2.0, 1.0, 0.0]),
        "arms": np.array([1, 0, 1, 3]),
        "rewards": np.array([0.0, 1.0, 1.0, 1.0]),
        "outcomes": np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]] * 2),
    }


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("name", arguments())
def test_any_layout_gives_the_same_answer(name: str, kind: str) -> None:
    given_arguments = arguments()
    plain = bandit(**given_arguments)
    odd = hostile.SAME[kind](given_arguments[name])
    answer = bandit(**{**given_arguments, name: odd})
    for field, value in plain.items():
        np.testing.assert_array_equal(answer[field], value)


REFUSED = [
    (name, kind)
    for name in arguments()
    for kind in hostile.REFUSED
    if kind != "none_at_all" or name in {"counts", "reward_sums"}  # the others may be left out
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(name: str, kind: str) -> None:
    wrong = hostile.REFUSED[kind](arguments()[name])
    with pytest.raises((InvalidArgument, OutOfMemory), match=f"^{name}: "):
        bandit(**{**arguments(), name: wrong})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
@pytest.mark.parametrize("name", ["reward_sums", "rewards", "outcomes"])
def test_values_that_are_not_finite_are_refused_by_name(name: str, kind: str, policy: str) -> None:
    wrong = hostile.NOT_FINITE[kind](arguments()[name])
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        bandit(**{**arguments(), name: wrong}, policy=policy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy", "exp3"),
        ("counts", [3, -4, 1, 2]),
        ("counts", [2**61, 2**61, 1, 2**61]),
        ("counts", [3, 4, 1]),
        ("reward_sums", [1.0, 2.0, 1.0, 1e301]),
        ("reward_sums", [1.0, 2.0]),
        ("arms", [1, 0, 1, 4]),
        ("arms", [1, 0, 1, -1]),
        ("arms", None),
        ("rewards", None),
        ("rewards", [0.0, 1.0]),
        ("rewards", [0.0, 1.0, 1.0, 1e291]),
        ("outcomes", [[1.0, 2.0, 3.0]]),
        ("outcomes", [[1.0, 2.0, 3.0, -1e291]]),
        ("exploration", -0.1),
        ("exploration", math.inf),
        ("epsilon", 1.1),
        ("epsilon", math.nan),
        ("temperature", 0.0),
        ("temperature", math.nan),
        ("prior_alpha", 0.0),
        ("prior_beta", math.inf),
        ("seed", -1),
        ("seed", 2**64),
        ("step", -1),
        ("num_selections", -1),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    rest = {**arguments(), name: value}
    if name == "num_selections":
        del rest["outcomes"]
    other = {"arms": "rewards", "rewards": "arms"}.get(name) if value is None else None
    named = "reward_sums" if name == "counts" and len(value) == 3 else other or name
    with pytest.raises(InvalidArgument, match=f"^{named}: .*, expected "):
        bandit(**rest)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_sums", [1.0, 4.5, 1.0, 0.0]),
        ("reward_sums", [1.0, -0.5, 1.0, 0.0]),
        ("rewards", [0.0, 1.0, 1.0001, 1.0]),
        ("outcomes", [[0.0, 1.0, -0.0001, 1.0]]),
    ],
)
def test_thompson_refuses_rewards_outside_the_unit_interval(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        bandit(**{**arguments(), name: value}, policy="thompson")


def test_a_sum_without_pulls_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^reward_sums: 2\.5 in 0 pulls of arm 1"):
        bandit([1, 0], [0.5, 2.5])


def test_no_arms_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^counts: "):
        bandit(np.empty(0, int), np.empty(0))


@pytest.mark.parametrize("policy", POLICIES)
def test_inputs_stay_untouched(policy: str) -> None:
    given_arguments = arguments()
    bandit(**given_arguments, policy=policy)
    for name, before in arguments().items():
        np.testing.assert_array_equal(given_arguments[name], before)
