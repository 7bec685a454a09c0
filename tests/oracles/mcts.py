"""What OpenSpiel answers for the `mcts` family."""

import math
from typing import Any, Final

import numpy as np

from tests.oracles.table import Table


def nodes(
    *, seed: int, num_nodes: int, num_children: int, most_visits: int, **arguments: Any
) -> dict[str, Any]:
    """Make a request for ucb1_selection over random nodes, some children of which are unvisited."""
    rng = np.random.Generator(np.random.PCG64(seed))
    visits = rng.integers(0, most_visits, (num_nodes, num_children))
    visits[rng.random(visits.shape) < 0.05] = 0
    return {
        "visits": visits,
        "value_sums": (2.0 * rng.random(visits.shape) - 1.0) * visits,
        "parent_visits": visits.sum(axis=1) + 1,
    } | arguments


def score_by_uct(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by SearchNode.uct_value of OpenSpiel's search, and the best child by it."""
    from open_spiel.python.algorithms.mcts import SearchNode

    scores, chosen = [], []
    for row, sums, parent in zip(
        request["visits"].tolist(),
        request["value_sums"].tolist(),
        request["parent_visits"].tolist(),
        strict=True,
    ):
        children = [SearchNode(action, 0, 1.0) for action in range(len(row))]
        for child, visits, total in zip(children, row, sums, strict=True):
            child.explore_count, child.total_reward = visits, total
        values = [child.uct_value(parent, request["exploration"]) for child in children]
        scores.append(values)
        chosen.append(values.index(max(values)))
        _refuse_a_near_tie(sorted(values)[-2:])
    return {"scores": scores, "chosen": chosen}


def _refuse_a_near_tie(best: list[float]) -> None:
    finite = len(best) == 2 and math.isfinite(best[1])
    if finite and best[1] - best[0] < 1e-9:
        raise ValueError(f"seed: scores {best}, expected another seed, for a clear winner")


TABLES: Final = (
    Table(
        name="mcts_openspiel_uct",
        operation="mcts.ucb1_selection",
        oracle=("open_spiel",),
        cases={
            "few visits": {
                "seed": 1,
                "num_nodes": 40,
                "num_children": 5,
                "most_visits": 12,
                "exploration": math.sqrt(2.0),
            },
            "many visits": {
                "seed": 2,
                "num_nodes": 30,
                "num_children": 7,
                "most_visits": 10**9,
                "exploration": 0.7,
            },
            "wide nodes": {
                "seed": 3,
                "num_nodes": 2,
                "num_children": 130,
                "most_visits": 5000,
                "exploration": 25.0,
            },
            "no exploration": {
                "seed": 4,
                "num_nodes": 20,
                "num_children": 3,
                "most_visits": 400,
                "exploration": 0.0,
            },
        },
        request=nodes,
        answer=score_by_uct,
        within={"scores": (1e-13, 1e-14)},
    ),
)
