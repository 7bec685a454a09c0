"""Facade of the tree-search kernels: checks and prepares arguments, allocates results."""

import math
from typing import Any, NoReturn

import numpy as np
from numpy import empty

from native_c import backend
from native_c.arrays import (
    FLOAT64,
    INT64,
    as_array,
    require_between,
    require_finite,
    require_shape,
)
from native_c.errors import InvalidArgument
from native_c.scalars import as_float


def ucb1_selection(
    visits: object,
    value_sums: object,
    parent_visits: object,
    exploration: float = math.sqrt(2.0),
    child_counts: object = None,
) -> dict[str, Any]:
    """Score the children of n nodes by UCB1 and choose the best one of each.

    The score is `value_sum / visits + exploration * sqrt(log(parent_visits) / visits)`: Auer,
    Cesa-Bianchi and Fischer, "Finite-time analysis of the multiarmed bandit problem", 2002.

    `visits` [n, k] are whole numbers, `value_sums` [n, k] finite, `parent_visits` [n] at least 1
    where a child has visits, `exploration` zero or more, and `child_counts` [n], 0 to k, says how
    many children each node has, counted from its first (default: all k).

    Returns `scores` [n, k], inf for a child without visits and -inf beyond `child_counts`, and
    `chosen` [n], the lowest index of the highest score, -1 for a node without children. Raises
    InvalidArgument where a shape or a range is not kept.
    """
    visits = as_array("visits", visits, INT64, 2)
    value_sums = as_array("value_sums", value_sums, FLOAT64, 2)
    parent_visits = as_array("parent_visits", parent_visits, INT64, 1)
    shape = visits.shape
    num_nodes = shape[0]
    if value_sums.shape != shape or len(parent_visits) != num_nodes:
        require_shape("value_sums", value_sums, shape, "visits")
        require_shape("parent_visits", parent_visits, shape[:1], "the rows of visits")
    if child_counts is not None:
        child_counts = as_array("child_counts", child_counts, INT64, 1)
        require_shape("child_counts", child_counts, shape[:1], "the rows of visits")
    exploration = as_float("exploration", exploration, 0)
    scores = empty(shape)
    chosen = empty(num_nodes, INT64)
    try:
        backend.current().mcts.ucb1_selection(
            visits, value_sums, parent_visits, child_counts, exploration, scores, chosen
        )
    except InvalidArgument:
        _refuse_ucb1_selection(visits, value_sums, parent_visits, child_counts)
    return {"scores": scores, "chosen": chosen}


def _refuse_ucb1_selection(
    visits: Any, value_sums: Any, parent_visits: Any, child_counts: Any
) -> NoReturn:
    """Say which range is not kept: the kernels see that in passing, but not where."""
    require_between("visits", visits, low=0)
    require_finite("value_sums", value_sums)
    require_between("parent_visits", parent_visits, low=0)
    visited = visits > 0
    if child_counts is not None:
        require_between("child_counts", child_counts, 0, visits.shape[1])
        visited &= np.arange(visits.shape[1]) < child_counts[:, None]
    orphan = int(np.argmax(visited.any(axis=1) & (parent_visits == 0)))
    expected = "at least 1 where a child has visits"
    raise InvalidArgument(
        f"parent_visits: {parent_visits[orphan]} at [{orphan}], expected {expected}"
    )


#: Small cases on which the C kernels must agree with NumPy before they are used.
SELF_TEST = (
    (
        ucb1_selection,
        {
            "visits": [[3, 0, 9], [4, 4, 1]],
            "value_sums": [[1.5, 0.0, -2.0], [2.0, 2.0, 0.25]],
            "parent_visits": [12, 9],
            "child_counts": [3, 2],
        },
    ),
)
