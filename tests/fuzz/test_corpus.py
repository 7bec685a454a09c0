"""What the fuzzer has kept, replayed: every input is answered, or refused by one of our errors."""

import random

import pytest

from contract import codec
from contract.errors import InternalError
from tests.fuzz.__main__ import CORPUS, Coverage, corpus_of, outcome
from tests.fuzz.mutation import MOST_BYTES, change
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_answered(name: str) -> None:
    inputs = list(corpus_of(name))
    assert inputs
    for data in inputs:
        assert outcome(TARGETS[name], data) == ""


def test_the_corpus_belongs_to_the_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("error", [InternalError("a", "b"), KeyError("a"), RecursionError()])
def test_any_other_error_is_a_finding(error: Exception) -> None:
    def target(data: bytes) -> None:
        raise error

    assert type(error).__name__ in outcome(target, b"")


def test_the_search_finds_what_hides_behind_a_few_conditions() -> None:
    draw, coverage = random.Random(5), Coverage()
    inputs = [codec.encode({"version": 1})]
    for _ in range(20_000):
        data = change(draw.choice(inputs), inputs, draw)
        assert len(data) <= MOST_BYTES
        found = coverage.watch(_read, data)
        inputs += [data] * coverage.was_new
        if found == {"version": -1}:
            return
    raise AssertionError("not found")


def _read(data: bytes) -> object:
    try:
        return codec.decode(data)
    except Exception:
        return None
