"""The tree-search kernels in NumPy."""

import numpy as np
from numpy import float64, int64
from numpy.typing import NDArray

from native_c.errors import InvalidArgument
from native_c.fallback import elementary


def ucb1_selection(
    visits: NDArray[int64],
    value_sums: NDArray[float64],
    parent_visits: NDArray[int64],
    child_counts: NDArray[int64] | None,
    exploration: float,
    scores: NDArray[float64],
    chosen: NDArray[int64],
) -> None:
    """Fill `scores` [n, k] and `chosen` [n]; InvalidArgument where a range is not kept."""
    num_nodes, num_children = visits.shape
    counts = np.full(num_nodes, num_children) if child_counts is None else child_counts
    exists = np.arange(num_children) < counts[:, None]
    if not (
        (visits >= 0).all()
        and np.isfinite(value_sums).all()
        and ((counts >= 0) & (counts <= num_children)).all()
        and (parent_visits >= ((visits > 0) & exists).any(axis=1)).all()
    ):
        raise InvalidArgument
    log_parent = elementary.log(parent_visits.astype(float64))[:, None]
    with np.errstate(all="ignore"):
        scores[:] = value_sums / visits + exploration * np.sqrt(log_parent / visits)
    scores[visits == 0] = np.inf
    scores[~exists] = -np.inf
    chosen[:] = scores.argmax(axis=1) if num_children else -1
    chosen[counts == 0] = -1
