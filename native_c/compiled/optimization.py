"""The optimization kernels in C: see include/optimization.h."""

from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

from native_c.bandit import POLICIES, Bandit
from native_c.compiled import NULL, f64, ffi, i64, lib
from native_c.errors import check

#: Arms that are scored in about 5 ms, steps times arms.
BANDIT_GRAIN = 2**18
#: Arms beyond which a step of Thompson sampling, of 15 to 50 ms then, is made in parts, and the
#: most arms of a part: their work space stays in the cache.
BANDIT_ROW = 2**18
BANDIT_PART = 2**14

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


def bandit_draw(
    bandit: Bandit,
    step: int,
    first_arm: int,
    counts: NDArray[int64],
    reward_sums: NDArray[float64],
) -> tuple[float, int]:
    """Return the highest odds, and the arm, of Thompson's draws for the arms from `first_arm`."""
    highest, arm = ffi.new("double *"), ffi.new("int64_t *")
    status = lib.nc_optimization_bandit_draw(
        _struct(bandit),
        step,
        first_arm,
        counts.size,
        i64(counts),
        f64(reward_sums),
        highest,
        arm,
    )
    if status:
        check(status)
    return highest[0], arm[0]


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
