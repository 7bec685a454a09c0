"""log and exp of both twins against 50-digit arithmetic, and against each other to the bit."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_c import extension
from native_c.fallback import elementary

Map = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SPECIAL = np.array([0.0, -0.0, -1.0, math.inf, -math.inf, math.nan, -5e-324, 1e308, -1e308])
EDGES = np.array([5e-324, 2.0**-1022, np.nextafter(2.0**-1022, 0), 1.7976931348623157e308, 1.0])


def log_inputs() -> NDArray[np.float64]:
    """Return positive doubles of every size, crowded around one and around powers of sqrt(2)."""
    rng = np.random.default_rng(3)
    anywhere = np.ldexp(1.0 + rng.random(1500), rng.integers(-1074, 1024, 1500))
    near_one = 1.0 + np.ldexp(rng.choice([-0.5, 1.0], 300), -rng.integers(0, 53, 300))
    seams = np.ldexp(math.sqrt(0.5) * (1.0 + rng.normal(0, 1e-15, 300)), rng.integers(-9, 9, 300))
    return np.concatenate([anywhere, near_one, seams, np.arange(1.0, 300.0), EDGES])


def exp_inputs() -> NDArray[np.float64]:
    """Return arguments from underflow to overflow, crowded around zero and at seams."""
    rng = np.random.default_rng(4)
    seams = (rng.integers(-1000, 1000, 400) + 0.5) * math.log(2.0) * (1 + rng.normal(0, 1e-15, 400))
    tiny = np.ldexp(rng.choice([-1.0, 1.0], 300), -rng.integers(1, 80, 300))
    return np.concatenate([rng.uniform(-744.4, 709.7, 1500), seams, tiny, [0.0, 709.78, -744.4]])


def compiled_map(compiled: Any, verb: str) -> Map:
    function = getattr(compiled.lib, f"nc_elementary_{verb}")

    def call(values: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty_like(values)
        assert function(values.size, compiled.f64(values), compiled.f64(out)) == 0
        return out

    return call


def worst_ulps(found: NDArray[np.float64], inputs: NDArray[np.float64], verb: str) -> float:
    """Return the largest error, in units in the last place of the true result."""
    worst = 0.0
    with localcontext() as context:
        context.prec = 50
        for ours, argument in zip(found.tolist(), inputs.tolist(), strict=True):
            exact = Decimal(argument).ln() if verb == "log" else Decimal(argument).exp()
            worst = max(worst, float(abs(Decimal(ours) - exact) / Decimal(math.ulp(float(exact)))))
    return worst


@pytest.mark.parametrize("twin", ["compiled", "fallback"])
@pytest.mark.parametrize("verb", ["log", "exp"])
def test_results_are_within_two_units_in_the_last_place(
    twin: str, verb: str, request: pytest.FixtureRequest
) -> None:
    inputs = log_inputs() if verb == "log" else exp_inputs()
    function: Map = getattr(elementary, verb)
    if twin == "compiled":
        function = compiled_map(request.getfixturevalue("compiled"), verb)
    assert worst_ulps(function(inputs), inputs, verb) < 1.0


@pytest.mark.parametrize("verb", ["log", "exp"])
def test_the_twins_agree_to_the_bit_on_every_level(compiled: Any, verb: str) -> None:
    inputs = np.concatenate([log_inputs(), exp_inputs(), -log_inputs(), SPECIAL])
    expected = getattr(elementary, verb)(inputs)
    for level in extension.supported_simd():
        extension.set_simd(level)
        found = compiled_map(compiled, verb)(inputs)
        np.testing.assert_array_equal(found, expected, strict=True)
        assert (np.signbit(found) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("twin", ["compiled", "fallback"])
def test_special_values_are_those_of_c(twin: str, request: pytest.FixtureRequest) -> None:
    log: Map = elementary.log
    exp: Map = elementary.exp
    if twin == "compiled":
        compiled = request.getfixturevalue("compiled")
        log, exp = compiled_map(compiled, "log"), compiled_map(compiled, "exp")
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(log(SPECIAL)[:6], np.log(SPECIAL)[:6])
        np.testing.assert_array_equal(exp(SPECIAL), np.exp(SPECIAL))
    beyond = np.array([709.783, 1e4, -745.14, -1e4])
    assert exp(beyond).tolist() == [math.inf, math.inf, 0.0, 0.0]
    assert log(np.array([1.0])).tolist() == [0.0]
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert exp(np.array([-745.13])).tolist() == [5e-324]


def test_no_count_of_elements_below_zero_is_taken(compiled: Any) -> None:
    assert (
        compiled.lib.nc_elementary_log(-1, compiled.NULL, compiled.NULL) == compiled.lib.NC_INVALID
    )
    assert (
        compiled.lib.nc_elementary_exp(-1, compiled.NULL, compiled.NULL) == compiled.lib.NC_INVALID
    )


def test_arrays_of_any_length_are_done_to_the_end(compiled: Any) -> None:
    for count in range(40):
        inputs = np.linspace(0.1, 5.0, count)
        assert compiled_map(compiled, "log")(inputs).tolist() == elementary.log(inputs).tolist()
