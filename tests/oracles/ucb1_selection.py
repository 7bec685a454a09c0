"""Makes ucb1_selection.json: the children that TreeQuest's StandardMCTS chooses in random trees.

TreeQuest scores a child by UCT with a prior; a child that was never given one has prior 1, and then
the score is UCB1. The tree is one root with its children, so the node that it asks to expand is the
chosen child.
"""

from importlib.metadata import version
from typing import Any

import numpy as np
import treequest

NUM_NODES = 60
MOST_CHILDREN = 8


def make() -> dict[str, Any]:
    """Return the table: for each node its statistics, the exploration weight and the choice."""
    random = np.random.default_rng(20261123)
    nodes = []
    for _ in range(NUM_NODES):
        visits = random.integers(1, 200, size=random.integers(2, MOST_CHILDREN + 1))
        value_sums = visits * random.uniform(0.0, 1.0, size=visits.size).round(6)
        exploration = float(random.choice([0.0, 0.5, 2.0**0.5, 3.0]))
        node = {"visits": visits.tolist(), "value_sums": value_sums.round(6).tolist()}
        chosen = choose(node["visits"], node["value_sums"], exploration)
        nodes.append({**node, "exploration": exploration, "chosen": chosen})
    return {"made_by": f"treequest {version('treequest')}", "nodes": nodes}


def choose(visits: list[int], value_sums: list[float], exploration: float) -> int:
    """Return which child of a root with these statistics TreeQuest expands next."""
    search: Any = treequest.StandardMCTS(samples_per_action=1, exploration_weight=exploration)
    state = search.init_tree()
    for child in range(len(visits)):
        state.tree.add_node((f"child {child}", 0.5), state.tree.root)
    state.visit_counts = dict(enumerate(visits)) | {-1: sum(visits)}
    state.value_sums = dict(enumerate(value_sums)) | {-1: sum(value_sums)}
    _, (trial,) = search.ask_batch(state, 1, ["expand"])
    return int(trial.node_to_expand)
