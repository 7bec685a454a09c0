"""Requests and results of the `optimization` family: what to try next, given what was seen."""

import math
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from contract.arrays import Array, refuse_unless
from contract.operation import Operation, Result, request, result

__all__ = [
    "MAX_PULLS",
    "MAX_REWARD",
    "MAX_REWARD_SUM",
    "MAX_SELECTIONS",
    "MultiArmedBanditRequest",
    "MultiArmedBanditResult",
    "multi_armed_bandit",
]

#: Largest magnitude of one reward, and of a sum of rewards: no job can then overflow float64.
MAX_REWARD: Final = 1e290
MAX_REWARD_SUM: Final = 1e300
#: Most pulls of all arms together, and the largest step: both stay far inside int64.
MAX_PULLS: Final = 2**62
#: Most choices of one job: as many as fit into the largest array that travels.
MAX_SELECTIONS: Final = 2**25

_Rewards = Array("f8", ndim=1, ge=-MAX_REWARD, le=MAX_REWARD, finite=True)
_Outcomes = Array("f8", ndim=2, ge=-MAX_REWARD, le=MAX_REWARD, finite=True)
_RewardSums = Array("f8", ndim=1, ge=-MAX_REWARD_SUM, le=MAX_REWARD_SUM, finite=True)
_Prior = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@request
class MultiArmedBanditRequest:
    """Fold observed rewards into a bandit's state, then choose arms, or replay known outcomes.

    State in, state out: `counts`, `reward_sums` and `step` of the result are the arguments of the
    next call. First the observed pairs of `arms` and `rewards` enter the state. Then, without
    `outcomes`, `num_selections` arms are chosen from that state. With `outcomes`, each row is one
    step: choose an arm, receive what the row says that this arm pays, learn from it.

    Policies: "ucb1" (Auer, Cesa-Bianchi and Fischer 2002), "thompson" (Thompson 1933: Beta
    posteriors, rewards in [0, 1]), "epsilon_greedy" and "softmax" (Boltzmann). Equal scores go to
    the lowest index.
    """

    #: Pulls of each arm so far, [k], whole numbers, zero or more; at least one arm.
    counts: Annotated[ArrayLike, Array("i8", ndim=1, ge=0, min_size=1)]
    #: Sum of the rewards of each arm so far, [k], finite; 0 where the count is 0.
    reward_sums: Annotated[ArrayLike, _RewardSums]
    #: How arms are chosen. Defaults to "ucb1".
    policy: Literal["ucb1", "thompson", "epsilon_greedy", "softmax"] = "ucb1"
    #: Arms that were pulled since, [m], indices in [0, k), in order. Defaults to none.
    arms: Annotated[ArrayLike | None, Array("i8", ndim=1, ge=0)] = None
    #: What those pulls paid, [m], finite. Defaults to none.
    rewards: Annotated[ArrayLike | None, _Rewards] = None
    #: Number of arms to choose; 0 only updates the state. With `outcomes` its rows count instead.
    #: Defaults to 1.
    num_selections: Annotated[int, Field(ge=0, le=MAX_SELECTIONS)] = 1
    #: What each arm would pay at each step, [t, k], finite. Defaults to none.
    outcomes: Annotated[ArrayLike | None, _Outcomes] = None
    #: Weight of the exploration term of "ucb1", in [0, 1e300]. Defaults to the square root of 2.
    exploration: Annotated[float, Field(ge=0, allow_inf_nan=False)] = math.sqrt(2)
    #: Probability that "epsilon_greedy" picks an arm at random, in [0, 1]. Defaults to 0.1.
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.1
    #: Temperature of "softmax", in units of the reward, above zero. Defaults to 0.1.
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    #: First parameter of the Beta prior of "thompson", in [1e-300, 1e300]. Defaults to 1.
    prior_alpha: _Prior = 1.0
    #: Second parameter of the Beta prior of "thompson", in [1e-300, 1e300]. Defaults to 1.
    prior_beta: _Prior = 1.0
    #: Number of choices made before: where the streams of random numbers go on. Defaults to 0.
    step: Annotated[int, Field(ge=0, le=MAX_PULLS)] = 0
    #: Key of the random numbers. Defaults to 0.
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0

    def __post_init__(self) -> None:
        """Check what the arguments must be for one another."""
        counts, sums = np.asarray(self.counts), np.asarray(self.reward_sums)
        was = f"{sums.size} elements"
        refuse_unless(sums.size == counts.size, "reward_sums", was, f"{counts.size} as counts")
        nothing = np.argmax((counts == 0) & (sums != 0))
        was = f"{sums[nothing]} for arm {nothing} that was never pulled"
        refuse_unless(counts[nothing] or not sums[nothing], "reward_sums", was, "0")
        pulls = counts.sum(dtype=float)
        refuse_unless(pulls <= MAX_PULLS, "counts", f"{pulls:.4g} pulls in all", "at most 2**62")
        self._check_parameters()
        self._check_observed(counts.size)
        self._check_outcomes(counts.size)
        if self.policy == "thompson":
            self._check_unit_interval(counts, sums)

    def _check_parameters(self) -> None:
        exploration = self.exploration
        refuse_unless(exploration <= 1e300, "exploration", f"{exploration}", "at most 1e300")
        for name in ("prior_alpha", "prior_beta"):
            value = getattr(self, name)
            refuse_unless(1e-300 <= value <= 1e300, name, f"{value}", "from 1e-300 to 1e300")

    def _check_observed(self, num_arms: int) -> None:
        given = ["arms"] * (self.arms is not None) + ["rewards"] * (self.rewards is not None)
        refuse_unless(len(given) != 1, "".join(given), "given alone", "arms and rewards together")
        if self.arms is None or self.rewards is None:
            return
        arms, rewards = np.asarray(self.arms), np.asarray(self.rewards)
        was = f"{rewards.size} elements"
        refuse_unless(rewards.size == arms.size, "rewards", was, f"{arms.size} as arms")
        most = int(arms.max(initial=0))
        expected = f"below {num_arms}, the number of arms"
        refuse_unless(most < num_arms, "arms", f"index {most}", expected)

    def _check_outcomes(self, num_arms: int) -> None:
        if self.outcomes is None:
            return
        outcomes = np.asarray(self.outcomes)
        was, expected = f"{outcomes.shape[1]} columns", f"{num_arms}, one for each arm"
        refuse_unless(outcomes.shape[1] == num_arms, "outcomes", was, expected)
        agrees = self.num_selections in (1, len(outcomes))
        expected = f"nothing beside outcomes of {len(outcomes)} steps"
        refuse_unless(agrees, "num_selections", f"{self.num_selections}", expected)

    def _check_unit_interval(self, counts: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        for name, values in (("rewards", self.rewards), ("outcomes", self.outcomes)):
            seen = np.asarray(0.0 if values is None else values)
            outside = (seen < 0) | (seen > 1)
            was = f"{seen.flat[np.argmax(outside)]}" if outside.any() else ""
            refuse_unless(not was, name, was, "numbers in [0, 1] for the policy thompson")
        beyond = (sums < 0) | (sums > counts)
        arm = int(np.argmax(beyond))
        was = f"{sums[arm]} in {counts[arm]} pulls of arm {arm}"
        expected = "from 0 to the number of pulls for the policy thompson"
        refuse_unless(not beyond[arm], "reward_sums", was, expected)


@result
class MultiArmedBanditResult(Result):
    """The chosen arms, what they paid in a replay, and the state for the next call."""

    #: Chosen arms in order, [n].
    chosen: Annotated[NDArray[np.int64], Array("i8", ndim=1)]
    #: What the chosen arms paid, [n], from `outcomes`; empty without them.
    rewards: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: Pulls of each arm, [k], observed and replayed ones included.
    counts: Annotated[NDArray[np.int64], Array("i8", ndim=1)]
    #: Sum of the rewards of each arm, [k].
    reward_sums: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: Mean reward of each arm, [k]; 0 for an arm that was never pulled.
    means: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: What the policy thinks of each arm in that state, [k]: the upper confidence bound of "ucb1"
    #: (infinity for an arm never pulled), the posterior mean of "thompson", the probability that
    #: "epsilon_greedy" or "softmax" chooses the arm next.
    scores: Annotated[NDArray[np.float64], Array("f8", ndim=1)]
    #: Number of choices made so far: the argument `step` of the next call.
    step: int


multi_armed_bandit = Operation(
    "optimization.multi_armed_bandit", MultiArmedBanditRequest, MultiArmedBanditResult
)
