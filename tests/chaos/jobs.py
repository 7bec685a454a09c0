"""The jobs of the load: real work of all four families, alone, in batches and in chains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from contract.families import operation
from contract.operation import Operation

#: One in so many submits is a chain of three, one a batch, and one a job of 50 ms to 500 ms.
CHAIN_EVERY: Final = 25
BATCH_EVERY: Final = 40
LONG_EVERY: Final = 200

#: Items of a batch are fewer than this.
_LARGEST_BATCH: Final = 20

#: Requests of each kind that are made once and sent again and again.
_NUM_PREPARED: Final = 16

Fields = dict[str, Any]

#: An operation and requests of it.
_Kind = tuple[Operation[Any, Any], list[Fields]]


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


@dataclass(frozen=True)
class Single:
    """One job."""

    operation: Operation[Any, Any]
    fields: Fields


@dataclass(frozen=True)
class Batch:
    """Many jobs in one message."""

    operation: Operation[Any, Any]
    items: list[Fields]


@dataclass(frozen=True)
class Chain:
    """Three jobs, each of which takes what the one before it returned; first, a random series."""

    seed: int
    size: int


class Mix:
    """An endless mix of jobs, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        """Prepare the jobs, so that sending costs the producer little."""
        self._random = np.random.default_rng(seed)
        self._short = [self._prepare(name, make) for name, make in _SHORT]
        self._long = self._prepare(*_LONG)
        self._drawn = 0

    def draw(self) -> Single | Batch | Chain:
        """Return what is to be sent next."""
        self._drawn += 1
        if self._drawn % CHAIN_EVERY == 0:
            return Chain(int(self._random.integers(2**31)), int(self._random.integers(50, 200)))
        if self._drawn % BATCH_EVERY == 0:
            operation, prepared = self._kind(self._short)
            count = int(self._random.integers(2, _LARGEST_BATCH))
            return Batch(operation, [self._one(prepared) for _ in range(count)])
        return self.single(is_long=self._drawn % LONG_EVERY == 1)

    def single(self, *, is_long: bool = False) -> Single:
        """Return one job."""
        operation, prepared = self._long if is_long else self._kind(self._short)
        return Single(operation, self._one(prepared))

    def _prepare(self, name: str, make: Callable[[np.random.Generator], Fields]) -> _Kind:
        return operation(name), [make(self._random) for _ in range(_NUM_PREPARED)]

    def _kind(self, kinds: list[_Kind]) -> _Kind:
        return kinds[int(self._random.integers(len(kinds)))]

    def _one(self, prepared: list[Fields]) -> Fields:
        return prepared[int(self._random.integers(len(prepared)))]
