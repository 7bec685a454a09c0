"""The optimization kernels in C: see include/optimization.h."""

from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

from native_c.bandit import POLICIES, Bandit
from native_c.compiled import NULL, f64, ffi, i64, lib
from native_c.errors import check

#: Arms that are scored in about 5 ms, steps times arms.
BANDIT_GRAIN = 2**18


_BANDIT = ffi.typeof("nc_bandit *")


def bandit_observe(
    arms: NDArray[int64],
    rewards: NDArray[float64],
    counts: NDArray[int64],
    reward_sums: NDArray[float64],
) -> None:
    """Fold observed rewards [m] into `counts` and `reward_sums` [k], in their order."""
    status = lib.nc_optimization_bandit_observe(
        arms.size, i64(arms), f64(rewards), counts.size, i64(counts), f64(reward_sums)
    )
    if status:
        check(status)


def bandit_steps(
    bandit: Bandit,
    first_step: int,
    outcomes: NDArray[float64] | None,
    counts: NDArray[int64],
    reward_sums: NDArray[float64],
    means: NDArray[float64],
    chosen: NDArray[int64],
    rewards: NDArray[float64],
) -> None:
    """Fill `chosen` [n] step by step.

    With `outcomes` [n, k] fill `rewards` [n] too and learn, else count only the choices of UCB1.
    """
    status = lib.nc_optimization_bandit_steps(
        _struct(bandit),
        counts.size,
        chosen.size,
        first_step,
        NULL if outcomes is None else f64(outcomes),
        i64(counts),
        f64(reward_sums),
        f64(means),
        i64(chosen),
        f64(rewards),
    )
    if status:
        check(status)


def bandit_scores(
    bandit: Bandit,
    counts: NDArray[int64],
    reward_sums: NDArray[float64],
    means: NDArray[float64],
    scores: NDArray[float64],
) -> None:
    """Fill `scores` [k] with what the policy thinks of each arm."""
    status = lib.nc_optimization_bandit_scores(
        _struct(bandit), counts.size, i64(counts), f64(reward_sums), f64(means), f64(scores)
    )
    if status:
        check(status)


def _struct(bandit: Bandit) -> Any:
    return ffi.new(_BANDIT, (POLICIES.index(bandit.policy), *bandit[1:]))
