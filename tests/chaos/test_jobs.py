"""The mix has everything in it, and is the same for the same seed."""

from collections import Counter

from contract.families import FAMILIES
from tests.chaos.jobs import Batch, Chain, Mix, Single


def test_the_mix_has_jobs_of_all_families_batches_and_chains() -> None:
    mix = Mix(seed=1)
    drawn = [mix.draw() for _ in range(400)]
    kinds = Counter(type(one) for one in drawn)
    assert kinds[Single] > kinds[Chain] > kinds[Batch] > 0
    assert {one.operation.family for one in drawn if isinstance(one, Single)} == set(FAMILIES)


def test_every_request_of_the_mix_is_valid() -> None:
    mix = Mix(seed=2)
    for one in [mix.draw() for _ in range(400)]:
        match one:
            case Single(operation, fields):
                operation.build(**fields)
            case Batch(operation, items):
                assert [operation.build(**fields) for fields in items]


def test_the_same_seed_gives_the_same_mix() -> None:
    first, second = Mix(seed=3), Mix(seed=3)
    assert [type(first.draw()) for _ in range(100)] == [type(second.draw()) for _ in range(100)]
