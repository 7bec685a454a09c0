"""Benchmarks of the tree-search kernels: each case checks its answer, then times it beside a peer.

`python -m benchmarks.mcts` prints the records; every figure is the least of many runs, on one
thread, of the kernel's facade alone: no queue.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import native_c
from native_c import mcts

#: Nodes and children of each case.
SHAPES: Final = ((1_000, 5), (100_000, 5))

#: Seconds that one figure may take, and runs it has at most.
_SECONDS: Final = 1.0
_RUNS: Final = 2_000

Tree = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def tree(num_nodes: int, num_children: int) -> Tree:
    """Return visits, value sums and parent visits, with one child in ten unvisited."""
    rng = np.random.default_rng(7)
    visits = rng.integers(1, 100, (num_nodes, num_children))
    visits[rng.random(visits.shape) < 0.1] = 0
    return visits, visits * rng.random(visits.shape), visits.sum(axis=1) + 1


def by_numpy(visits: Any, value_sums: Any, parent_visits: Any) -> tuple[Any, Any]:
    """Score and choose with vector expressions over all nodes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(2.0 * np.log(parent_visits)[:, None] / visits)
        scores = np.where(visits > 0, value_sums / visits + spread, math.inf)
    return scores, scores.argmax(axis=1)


def verify(arguments: Tree) -> None:
    """Raise AssertionError unless scores and choices are NumPy's."""
    ours, (scores, chosen) = mcts.ucb1_selection(*arguments), by_numpy(*arguments)
    np.testing.assert_allclose(ours["scores"], scores, rtol=1e-13)
    np.testing.assert_array_equal(ours["chosen"], chosen)


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
    """Yield a record for each case: ours, NumPy's, and the ratio (above 1: ours is better)."""
    native_c.set_threads(1)
    for num_nodes, num_children in SHAPES:
        arguments = tree(num_nodes, num_children)
        verify(arguments)
        ours = least_milliseconds(lambda case=arguments: mcts.ucb1_selection(*case))  # type: ignore[misc]
        theirs = least_milliseconds(lambda case=arguments: by_numpy(*case))  # type: ignore[misc]
        yield {
            "operation": "mcts.ucb1_selection",
            "case": f"{num_nodes:,} nodes x {num_children} children",
            "metric": "time",
            "unit": "ms",
            "ours": ours,
            "peer": "NumPy, vector expressions",
            "peer_value": theirs,
            "threads": 1,
            "better": "lower",
            "ratio": theirs / ours,
            "bar": 1.0,
        }


if __name__ == "__main__":
    for record in records():
        print(json.dumps(record))
