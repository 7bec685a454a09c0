"""A bandit's policy and its parameters: the value that both twins of its kernels take."""

from dataclasses import dataclass
from typing import Final

#: The policies by name, in the order of enum nc_bandit_policy.
POLICIES: Final = ("ucb1", "thompson", "epsilon_greedy", "softmax")

#: The stream of the bandits' random numbers; streams keep operations with one seed apart.
STREAM: Final = 1


@dataclass(frozen=True, kw_only=True)
class Bandit:
    """How to choose; include/optimization.h says what each field means and may be."""

    policy: str
    exploration: float
    epsilon: float
    temperature: float
    prior_alpha: float
    prior_beta: float
    seed: int
