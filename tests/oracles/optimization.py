"""What MABWiser and TreeQuest answer for the `optimization` family."""

import math
from typing import Any, Final

import numpy as np

from tests.oracles.table import Table


def history(
    *, seed: int, num_arms: int, num_pulls: int, is_binary: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Make a request for multi_armed_bandit that folds random pulls into an empty state."""
    rng = np.random.Generator(np.random.PCG64(seed))
    arms = rng.integers(0, num_arms, num_pulls)
    # The first pulls go round, so that every arm has one: where there is none, MABWiser's UCB1
    # expects 0 of an arm and ours infinity.
    arms[:num_arms] = np.arange(num_arms)
    rewards = rng.random(num_pulls) * (0.5 + arms / num_arms)
    return {
        "counts": np.zeros(num_arms, np.int64),
        "reward_sums": np.zeros(num_arms),
        "arms": arms,
        "rewards": np.where(rewards > 0.5, 1.0, 0.0) if is_binary else rewards,
    } | arguments


def learn_by_mabwiser(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by MABWiser: what it expects of each arm, and its choice where that is no chance."""
    from mabwiser.mab import MAB, LearningPolicy

    policy = {
        # Its exploration term is alpha * sqrt(2 log(pulls) / count).
        "ucb1": lambda: LearningPolicy.UCB1(request["exploration"] / math.sqrt(2.0)),
        "epsilon_greedy": lambda: LearningPolicy.EpsilonGreedy(request["epsilon"]),
        "softmax": lambda: LearningPolicy.Softmax(request["temperature"]),
        "thompson": LearningPolicy.ThompsonSampling,
    }[request["policy"]]()
    arms = list(range(request["counts"].size))
    bandit = MAB(arms, policy)
    bandit.fit(request["arms"], request["rewards"])
    # The public predictions of softmax and Thompson are draws; what is drawn from is in here.
    learned: Any = bandit._imp
    if request["policy"] == "thompson":
        won, lost = (
            np.array([counts[arm] for arm in arms])
            for counts in (learned.arm_to_success_count, learned.arm_to_fail_count)
        )
        return {"counts": won + lost - 2, "reward_sums": won - 1.0, "scores": won / (won + lost)}
    answer = {
        "counts": [int(learned.arm_to_count[arm]) for arm in arms],
        "reward_sums": [float(learned.arm_to_sum[arm]) for arm in arms],
    }
    expected = np.array([learned.arm_to_expectation[arm] for arm in arms])
    if request["policy"] == "epsilon_greedy":
        return answer | {"means": expected, "chosen": [bandit.predict()]}
    if request["policy"] == "ucb1":
        return answer | {"scores": expected, "chosen": [bandit.predict()]}
    return answer | {"scores": expected}


def replay(*, seed: int, num_arms: int, num_steps: int, exploration: float) -> dict[str, Any]:
    """Make a request for multi_armed_bandit that plays UCB1 against random outcomes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return {
        "counts": np.zeros(num_arms, np.int64),
        "reward_sums": np.zeros(num_arms),
        "outcomes": rng.random((num_steps, num_arms)) * (np.arange(num_arms) + 1.0) / num_arms,
        "policy": "ucb1",
        "exploration": exploration,
    }


def play_by_treequest(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by playing TreeQuest's MultiArmedBanditUCBAlgo step by step."""
    from treequest.algos.multi_armed_bandit_ucb import MultiArmedBanditUCBAlgo

    outcomes = request["outcomes"]
    num_arms = outcomes.shape[1]
    bandit = MultiArmedBanditUCBAlgo(exploration_weight=request["exploration"])
    tree, chosen = bandit.init_tree(), []

    def pull(arm: int) -> Any:
        def play(_: object) -> tuple[str, float]:
            chosen.append(arm)
            return "a node", float(outcomes[len(chosen) - 1, arm])

        return play

    # A zero before each number: were the actions ever sorted, then as numbers.
    actions = {f"{arm:04d}": pull(arm) for arm in range(num_arms)}
    for _ in outcomes:
        tree = bandit.step(tree, actions, inplace=True)
    counts = np.bincount(chosen, minlength=num_arms)
    return {"chosen": chosen, "counts": counts}


_STATE: Final = {"num_arms": 7, "num_pulls": 300}

TABLES: Final = (
    Table(
        name="optimization_mabwiser_policies",
        operation="optimization.multi_armed_bandit",
        oracle=("mabwiser",),
        cases={
            "ucb1": _STATE | {"seed": 1, "policy": "ucb1", "exploration": math.sqrt(2.0)},
            "timid ucb1": _STATE | {"seed": 2, "policy": "ucb1", "exploration": 0.25},
            "ucb1 after one pull each": _STATE
            | {"seed": 3, "num_pulls": 7, "policy": "ucb1", "exploration": 3.0},
            "the greedy arm": _STATE | {"seed": 4, "policy": "epsilon_greedy", "epsilon": 0.0},
            "softmax": _STATE
            | {"seed": 5, "policy": "softmax", "temperature": 0.3, "num_selections": 0},
            "cold softmax": _STATE
            | {"seed": 6, "policy": "softmax", "temperature": 0.01, "num_selections": 0},
            "hot softmax of many arms": {
                "seed": 7,
                "num_arms": 60,
                "num_pulls": 900,
                "policy": "softmax",
                "temperature": 20.0,
                "num_selections": 0,
            },
            "thompson's posteriors": _STATE
            | {"seed": 8, "is_binary": True, "policy": "thompson", "num_selections": 0},
        },
        request=history,
        answer=learn_by_mabwiser,
        within={
            "reward_sums": (1e-13, 0.0),
            "means": (1e-13, 0.0),
            "scores": (1e-12, 1e-300),
        },
    ),
    Table(
        name="optimization_treequest_ucb",
        operation="optimization.multi_armed_bandit",
        oracle=("treequest",),
        cases={
            "textbook": {
                "seed": 1,
                "num_arms": 6,
                "num_steps": 500,
                "exploration": math.sqrt(2.0),
            },
            "timid": {"seed": 2, "num_arms": 9, "num_steps": 300, "exploration": 0.2},
            "bold": {"seed": 3, "num_arms": 30, "num_steps": 300, "exploration": 8.0},
        },
        request=replay,
        answer=play_by_treequest,
        within={},
    ),
)
