"""Trees of choices that search side by side; jobs choose their next steps, a batch at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.mcts import Ucb1SelectionResult, ucb1_selection
from contract.operation import Job
from gristmill.demo.models import LEVELS, Path, num_choices

#: Weight of exploration: about the spread of a score from year to year, 0.17. UCB1's root of 2 is
#: meant for values that spread over all of [0, 1].
EXPLORATION: Final = 0.2

#: Fetches a selection's result.
Fetch = Callable[[Job[Ucb1SelectionResult]], Ucb1SelectionResult]


@dataclass
class Node:
    """What came back through each choice at one point of a tree."""

    #: How often each choice was made, [k].
    visits: NDArray[np.int64]
    #: Sum of the scores that came back, [k].
    value_sums: NDArray[np.float64]


@dataclass
class Tree:
    """One search tree: its nodes by the choices that lead there, and its own random numbers."""

    rng: np.random.Generator
    nodes: dict[Path, Node] = field(default_factory=dict)

    def node(self, path: Path) -> Node:
        """Return the node at `path`, a new one where nobody has been."""
        if path not in self.nodes:
            width = num_choices(path)
            self.nodes[path] = Node(np.zeros(width, np.int64), np.zeros(width))
        return self.nodes[path]

    def filled_up(self, path: Path) -> Path:
        """Return a whole model that begins with `path`, the other choices drawn at random."""
        while len(path) < len(LEVELS):
            path += (int(self.rng.integers(num_choices(path))),)
        return path

    def back_up(self, path: Path, depth: int, score: float) -> None:
        """Enter a score at the first `depth` choices of `path`."""
        for level in range(depth):
            node = self.node(path[:level])
            node.visits[path[level]] += 1
            node.value_sums[path[level]] += score


def descend(batches: list[list[Tree]], fetch: Fetch) -> list[list[Path]]:
    """Lead every tree from its root to a choice that was not made before, or to a whole model.

    Level by level: one job for each batch, and all batches' jobs are under way at once.
    """
    paths: list[list[Path]] = [[() for _ in trees] for trees in batches]
    inside = [list(range(len(trees))) for trees in batches]
    for _ in LEVELS:
        jobs = [
            _submit([trees[tree].node(path[tree]) for tree in live]) if live else None
            for trees, path, live in zip(batches, paths, inside, strict=True)
        ]
        for number, (trees, job) in enumerate(zip(batches, jobs, strict=True)):
            if job is None:
                continue
            chosen = fetch(job).chosen.tolist()
            live, inside[number] = inside[number], []
            for tree, choice in zip(live, chosen, strict=True):
                known = trees[tree].node(paths[number][tree]).visits[choice] > 0
                paths[number][tree] += (choice,)
                if known:
                    inside[number].append(tree)
    return paths


def _submit(nodes: list[Node]) -> Job[Ucb1SelectionResult]:
    """Ask for the next choice at each node; the nodes of a batch may differ in width."""
    widths = [node.visits.size for node in nodes]
    shape = (len(nodes), max(widths))
    visits, value_sums = np.zeros(shape, np.int64), np.zeros(shape)
    for row, node in enumerate(nodes):
        visits[row, : widths[row]], value_sums[row, : widths[row]] = node.visits, node.value_sums
    return ucb1_selection.submit(
        visits, value_sums, visits.sum(axis=1), exploration=EXPLORATION, child_counts=widths
    )


def merged(trees: list[Tree]) -> Tree:
    """Return one tree with the visits and scores of all."""
    whole = Tree(trees[0].rng)
    for tree in trees:
        for path, node in tree.nodes.items():
            into = whole.node(path)
            into.visits += node.visits
            into.value_sums += node.value_sums
    return whole


def most_visited(tree: Tree) -> Path:
    """Return the choices that were made most often, from the root to a whole model."""
    path: Path = ()
    while len(path) < len(LEVELS):
        path += (int(np.argmax(tree.node(path).visits)),)
    return path
