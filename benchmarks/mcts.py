"""Cases of the tree-search kernels."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Call, Case, Peer
from native_c import mcts

NUM_CHILDREN: Final = 5

Visits = NDArray[np.int64]
Sums = NDArray[np.float64]


def tree(num_nodes: int) -> tuple[Visits, Sums, Visits]:
    """Return visits, value sums and parent visits, with one child in ten unvisited."""
    rng = np.random.default_rng(7)
    visits = rng.integers(1, 100, (num_nodes, NUM_CHILDREN))
    visits[rng.random(visits.shape) < 0.1] = 0
    return visits, visits * rng.random(visits.shape), visits.sum(axis=1) + 1


def ours(visits: Visits, value_sums: Sums, parent_visits: Visits) -> Call:
    """Score and choose."""
    return lambda: mcts.ucb1_selection(visits, value_sums, parent_visits)


def numpy(visits: Visits, value_sums: Sums, parent_visits: Visits) -> Call:
    """Score and choose with vector expressions over all nodes."""
    return lambda: numpy_selection(visits, value_sums, parent_visits)


def numpy_selection(visits: Visits, value_sums: Sums, parent_visits: Visits) -> tuple[Any, Any]:
    """Return scores [n, k] and choices [n]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(2.0 * np.log(parent_visits)[:, None] / visits)
        scores = np.where(visits > 0, value_sums / visits + spread, math.inf)
    return scores, scores.argmax(axis=1)


def verify(answer: dict[str, Any], *data: Any) -> None:
    """Compare with NumPy: the scores within rounding, the choices exactly."""
    agrees(numpy_selection(*data), answer)


def agrees(theirs: tuple[Any, Any], ours: dict[str, Any]) -> None:
    """Compare scores and choices."""
    scores, chosen = theirs
    np.testing.assert_allclose(ours["scores"], scores, rtol=1e-13)
    np.testing.assert_array_equal(ours["chosen"], chosen)


CASES: Final = (
    Case(
        operation="mcts.ucb1_selection",
        name=f"{NUM_CHILDREN} children each",
        data=tree,
        sizes=(1_000, 10_000, 100_000),
        unit="nodes",
        ours=ours,
        verify=verify,
        peers=(Peer("NumPy, vector expressions", "numpy", numpy, agrees, bars={1_000: 6.0}),),
        element="node",
    ),
)
