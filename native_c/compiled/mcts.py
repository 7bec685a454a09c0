"""The tree-search kernels in C: see include/mcts.h."""

from numpy import float64, int64
from numpy.typing import NDArray

from native_c.compiled import NULL, f64, i64, lib
from native_c.errors import check


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
    n_nodes, n_children = visits.shape
    check(
        lib.nc_mcts_ucb1_selection(
            n_nodes,
            n_children,
            i64(visits),
            f64(value_sums),
            i64(parent_visits),
            NULL if child_counts is None else i64(child_counts),
            exploration,
            f64(scores),
            i64(chosen),
        )
    )
