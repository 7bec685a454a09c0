"""The random streams of both twins against numpy.random.Philox."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from native_c.fallback import random

WORD = st.integers(0, 2**64 - 1)


def compiled_words(compiled: Any, seed: int, stream: int, first: int, count: int) -> Any:
    out = np.empty(count, np.uint64)
    assert compiled.lib.nc_random_words(seed, stream, first, count, compiled.u64(out)) == 0
    return out


def compiled_uniform(compiled: Any, seed: int, stream: int, first: int, count: int) -> Any:
    out = np.empty(count)
    assert compiled.lib.nc_random_uniform(seed, stream, first, count, compiled.f64(out)) == 0
    return out


@pytest.mark.parametrize("twin", ["compiled", "fallback"])
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (1, 2), (2**64 - 1, 2**63)])
def test_draws_are_those_of_numpys_philox(
    twin: str, seed: int, stream: int, request: pytest.FixtureRequest
) -> None:
    key = np.array([seed, stream], np.uint64)
    expected = np.random.Philox(key=key).random_raw(1001)
    units = np.random.Generator(np.random.Philox(key=key)).random(1001)
    if twin == "compiled":
        compiled = request.getfixturevalue("compiled")
        assert (compiled_words(compiled, seed, stream, 0, 1001) == expected).all()
        assert (compiled_uniform(compiled, seed, stream, 0, 1001) == units).all()
    else:
        assert (random.words(seed, stream, 0, 1001) == expected).all()
        assert (random.uniform(seed, stream, 0, 1001) == units).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORD, WORD, st.integers(0, 2**63), st.integers(0, 30))
def test_the_twins_draw_the_same_anywhere_in_a_stream(
    compiled: Any, seed: int, stream: int, first: int, count: int
) -> None:
    expected = random.words(seed, stream, first, count)
    assert (compiled_words(compiled, seed, stream, first, count) == expected).all()


@given(WORD, WORD, st.integers(0, 2**40), st.integers(0, 30), st.integers(0, 30))
def test_a_draw_does_not_depend_on_the_call_it_is_asked_in(
    seed: int, stream: int, first: int, skip: int, count: int
) -> None:
    whole = random.words(seed, stream, first, skip + count)
    assert (whole[skip:] == random.words(seed, stream, first + skip, count)).all()


def test_uniform_draws_are_in_the_unit_interval_and_even() -> None:
    draws = random.uniform(5, 6, 0, 100_000)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    share, _ = np.histogram(draws, 20, (0.0, 1.0))
    # Chi-squared with 19 degrees of freedom exceeds 43.8 once in a thousand streams.
    assert ((share - 5000.0) ** 2 / 5000.0).sum() < 43.8


def test_a_negative_count_is_refused(compiled: Any) -> None:
    lib = compiled.lib
    assert lib.nc_random_words(1, 1, 0, -1, compiled.NULL) == lib.NC_INVALID
    assert lib.nc_random_uniform(1, 1, 0, -1, compiled.NULL) == lib.NC_INVALID
