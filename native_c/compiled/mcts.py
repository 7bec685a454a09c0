"""The tree-search kernels in C: see include/mcts.h."""

from numpy import float64, int64
from numpy.typing import NDArray

from native_c.compiled import F64, I64, NULL, from_buffer, lib
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
    status = lib.nc_mcts_ucb1_selection(
        n_nodes,
        n_children,
        from_buffer(I64, visits),
        from_buffer(F64, value_sums),
        from_buffer(I64, parent_visits),
        NULL if child_counts is None else from_buffer(I64, child_counts),
        exploration,
        from_buffer(F64, scores),
        from_buffer(I64, chosen),
    )
    if status:
        check(status)
