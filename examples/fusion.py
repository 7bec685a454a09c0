"""Find which captions, sounds and pictures belong together, out of their embeddings and times.

Twelve things happened; each left windows of several modalities, whose embeddings a model has put
near each other. With GRISTMILL_URL set it enqueues to your workers; without, it brings a worker in
this process.
"""

import os
from contextlib import nullcontext

import numpy as np

from gristmill.testing import in_process
from producers import fusion

NUM_EVENTS = 12
NUM_WINDOWS = 60
MODALITIES = ("audio", "image", "text")


def connect() -> None:
    """Make the windows, ask for their connections, and print the strongest ones."""
    random = np.random.default_rng(5)
    event = random.integers(0, NUM_EVENTS, NUM_WINDOWS)
    modality = [MODALITIES[code] for code in random.integers(0, 3, NUM_WINDOWS)]
    meaning = random.normal(size=(NUM_EVENTS, 256))
    embeddings = meaning[event] + 0.9 * random.normal(size=(NUM_WINDOWS, 256))
    seconds = 300 * event + random.integers(0, 40, NUM_WINDOWS)

    found = fusion.connection_discovery(
        embeddings,
        modality,
        timestamps_ms=1_000 * seconds,
        threshold=0.3,
        top_k=3,
        cross_modal_only=True,
    )
    print(f"{found.i.size} of {found.num_pairs_considered} pairs across modalities are connected")
    print(f"{np.mean(event[found.i] == event[found.j]):.0%} of them belong to one event")
    print("strength  similarity  windows")
    for pair in np.argsort(-found.strength)[:5]:
        i, j = found.i[pair], found.j[pair]
        ends = f"{modality[i]} at {seconds[i]} s, {modality[j]} at {seconds[j]} s"
        print(f"{found.strength[pair]:8.2f}  {found.similarity[pair]:10.2f}  {ends}")


if __name__ == "__main__":
    with nullcontext() if "GRISTMILL_URL" in os.environ else in_process():
        connect()
