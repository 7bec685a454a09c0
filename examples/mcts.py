"""Search four positions of a game at once: one call of UCB1 chooses the next move to try in each.

The game is Nim with one heap: take one to three matches, and who takes the last one wins. With
GRISTMILL_URL set it enqueues to your workers; without, it brings a worker in this process.
"""

import os
from contextlib import nullcontext

import numpy as np

from gristmill.testing import in_process
from producers import mcts

HEAPS = np.array([5, 6, 7, 8])
MOST = 3


def play_out(heap: int, random: np.random.Generator) -> float:
    """Return 1 if the player who is not to move wins a game of random moves, else 0."""
    mover_wins = False
    while heap:
        heap -= int(random.integers(1, min(MOST, heap) + 1))
        mover_wins = not mover_wins
    return 0.0 if mover_wins else 1.0


def search(rounds: int = 400) -> None:
    """Try moves by UCB1 in every position, and print how often each was tried and won."""
    random = np.random.default_rng(3)
    visits, wins = np.zeros((len(HEAPS), MOST), int), np.zeros((len(HEAPS), MOST))
    for tried in range(rounds):
        parents = np.full(len(HEAPS), max(tried, 1))
        children = np.minimum(HEAPS, MOST)
        choice = mcts.ucb1_selection(visits, wins, parents, child_counts=children).chosen
        for node, move in enumerate(choice):
            visits[node, move] += 1
            wins[node, move] += play_out(int(HEAPS[node] - move - 1), random)
    for node, heap in enumerate(HEAPS):
        best = int(visits[node].argmax())
        shares = ", ".join(f"{wins[node, m] / visits[node, m]:.2f}" for m in range(MOST))
        print(f"{heap} matches: take {best + 1} (tried {visits[node]}, won {shares})")


if __name__ == "__main__":
    with nullcontext() if "GRISTMILL_URL" in os.environ else in_process():
        search()
