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
    visited = visits > 0
    if not (
        (visits >= 0).all()
        and np.isfinite(value_sums).all()
        and (parent_visits >= visited.any(axis=1)).all()
        and ((counts >= 0) & (counts <= num_children)).all()
    ):
        raise InvalidArgument
    with np.errstate(divide="ignore", invalid="ignore"):
        log_parent = elementary.log(parent_visits.astype(float64))[:, None]
        scores[:] = value_sums / visits + exploration * np.sqrt(log_parent / visits)
    scores[~visited] = np.inf
    scores[np.arange(num_children) >= counts[:, None]] = -np.inf
    chosen[:] = scores.argmax(axis=1) if num_children else -1
    chosen[counts == 0] = -1
