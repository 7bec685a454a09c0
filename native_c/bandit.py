"""A bandit's policy and its parameters: the value that both twins of its kernels take."""

from typing import Final, NamedTuple

#: The policies by name, in the order of enum nc_bandit_policy.
POLICIES: Final = ("ucb1", "thompson", "epsilon_greedy", "softmax")

#: The stream of the bandits' random numbers; streams keep operations with one seed apart.
STREAM: Final = 1


class Bandit(NamedTuple):
    """How to choose; the fields of nc_bandit, in its order, of include/optimization.h."""

    policy: str
    exploration: float
    epsilon: float
    temperature: float
    prior_alpha: float
    prior_beta: float
    seed: int
