"""Cases of the optimization kernels."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import native_c
from benchmarks.case import Call, Case, Peer
from native_c import optimization

NUM_ARMS: Final = 20

Paid = NDArray[np.float64]
Chosen = NDArray[np.int64]
Answer = dict[str, Any]


def outcomes(num_steps: int) -> tuple[Paid]:
    """Return what each arm pays at each step: 0 or 1, from one time in ten to nine in ten."""
    chances = np.linspace(0.1, 0.9, NUM_ARMS)
    draws = np.random.default_rng(7).random((num_steps, NUM_ARMS))
    return ((draws < chances).astype(float),)


def ours_ucb1(paid: Paid) -> Call:
    """Replay the outcomes under UCB1."""
    zeros = np.zeros(NUM_ARMS, np.int64)
    return lambda: native_c.run(
        optimization.multi_armed_bandit(zeros, zeros, "ucb1", outcomes=paid)
    )


def ours_thompson(paid: Paid) -> Call:
    """Replay the outcomes under Thompson sampling."""
    zeros = np.zeros(NUM_ARMS, np.int64)
    return lambda: native_c.run(
        optimization.multi_armed_bandit(zeros, zeros, "thompson", outcomes=paid)
    )


def numpy_ucb1(paid: Paid) -> Call:
    """Play UCB1 with one vector expression a step."""
    return lambda: ucb1_by_numpy(paid)


def ucb1_by_numpy(paid: Paid) -> Chosen:
    """Return the arm of each step."""
    counts, sums = np.zeros(NUM_ARMS), np.zeros(NUM_ARMS)
    chosen = np.empty(len(paid), np.int64)
    for step, row in enumerate(paid):
        if step < NUM_ARMS:
            arm = step
        else:
            arm = int(np.argmax(sums / counts + np.sqrt(2.0 * math.log(step) / counts)))
        chosen[step] = arm
        counts[arm] += 1
        sums[arm] += row[arm]
    return chosen


def numba_ucb1(paid: Paid) -> Call:
    """Play UCB1 in a compiled loop."""
    import numba

    play = numba.njit(ucb1_loop)
    return lambda: play(paid)


def ucb1_loop(paid: Paid) -> Chosen:
    """Return the arm of each step, in the subset of Python that numba compiles."""
    num_steps, num_arms = paid.shape
    counts, sums = np.zeros(num_arms), np.zeros(num_arms)
    chosen = np.empty(num_steps, np.int64)
    for step in range(num_steps):
        best, highest = 0, -math.inf
        log_pulls = 2.0 * math.log(max(step, 1))
        for arm in range(num_arms):
            bound = math.inf
            if counts[arm] > 0:
                bound = sums[arm] / counts[arm] + math.sqrt(log_pulls / counts[arm])
            if bound > highest:
                best, highest = arm, bound
        chosen[step] = best
        counts[best] += 1
        sums[best] += paid[step, best]
    return chosen


def numpy_thompson(paid: Paid) -> Call:
    """Play Thompson sampling with one vector draw a step."""
    return lambda: thompson_by_numpy(paid)


def thompson_by_numpy(paid: Paid) -> Chosen:
    """Return the arm of each step."""
    rng = np.random.default_rng(1)
    alphas, betas = np.ones(NUM_ARMS), np.ones(NUM_ARMS)
    chosen = np.empty(len(paid), np.int64)
    for step, row in enumerate(paid):
        arm = int(np.argmax(rng.beta(alphas, betas)))
        chosen[step] = arm
        alphas[arm] += row[arm]
        betas[arm] += 1.0 - row[arm]
    return chosen


def verify_ucb1(answer: Answer, paid: Paid) -> None:
    """Compare the arms with NumPy's, exactly, and the books with the arms."""
    np.testing.assert_array_equal(answer["chosen"], ucb1_by_numpy(paid))
    _verify_books(answer, paid)


def verify_thompson(answer: Answer, paid: Paid) -> None:
    """Check the books, and that no less is won than by NumPy's draws, up to chance."""
    _verify_books(answer, paid)
    won = paid[np.arange(len(paid)), thompson_by_numpy(paid)].sum()
    assert abs(answer["rewards"].sum() - won) < 4 * math.sqrt(len(paid))


def _verify_books(answer: Answer, paid: Paid) -> None:
    chosen = answer["chosen"]
    assert 0 <= chosen.min() <= chosen.max() < NUM_ARMS
    won = paid[np.arange(len(paid)), chosen]
    np.testing.assert_array_equal(answer["rewards"], won)
    np.testing.assert_array_equal(answer["counts"], np.bincount(chosen, minlength=NUM_ARMS))
    np.testing.assert_array_equal(answer["reward_sums"], np.bincount(chosen, won, NUM_ARMS))


def same_arms(theirs: Chosen, ours: Answer) -> None:
    """Compare the arms."""
    np.testing.assert_array_equal(theirs, ours["chosen"])


def as_many_steps(theirs: Chosen, ours: Answer) -> None:
    """Compare the number of steps, all that two streams of random numbers have in common."""
    assert theirs.shape == ours["chosen"].shape


CASES: Final = (
    Case(
        operation="optimization.multi_armed_bandit",
        name=f"UCB1, {NUM_ARMS} arms",
        data=outcomes,
        sizes=(100, 1_000, 10_000),
        unit="steps",
        ours=ours_ucb1,
        verify=verify_ucb1,
        peers=(
            Peer("NumPy, one expression a step", "numpy", numpy_ucb1, same_arms, {1_000: 40.0}),
            Peer("numba, compiled loop", "numba", numba_ucb1, same_arms, {1_000: 1.0}),
        ),
        element="step",
    ),
    Case(
        operation="optimization.multi_armed_bandit",
        name=f"Thompson, {NUM_ARMS} arms",
        data=outcomes,
        sizes=(100, 1_000, 10_000),
        unit="steps",
        ours=ours_thompson,
        verify=verify_thompson,
        peers=(
            Peer(
                "NumPy, Generator.beta a step",
                "numpy",
                numpy_thompson,
                as_many_steps,
                {1_000: 20.0},
            ),
        ),
        element="step",
    ),
)
