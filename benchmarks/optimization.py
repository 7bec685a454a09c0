"""Benchmarks of the optimization kernels: each case checks its answer, then times it beside a peer.

`python -m benchmarks.optimization` prints the records; every figure is the least of many runs, on
one thread, of the kernel's facade alone: no queue.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import native_c
from native_c import optimization

NUM_STEPS: Final = 1_000
NUM_ARMS: Final = 20

#: Seconds that one figure may take, and runs it has at most.
_SECONDS: Final = 1.0
_RUNS: Final = 500


def outcomes() -> NDArray[np.float64]:
    """Return what each arm pays at each step: 0 or 1, from one time in ten to nine in ten."""
    chances = np.linspace(0.1, 0.9, NUM_ARMS)
    draws = np.random.default_rng(7).random((NUM_STEPS, NUM_ARMS))
    return (draws < chances).astype(float)


def ours(policy: str, paid: NDArray[np.float64]) -> dict[str, Any]:
    """Replay the outcomes under a policy."""
    zeros = np.zeros(NUM_ARMS, np.int64)
    return native_c.run(optimization.multi_armed_bandit(zeros, zeros, policy, outcomes=paid))


def ucb1_by_numpy(paid: NDArray[np.float64]) -> NDArray[np.int64]:
    """Play UCB1 with one vector expression a step."""
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


def ucb1_by_numba() -> Callable[[NDArray[np.float64]], NDArray[np.int64]] | None:
    """Return UCB1 as a compiled loop, where numba is here."""
    try:
        import numba  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None

    def play(paid: NDArray[np.float64]) -> NDArray[np.int64]:
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

    compiled: Callable[[NDArray[np.float64]], NDArray[np.int64]] = numba.njit(play)
    return compiled


def thompson_by_numpy(paid: NDArray[np.float64]) -> NDArray[np.int64]:
    """Play Thompson sampling with one vector draw a step."""
    rng = np.random.default_rng(1)
    alphas, betas = np.ones(NUM_ARMS), np.ones(NUM_ARMS)
    chosen = np.empty(len(paid), np.int64)
    for step, row in enumerate(paid):
        arm = int(np.argmax(rng.beta(alphas, betas)))
        chosen[step] = arm
        alphas[arm] += row[arm]
        betas[arm] += 1.0 - row[arm]
    return chosen


def verify(paid: NDArray[np.float64]) -> None:
    """Raise AssertionError unless UCB1 plays as the loop, and Thompson wins as much as NumPy's."""
    np.testing.assert_array_equal(ours("ucb1", paid)["chosen"], ucb1_by_numpy(paid))
    won = [ours("thompson", paid)["rewards"].sum()]
    won.append(paid[np.arange(NUM_STEPS), thompson_by_numpy(paid)].sum())
    assert min(won) > 0.93 * max(won)


def least_milliseconds(call: Callable[[], object]) -> float:
    """Return the least time of a call, in milliseconds."""
    call()
    best, start = float("inf"), time.perf_counter()
    for _ in range(_RUNS):
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended - start > _SECONDS:
            break
    return best * 1e3


def records() -> Iterator[dict[str, Any]]:
    """Yield a record for each case and peer; a ratio above 1 means that ours is better."""
    paid = outcomes()
    verify(paid)
    loop = ucb1_by_numba()
    peers: list[tuple[str, str, Callable[[NDArray[np.float64]], object], float]] = [
        ("ucb1", "NumPy, one expression a step", ucb1_by_numpy, 40.0),
        ("thompson", "NumPy, Generator.beta a step", thompson_by_numpy, 20.0),
    ]
    if loop is not None:
        peers.append(("ucb1", "numba.njit loop", loop, 1.0))
    for policy, peer, call, bar in peers:
        mine = least_milliseconds(lambda policy=policy: ours(policy, paid))  # type: ignore[misc]
        theirs = least_milliseconds(lambda call=call: call(paid))  # type: ignore[misc]
        yield {
            "operation": "optimization.multi_armed_bandit",
            "case": f"{policy}, {NUM_STEPS:,} steps x {NUM_ARMS} arms, replay",
            "metric": "time",
            "unit": "ms",
            "ours": mine,
            "peer": peer,
            "peer_value": theirs,
            "threads": 1,
            "better": "lower",
            "ratio": theirs / mine,
            "bar": bar,
        }


if __name__ == "__main__":
    for record in records():
        print(json.dumps(record))
