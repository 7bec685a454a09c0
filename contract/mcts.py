"""Requests and results of the `mcts` family: tree search for agents."""

import math
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from contract.arrays import Array, refuse_unless
from contract.operation import Operation, Result, request, result

__all__ = ["Ucb1SelectionRequest", "Ucb1SelectionResult", "ucb1_selection"]


@request
class Ucb1SelectionRequest:
    """Score the children of n nodes by UCB1 and choose one child of each node.

    The score of a visited child is its mean value plus `exploration * sqrt(log(parent) / visits)`
    (Auer, Cesa-Bianchi and Fischer 2002; Kocsis and Szepesvari 2006). A child without visits scores
    infinity, so it is tried first; equal scores go to the lowest index.
    """

    #: Visits of each child, [n, k], whole numbers, zero or more.
    visits: Annotated[ArrayLike, Array("i8", ndim=2, ge=0)]
    #: Sum of the values that came back through each child, [n, k], finite.
    value_sums: Annotated[ArrayLike, Array("f8", ndim=2, finite=True)]
    #: Visits of each node itself, [n], whole numbers; at least 1 where a child was visited.
    parent_visits: Annotated[ArrayLike, Array("i8", ndim=1, ge=0)]
    #: Weight of the exploration term, zero or more. Defaults to the square root of 2.
    exploration: Annotated[float, Field(ge=0, allow_inf_nan=False)] = math.sqrt(2)
    #: Number of children that each node really has, [n], each in [0, k]: the columns beyond do not
    #: count. Defaults to k for every node.
    child_counts: Annotated[ArrayLike | None, Array("i8", ndim=1, ge=0)] = None

    def __post_init__(self) -> None:
        """Check what the arguments must be for one another."""
        visits, sums = np.asarray(self.visits), np.asarray(self.value_sums)
        parents = np.asarray(self.parent_visits)
        num_nodes, num_children = visits.shape
        was, expected = f"shape {list(sums.shape)}", f"{list(visits.shape)} as visits"
        refuse_unless(sums.shape == visits.shape, "value_sums", was, expected)
        _refuse_other_length("parent_visits", parents, num_nodes)
        visited = visits > 0
        if self.child_counts is not None:
            counts = np.asarray(self.child_counts)
            _refuse_other_length("child_counts", counts, num_nodes)
            most, expected = int(counts.max(initial=0)), f"at most {num_children}"
            refuse_unless(most <= num_children, "child_counts", f"{most}", expected)
            visited &= np.arange(num_children) < counts[:, None]
        orphans = (parents < 1) & visited.any(axis=1)
        was = f"0 at node {int(np.argmax(orphans))}" if orphans.any() else ""
        refuse_unless(not was, "parent_visits", was, "at least 1 where a child was visited")


@result
class Ucb1SelectionResult(Result):
    """The UCB1 score of every child and the child to visit next."""

    #: Score of each child, [n, k]; infinity without visits, minus infinity beyond `child_counts`.
    scores: Annotated[NDArray[np.float64], Array("f8", ndim=2)]
    #: Index of the child with the highest score, [n]; -1 for a node without children.
    chosen: Annotated[NDArray[np.int64], Array("i8", ndim=1)]


ucb1_selection = Operation("mcts.ucb1_selection", Ucb1SelectionRequest, Ucb1SelectionResult)


def _refuse_other_length(argument: str, array: NDArray[np.int64], num_nodes: int) -> None:
    was, expected = f"{array.size} elements", f"{num_nodes}, one for each row of visits"
    refuse_unless(array.size == num_nodes, argument, was, expected)
