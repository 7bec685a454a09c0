"""The jobs of the load: real work of all four families with arrays, short ones and some long."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from contract.families import operation
from contract.operation import Operation

#: One in so many jobs is a chain of three, and one in so many takes 50 ms to 500 ms.
CHAIN_EVERY: Final = 25
LONG_EVERY: Final = 200

#: Requests of each kind that are made once and sent again and again.
_NUM_PREPARED: Final = 16

Fields = dict[str, Any]


def _statistics(random: np.random.Generator) -> Fields:
    return {"values": random.normal(size=random.integers(1_000, 8_000))}


def _connections(random: np.random.Generator) -> Fields:
    count = int(random.integers(1_500, 5_000))
    # Two columns keep the message small beside the work, which grows with the pairs.
    embeddings = random.normal(size=(count, 2)).astype(np.float32)
    return {"embeddings": embeddings, "modalities": np.arange(count) % 3, "threshold": 0.9999999}


def _bandit(random: np.random.Generator) -> Fields:
    return _choices(random, int(random.integers(1_000, 8_000)))


def _long_bandit(random: np.random.Generator) -> Fields:
    return _choices(random, int(np.exp(random.uniform(np.log(80_000), np.log(600_000)))))


def _choices(random: np.random.Generator, number: int) -> Fields:
    counts = random.integers(5, 50, size=20)
    return {
        "counts": counts,
        "reward_sums": counts * random.random(20),
        "policy": "thompson",
        "num_selections": number,
    }


def _selection(random: np.random.Generator) -> Fields:
    visits = random.integers(1, 9, size=(200, 8))
    sums = visits * random.random(visits.shape)
    return {"visits": visits, "value_sums": sums, "parent_visits": visits.sum(axis=1)}


_SHORT: Final[tuple[tuple[str, Callable[[np.random.Generator], Fields]], ...]] = (
    ("analytics.basic_statistics", _statistics),
    ("fusion.connection_discovery", _connections),
    ("optimization.multi_armed_bandit", _bandit),
    ("mcts.ucb1_selection", _selection),
)
_LONG: Final = ("optimization.multi_armed_bandit", _long_bandit)


class Mix:
    """An endless mix of jobs, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        """Prepare the jobs, so that sending costs the producer little."""
        self._random = np.random.default_rng(seed)
        self._short = [self._prepare(name, make) for name, make in _SHORT]
        self._long = self._prepare(*_LONG)
        self._sent = 0

    def _prepare(
        self, name: str, make: Callable[[np.random.Generator], Fields]
    ) -> tuple[Operation[Any, Any], list[Fields]]:
        return operation(name), [make(self._random) for _ in range(_NUM_PREPARED)]

    def next(self) -> tuple[Operation[Any, Any], Fields] | None:
        """Return the next operation with its fields, or None where a chain is due.

        Batches, once there are any, join here as the third kind.
        """
        self._sent += 1
        if self._sent % CHAIN_EVERY == 0:
            return None
        is_long = self._sent % LONG_EVERY == 1
        kinds = self._long if is_long else self._short[self._random.integers(len(self._short))]
        return kinds[0], kinds[1][self._random.integers(_NUM_PREPARED)]

    def chain(self) -> tuple[int, int]:
        """Return the seed and the size of the series that a chain begins with."""
        return int(self._random.integers(2**31)), int(self._random.integers(50, 200))
