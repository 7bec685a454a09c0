"""Facade of the optimization kernels: checks and prepares arguments, allocates results."""

import math
import time
from collections.abc import Generator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from native_c import backend
from native_c.arrays import FLOAT64, INT64, as_array, require_between, require_shape
from native_c.bandit import POLICIES, Bandit
from native_c.errors import InvalidArgument
from native_c.scalars import as_choice, as_float, as_whole
from native_c.steps import Outcome, run

#: Largest magnitude of a reward and of a sum of rewards, so that no call overflows.
_MAX_REWARD: Final = 1e290
_MAX_REWARD_SUM: Final = 1e300
#: Most pulls of all arms together, and the largest step.
_MAX_PULLS: Final = 2**62

#: How long a kernel may keep the process before progress is reported: less than half of the 50 ms
#: that cancelling may wait, because a piece is cut by the speed of the one before.
_STEP_SECONDS: Final = 0.02
#: Observed rewards that are folded at once: about 2 ms in C, 20 in NumPy.
_OBSERVED: Final = 2**20


def multi_armed_bandit(
    counts: object,
    reward_sums: object,
    policy: str = "ucb1",
    arms: object = None,
    rewards: object = None,
    num_selections: int = 1,
    outcomes: object = None,
    exploration: float = math.sqrt(2.0),
    epsilon: float = 0.1,
    temperature: float = 0.1,
    prior_alpha: float = 1.0,
    prior_beta: float = 1.0,
    step: int = 0,
    seed: int = 0,
) -> Outcome:
    """Fold observed rewards into the state of k arms, then choose arms, or replay known outcomes.

    First the pairs of `arms` and `rewards` [m] enter the state, `counts` and `reward_sums` [k].
    Then `num_selections` arms are chosen from it, or, with `outcomes` [t, k], t arms one after the
    other, each paid and learned from. include/optimization.h has the formulas, and the ranges of
    the parameters of each `policy`: "ucb1" (`exploration`), "thompson" (`prior_alpha`,
    `prior_beta`), "epsilon_greedy" (`epsilon`) or "softmax" (`temperature`). `step` counts the
    choices made before and `seed` keys the random numbers, both zero or more.

    Returns `chosen` [n], `rewards` [n] (empty without outcomes), `counts`, `reward_sums`, `means`
    and `scores` [k] of the new state, and `step`; a long call is a generator of its progress.
    Raises InvalidArgument where a shape or a range is not kept.
    """
    bandit = Bandit(
        policy=as_choice("policy", policy, POLICIES),
        exploration=as_float("exploration", exploration, 0.0, 1e300),
        epsilon=as_float("epsilon", epsilon, 0.0, 1.0),
        temperature=as_float("temperature", temperature, 0.0),
        prior_alpha=as_float("prior_alpha", prior_alpha, 1e-300, 1e300),
        prior_beta=as_float("prior_beta", prior_beta, 1e-300, 1e300),
        seed=as_whole("seed", seed, 0, 2**64 - 1, "a whole number from 0 to 2**64 - 1"),
    )
    _require("temperature", bandit.temperature, bandit.temperature > 0.0, "above 0")
    step = as_whole("step", step, 0, _MAX_PULLS, "a whole number from 0 to 2**62")
    most = "a whole number, zero or more"
    num_selections = as_whole("num_selections", num_selections, 0, _MAX_PULLS, most)
    state = _read_state(bandit, counts, reward_sums)
    num_arms = state[0].size
    observed = _read_observed(bandit, arms, rewards, num_arms)
    if outcomes is not None:
        outcomes = as_array("outcomes", outcomes, FLOAT64, 2)
        require_shape("outcomes", outcomes, (len(outcomes), num_arms), "steps and counts")
        _check_rewards("outcomes", bandit, outcomes)
        num_selections = len(outcomes)
    kernels = backend.current().optimization
    # What is surely quick: a step costs as much as 64 arms more.
    first_piece = max(1, kernels.BANDIT_GRAIN // (64 + num_arms))
    steps = range(step, step + num_selections)
    work = _work(kernels, bandit, state, observed, outcomes, steps, first_piece)
    is_short = num_arms <= kernels.BANDIT_ROW and observed[0].size <= _OBSERVED
    is_quick = is_short and num_selections <= first_piece
    return run(work) if is_quick else work


def _require(name: str, was: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidArgument(f"{name}: {was}, expected {expected}")


def _read_state(
    bandit: Bandit, counts: object, reward_sums: object
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return copies of the state, which the kernels change in place."""
    pulls = as_array("counts", counts, INT64, 1).copy()
    sums = as_array("reward_sums", reward_sums, FLOAT64, 1).copy()
    _require("counts", "no elements", pulls.size > 0, "at least one arm")
    require_shape("reward_sums", sums, pulls.shape, "counts")
    if pulls.min() < 0:
        require_between("counts", pulls, low=0)
    if pulls.max() > _MAX_PULLS // pulls.size:
        total = pulls.sum(dtype=float)
        _require("counts", f"{total:.4g} pulls in all", total <= _MAX_PULLS, "at most 2**62")
    if sums.any():  # zeros, with which most bandits begin, suit any counts and policy
        require_between("reward_sums", sums, -_MAX_REWARD_SUM, _MAX_REWARD_SUM)
        _check_sums(bandit, pulls, sums)
    return pulls, sums


def _check_sums(bandit: Bandit, counts: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    beyond = (counts == 0) & (sums != 0)
    expected = "0 where there are no pulls"
    if bandit.policy == "thompson":
        beyond |= (sums < 0) | (sums > counts)
        expected = "from 0 to the number of pulls for the policy thompson"
    if beyond.any():
        arm = int(np.argmax(beyond))
        was = f"{sums[arm]} in {counts[arm]} pulls of arm {arm}"
        raise InvalidArgument(f"reward_sums: {was}, expected {expected}")


def _read_observed(
    bandit: Bandit, arms: object, rewards: object, num_arms: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if arms is None and rewards is None:
        return np.empty(0, np.int64), np.empty(0)
    alone = "arms" if rewards is None else "rewards"
    together = arms is not None and rewards is not None
    _require(alone, "given alone", together, "arms and rewards together")
    pulled = as_array("arms", arms, INT64, 1)
    paid = as_array("rewards", rewards, FLOAT64, 1)
    require_shape("rewards", paid, pulled.shape, "arms")
    require_between("arms", pulled, 0, num_arms - 1)
    _check_rewards("rewards", bandit, paid)
    return pulled, paid


def _check_rewards(name: str, bandit: Bandit, rewards: NDArray[np.float64]) -> None:
    low, high = (0.0, 1.0) if bandit.policy == "thompson" else (-_MAX_REWARD, _MAX_REWARD)
    # Two reductions without temporary arrays; a NaN fails them.
    if rewards.size and not (low <= rewards.min() and rewards.max() <= high):
        require_between(name, rewards, low, high)


def _work(
    kernels: Any,
    bandit: Bandit,
    state: tuple[NDArray[np.int64], NDArray[np.float64]],
    observed: tuple[NDArray[np.int64], NDArray[np.float64]],
    outcomes: NDArray[np.float64] | None,
    steps: range,
    piece: int,
) -> Generator[float, None, dict[str, Any]]:
    """Do the work in pieces and yield between them the part that is done."""
    (counts, reward_sums), (arms, rewards) = state, observed
    for first in range(0, arms.size, _OBSERVED):
        now = slice(first, first + _OBSERVED)
        kernels.bandit_observe(arms[now], rewards[now], counts, reward_sums)
        yield 0.5 * min(1.0, now.stop / arms.size)
    means = np.divide(reward_sums, counts, out=np.zeros(counts.size), where=counts > 0)
    chosen = np.empty(len(steps), np.int64)
    paid = np.empty(0 if outcomes is None else len(steps))
    # Without outcomes the pulls that the kernel counts are only its own way to spread a batch.
    known = (counts if outcomes is not None else counts.copy(), reward_sums, means)
    done, begun = 0, 0.5 if arms.size else 0.0
    if bandit.policy == "thompson" and counts.size > kernels.BANDIT_ROW:
        for part in _draw_in_parts(kernels, bandit, outcomes, steps, known, chosen, paid):
            yield begun + (1.0 - begun) * part
        done = len(steps)
    while done < len(steps):
        now = slice(done, min(done + piece, len(steps)))
        started = time.perf_counter()
        rows = None if outcomes is None else outcomes[now]
        kernels.bandit_steps(bandit, steps[done], rows, *known, chosen[now], paid[now])
        seconds = time.perf_counter() - started
        done = now.stop
        yield begun + (1.0 - begun) * done / len(steps)
        piece = max(1, int(piece * min(8.0, _STEP_SECONDS / max(seconds, 1e-9))))
    scores = np.empty(counts.size)
    kernels.bandit_scores(bandit, counts, reward_sums, means, scores)
    return {
        "chosen": chosen,
        "rewards": paid,
        "counts": counts,
        "reward_sums": reward_sums,
        "means": means,
        "scores": scores,
        "step": steps.stop,
    }


def _draw_in_parts(
    kernels: Any,
    bandit: Bandit,
    outcomes: NDArray[np.float64] | None,
    steps: range,
    known: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    chosen: NDArray[np.int64],
    paid: NDArray[np.float64],
) -> Generator[float, None, None]:
    """Do as `bandit_steps` of Thompson sampling, among so many arms that one step would be long.

    Yields the part that is done after each part of a step.
    """
    counts, reward_sums, means = known
    most = piece = kernels.BANDIT_PART
    for s, step in enumerate(steps):
        best, first = -math.inf, 0
        while first < counts.size:
            started = time.perf_counter()
            now = slice(first, first + piece)
            highest, arm = kernels.bandit_draw(bandit, step, first, counts[now], reward_sums[now])
            if highest > best:
                best, chosen[s] = highest, arm
            first = min(now.stop, counts.size)
            seconds = max(time.perf_counter() - started, 1e-9)
            piece = min(most, max(1, int(piece * min(8.0, _STEP_SECONDS / seconds))))
            yield (s + first / counts.size) / len(steps)
        if outcomes is not None:
            arm = chosen[s]
            paid[s] = outcomes[s, arm]
            counts[arm] += 1
            reward_sums[arm] += paid[s]
            means[arm] = reward_sums[arm] / counts[arm]


def _self_test() -> tuple[Any, ...]:
    outcomes = np.linspace(0.0, 1.0, 60).reshape(20, 3)[:, ::-1] ** 2
    state: dict[str, Any] = {"counts": [2, 0, 3], "reward_sums": [0.5, 0.0, 2.0], "seed": 9}
    replays = [state | {"policy": policy, "outcomes": outcomes} for policy in POLICIES]
    batch = state | {"arms": [1, 1], "rewards": [0.25, 1.0], "num_selections": 9}
    return tuple((multi_armed_bandit, request) for request in [*replays, batch])


#: Small cases on which the C kernels must agree with NumPy before they are used.
SELF_TEST = _self_test()
