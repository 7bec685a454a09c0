"""Basic statistics against exact fractions, NumPy, SciPy and NIST, on whichever twin runs."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

import native_c
from native_c import analytics, extension
from native_c.errors import InvalidArgument, NativeError
from tests import hostile

INF = math.inf
NAN = math.nan

Series = NDArray[np.float64]

#: Fields that are members of the series, or follow from few of them in one fixed order of rounding.
ORDERED = ("count", "missing", "min", "max", "range", "median", "percentiles", "iqr", "mad")
SUMMED = ("sum", "mean", "variance", "std", "sem", "skewness", "kurtosis")

RNG = np.random.default_rng(20)


def normals(n: int, seed: int = 1) -> Series:
    return np.random.default_rng(seed).normal(size=n)


#: Series of n values that are hard on sums, on samples or on ties.
SHAPES: dict[str, Callable[[int], Series]] = {
    "normal": normals,
    "offset": lambda n: 1e9 + normals(n),
    "heavy_tails": lambda n: normals(n) / normals(n, 2),
    "skewed": lambda n: np.exp(3 * normals(n)),
    "ties": lambda n: np.floor(4 * normals(n)),
    "two_values": lambda n: np.where(normals(n) > 1, 1.0, 0.0),
    "mostly_one_value": lambda n: np.where(normals(n) > 0.5, normals(n, 2), 0.25),
    "constant": lambda n: np.full(n, 0.1),
    "sorted": lambda n: np.sort(normals(n)),
    "reversed": lambda n: np.sort(normals(n))[::-1].copy(),
    "organ_pipe": lambda n: np.minimum(np.arange(n), np.arange(n)[::-1]).astype(float),
    "last_bits": lambda n: 1 + np.floor(9 * np.abs(normals(n))) * 2.0**-52,
    "subnormal": lambda n: normals(n) * 1e-310,
    "huge": lambda n: normals(n) * 1e307,
    "both_zeros": lambda n: np.where(normals(n) > 0, 0.0, -0.0),
    "outlier": lambda n: np.append(1e9 + normals(n - 1), 1e300),
}

SIZES = (1, 2, 3, 4, 5, 16, 17, 100, 1000, 1025, 2049, 5000, 40_000)


def moments(values: Series) -> tuple[Fraction, Fraction, Fraction, Fraction, Fraction]:
    """Sum, mean and central moments 2 to 4 of the stored numbers, without any rounding."""
    exact = [Fraction(value) for value in values.tolist()]
    n, total = len(exact), sum(exact, Fraction(0))
    mean = total / n
    centred = [value - mean for value in exact]
    m2, m3, m4 = (sum((x**power for x in centred), Fraction(0)) / n for power in (2, 3, 4))
    return total, mean, m2, m3, m4


def rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return INF if value > 0 else -INF


def root(value: Fraction) -> float:
    """Take the square root of a fraction of any size."""
    if not value:
        return 0.0
    half = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(value / Fraction(4) ** half), half)


def by_numpy(values: Series, percentiles: Any) -> dict[str, Any]:
    quartiles = np.percentile(values, [25, 75])
    median = np.median(values)
    return {
        "count": values.size,
        "missing": 0,
        "min": values.min(),
        "max": values.max(),
        "range": np.ptp(values),
        "median": median,
        "percentiles": np.percentile(values, percentiles),
        "iqr": quartiles[1] - quartiles[0],
        "mad": stats.median_abs_deviation(values),
    }


@pytest.mark.parametrize("n", [1, 2, 40, 5_000])
def test_of_zeros_of_both_signs_the_answer_is_the_positive_one(n: int) -> None:
    values = SHAPES["both_zeros"](n)
    found = analytics.basic_statistics(np.append(values, -0.0), percentiles=[0, 50, 100])
    for name in ("sum", "mean", "min", "max", "range", "median", "mad", "iqr", "percentiles"):
        assert not np.signbit(found[name]).any(), name


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results are equal in every bit, both zeros and all NaN taken for one."""
    return one.keys() == other.keys() and all(
        one[key] == other[key]
        if key == "warnings"
        else np.array_equal(one[key], other[key], equal_nan=True)
        for key in one
    )


@pytest.mark.parametrize("seed", [787, 2288])
def test_the_mean_of_numbers_of_all_sizes_is_as_exact_as_promised(seed: int) -> None:
    # Of thousands of series the two that the C kernel and NumPy were furthest off with.
    generator = np.random.default_rng(seed)
    n = int(generator.choice([63, 64, 65, 100, 127, 129]))
    check_moments(10.0 ** generator.uniform(-300, 300, n) * generator.choice([-1, 1], n), 1)


def test_the_error_of_a_mean_is_infinite_with_an_infinite_deviation() -> None:
    found = analytics.basic_statistics([1.7e308, -1.7e308])
    assert (found["std"], found["sem"], found["mean"]) == (math.inf, math.inf, 0.0)


def check_moments(values: Series, ddof: int) -> None:
    found = analytics.basic_statistics(values, (), ddof)
    total, mean, m2, m3, m4 = moments(values)
    n = values.size
    # The sum of sizes bounds what any order of summation may lose; it is below 1e-13 of it for n
    # up to many millions.
    size = rounded(sum((abs(Fraction(value)) for value in values.tolist()), Fraction(0)))
    if math.isfinite(size):
        assert found["sum"] == pytest.approx(rounded(total), rel=1e-15, abs=1e-15 * size)
    assert found["mean"] == pytest.approx(rounded(mean), rel=2e-15, abs=2e-15 * (size / n or 1))
    if ddof < n:
        variance = m2 * n / (n - ddof)
        assert found["variance"] == pytest.approx(rounded(variance), rel=1e-12, abs=1e-320)
        assert found["std"] == pytest.approx(root(variance), rel=1e-12, abs=1e-320)
        assert found["sem"] == pytest.approx(root(variance / n), rel=1e-12, abs=1e-320)
    else:
        assert math.isnan(found["variance"] + found["std"] + found["sem"])
    limit = (Fraction(2) ** -52 * mean) ** 2
    if m2 <= limit * Fraction(1 - 1e-9):
        assert math.isnan(found["skewness"] + found["kurtosis"])
    elif m2 > limit * Fraction(1 + 1e-9):
        skewness = root(m3**2 / m2**3) * (1 if m3 > 0 else -1)
        assert found["skewness"] == pytest.approx(skewness, rel=1e-10, abs=1e-11)
        assert found["kurtosis"] == pytest.approx(float(m4 / m2**2 - 3), rel=1e-11, abs=1e-11)


# --- Sums -----------------------------------------------------------------------------------------


@given(
    arrays(
        np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False)
    ),
    st.integers(0, 3),
)
def test_moments_of_any_finite_numbers_are_exact_to_rounding(values: Series, ddof: int) -> None:
    check_moments(values, ddof)


@given(st.integers(2, 60), st.integers(0, 2**32), st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
def test_an_offset_costs_no_digits(n: int, seed: int, offset: float, scale: float) -> None:
    values = offset + scale * normals(n, seed)
    check_moments(values, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [3, 17, 2500])
def test_moments_of_hard_series_are_exact_to_rounding(shape: str, n: int) -> None:
    check_moments(SHAPES[shape](n), 1)


@pytest.mark.parametrize("n", [5, 1000, 100_000])
def test_moments_are_those_of_scipy(n: int) -> None:
    values = np.exp(normals(n))
    found = analytics.basic_statistics(values)
    described = stats.describe(values)
    close: dict[str, Any] = {"rel": 1e-11, "abs": 1e-11}
    assert found["count"] == described.nobs
    assert (found["min"], found["max"]) == described.minmax
    assert found["mean"] == pytest.approx(described.mean, **close)
    assert found["variance"] == pytest.approx(described.variance, **close)
    assert found["skewness"] == pytest.approx(described.skewness, **close)
    assert found["kurtosis"] == pytest.approx(described.kurtosis, **close)
    assert found["sem"] == pytest.approx(stats.sem(values), **close)
    assert found["iqr"] == pytest.approx(stats.iqr(values), **close)


def accuracy_test(start: float, low: float, high: float) -> Series:
    """NIST's NumAcc2 to 4: one value, then two others 500 times in turn."""
    return np.array([start] + [low, high] * 500)


@pytest.mark.parametrize(
    ("values", "mean", "std", "digits_of_std"),
    [
        (np.array([10000001.0, 10000003.0, 10000002.0]), 10000002.0, 1.0, 15),
        (accuracy_test(1.2, 1.1, 1.3), 1.2, 0.1, 15),
        # Here the stored doubles themselves are 1e-10 and 1e-9 off the decimals that are certified.
        (accuracy_test(1000000.2, 1000000.1, 1000000.3), 1000000.2, 0.1, 9),
        (accuracy_test(10000000.2, 10000000.1, 10000000.3), 10000000.2, 0.1, 8),
    ],
    ids=["NumAcc1", "NumAcc2", "NumAcc3", "NumAcc4"],
)
def test_nist_reference_data_sets_give_their_certified_values(
    values: Series, mean: float, std: float, digits_of_std: int
) -> None:
    found = analytics.basic_statistics(values)
    assert found["mean"] == pytest.approx(mean, rel=1e-15)
    assert found["std"] == pytest.approx(std, rel=10.0**-digits_of_std)


def test_what_overflows_on_the_way_does_not_in_the_answer() -> None:
    found = analytics.basic_statistics([1.5e308, 1.7e308, 1.6e308], ddof=0)
    assert found["sum"] == INF
    assert found["mean"] == pytest.approx(1.6e308, rel=1e-15)
    assert found["std"] == pytest.approx(1e307 * math.sqrt(2 / 3), rel=1e-13)
    assert found["variance"] == INF
    assert found["median"] == 1.6e308
    assert found["kurtosis"] == pytest.approx(-1.5, rel=1e-12)
    assert analytics.basic_statistics([1.7e308, 1.6e308])["median"] == 1.7e308 / 2 + 1.6e308 / 2


def test_whole_numbers_add_up_exactly() -> None:
    values = np.random.default_rng(3).integers(-(2**40), 2**40, 5000)
    assert analytics.basic_statistics(values)["sum"] == int(values.sum())


# --- Order ----------------------------------------------------------------------------------------


PERCENTILES = (
    (5.0, 25.0, 50.0, 75.0, 95.0),
    (100.0, 0.0, 99.99, 50.0, 50.0, 33.3, 1e-3),
    tuple(np.linspace(0.0, 100.0, 101)),
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_order_statistics_are_numpys_to_the_bit(shape: str, n: int) -> None:
    values = SHAPES[shape](n)
    for percentiles in PERCENTILES:
        found = analytics.basic_statistics(values, percentiles)
        expected = by_numpy(values, percentiles)
        assert same_bits({key: found[key] for key in ORDERED}, expected)


@given(
    arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e300, 1e300, width=64)),
    st.lists(st.floats(0, 100), max_size=5),
)
def test_order_statistics_of_any_numbers_are_numpys_to_the_bit(
    values: Series, percentiles: list[float]
) -> None:
    found = analytics.basic_statistics(values, percentiles)
    assert same_bits({key: found[key] for key in ORDERED}, by_numpy(values, percentiles))


def test_no_percentiles_are_an_answer() -> None:
    found = analytics.basic_statistics([3.0, 1.0, 2.0], [])
    assert found["percentiles"].shape == (0,)
    assert found["median"] == 2.0


# --- What must not matter, and what must ----------------------------------------------------------


@given(st.integers(1, 3000), st.integers(0, 2**32), st.randoms())
def test_the_order_of_the_values_does_not_matter(n: int, seed: int, random: Any) -> None:
    values = np.round(normals(n, seed), 2)
    found = analytics.basic_statistics(values)
    shuffled = analytics.basic_statistics(np.random.default_rng(seed).permutation(values))
    assert all(np.array_equal(found[key], shuffled[key]) for key in ORDERED)
    for key in SUMMED:
        assert found[key] == pytest.approx(shuffled[key], rel=1e-11, abs=1e-11, nan_ok=True)


@given(st.integers(2, 3000), st.integers(0, 2**32), st.integers(-300, 300))
def test_a_power_of_two_scales_every_bit(n: int, seed: int, exponent: int) -> None:
    values = normals(n, seed)
    assume(np.ptp(values) > 0)
    found = analytics.basic_statistics(values)
    scaled = analytics.basic_statistics(np.ldexp(values, exponent))
    for key in ("sum", "mean", "std", "sem", "min", "max", "range", "median", "iqr", "mad"):
        assert scaled[key] == math.ldexp(found[key], exponent)
    assert scaled["variance"] == math.ldexp(found["variance"], 2 * exponent)
    assert (scaled["skewness"], scaled["kurtosis"]) == (found["skewness"], found["kurtosis"])
    assert np.array_equal(scaled["percentiles"], np.ldexp(found["percentiles"], exponent))


@given(st.integers(2, 3000), st.integers(0, 2**32), st.integers(-(2**20), 2**20))
def test_a_shift_moves_the_location_and_nothing_else(n: int, seed: int, shift: int) -> None:
    values = np.round(normals(n, seed) * 2**10) / 2**10
    assume(np.ptp(values) > 0)
    found = analytics.basic_statistics(values)
    shifted = analytics.basic_statistics(values + shift)
    for key in ("mean", "median", "min", "max"):
        assert shifted[key] == pytest.approx(found[key] + shift, rel=1e-14, abs=1e-14)
    for key in ("variance", "std", "sem", "range", "mad", "skewness", "kurtosis"):
        assert shifted[key] == pytest.approx(found[key], rel=1e-12, abs=1e-12)


def test_negation_mirrors_the_series() -> None:
    values = np.exp(normals(4001))
    found, mirrored = analytics.basic_statistics(values), analytics.basic_statistics(-values)
    assert mirrored["skewness"] == -found["skewness"]
    assert mirrored["median"] == -found["median"]
    assert (mirrored["min"], mirrored["max"]) == (-found["max"], -found["min"])
    assert mirrored["variance"] == found["variance"]


# --- Few values -----------------------------------------------------------------------------------


def test_no_value_at_all_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^values: 0 elements, expected at least 1$"):
        analytics.basic_statistics([])


def test_one_value_has_a_location_and_no_spread() -> None:
    found = analytics.basic_statistics([5.0])
    assert [found[key] for key in ("sum", "mean", "min", "max", "median")] == [5.0] * 5
    assert [found[key] for key in ("range", "iqr", "mad")] == [0.0] * 3
    assert found["percentiles"].tolist() == [5.0] * 5
    for key in ("variance", "std", "sem", "skewness", "kurtosis"):
        assert math.isnan(found[key])
    assert found["warnings"] == (
        "ddof is 1 and count 1: variance, std and sem are NaN.",
        "The values are constant up to rounding: skewness and kurtosis are NaN.",
    )


@pytest.mark.parametrize("values", [[1.0, 2.0], [-4.0, 4.0], [0.0, 1e-200], [1e300, -1e300]])
def test_two_values_have_no_skewness_and_the_least_kurtosis(values: list[float]) -> None:
    found = analytics.basic_statistics(values)
    assert found["skewness"] == 0.0
    assert found["kurtosis"] == pytest.approx(-2.0, rel=1e-15)
    assert found["warnings"] == ()


def test_three_values_are_as_scipy_has_them() -> None:
    found = analytics.basic_statistics([1.0, 2.0, 4.0])
    assert found["skewness"] == pytest.approx(stats.skew([1.0, 2.0, 4.0]), rel=1e-14)
    assert found["kurtosis"] == pytest.approx(-1.5, rel=1e-14)
    assert found["sem"] == pytest.approx(stats.sem([1.0, 2.0, 4.0]), rel=1e-14)


@pytest.mark.parametrize("ddof", [3, 4, 2**62])
def test_too_many_degrees_of_freedom_give_nan_and_a_warning(ddof: int) -> None:
    found = analytics.basic_statistics([1.0, 2.0, 4.0], ddof=ddof)
    assert math.isnan(found["variance"] + found["std"] + found["sem"])
    assert math.isfinite(found["skewness"])
    assert found["warnings"] == (f"ddof is {ddof} and count 3: variance, std and sem are NaN.",)


def test_degrees_of_freedom_may_be_an_integer_of_numpy() -> None:
    found = analytics.basic_statistics([1.0, 2.0, 4.0], ddof=np.int8(2))  # type: ignore[arg-type]
    assert found["variance"] == pytest.approx(np.var([1.0, 2.0, 4.0], ddof=2), rel=1e-15)


@pytest.mark.parametrize("n", [2, 7, 3000])
@pytest.mark.parametrize("value", [0.1, -1e308, 5e-324, 0.0])
def test_a_constant_series_has_no_shape(n: int, value: float) -> None:
    found = analytics.basic_statistics(np.full(n, value))
    assert found["mean"] == found["median"] == value
    assert found["sum"] == n * value
    assert [found[key] for key in ("variance", "std", "sem", "range", "iqr", "mad")] == [0.0] * 6
    assert math.isnan(found["skewness"] + found["kurtosis"])
    assert found["warnings"] == (
        "The values are constant up to rounding: skewness and kurtosis are NaN.",
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 17, 5000])
def test_without_order_statistics_the_others_keep_their_bits(shape: str, n: int) -> None:
    values = SHAPES[shape](n)
    expected = analytics.basic_statistics(values)
    expected |= dict.fromkeys(("median", "iqr", "mad"), NAN) | {"percentiles": np.empty(0)}
    assert same_bits(analytics.basic_statistics(values, percentiles=None), expected)


@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_without_order_statistics_the_policies_are_kept(nan_policy: str) -> None:
    values = [1.0, NAN, 4.0]
    found = analytics.basic_statistics(values, None, nan_policy=nan_policy)
    assert (found["count"], found["missing"], found["percentiles"].size) == (2, 1, 0)
    assert found["mean"] == 2.5 if nan_policy == "omit" else math.isnan(found["mean"])
    assert math.isnan(found["median"])
    with pytest.raises(InvalidArgument, match=r"^values: 1 of 3 not finite"):
        analytics.basic_statistics(values, None)


# --- NaN and infinities ---------------------------------------------------------------------------


def test_values_that_are_not_finite_are_refused_by_default() -> None:
    with pytest.raises(InvalidArgument) as caught:
        analytics.basic_statistics([1.0, NAN, 2.0, INF])
    message = "values: 2 of 4 not finite (first at 1), expected finite values"
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_one_that_is_not_finite_among_many_is_found(kind: str) -> None:
    values = hostile.NOT_FINITE[kind](normals(4999))
    with pytest.raises(InvalidArgument, match=r"^values: 1 of 4999 not finite \(first at 2499\)"):
        analytics.basic_statistics(values)


@given(
    arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)),
    st.floats(0, 0.9),
    st.integers(0, 2**32),
)
def test_omitted_values_are_as_if_they_were_not_there(
    values: Series, share: float, seed: int
) -> None:
    kept = np.random.default_rng(seed).random(values.size) >= share
    assume(kept.any())
    found = analytics.basic_statistics(np.where(kept, values, NAN), nan_policy="omit")
    expected = analytics.basic_statistics(values[kept])
    assert found.pop("missing") == np.count_nonzero(~kept)
    assert expected.pop("missing") == 0
    assert same_bits(found, expected)


def test_where_every_value_is_missing_only_the_counts_and_the_sum_are_known() -> None:
    found = analytics.basic_statistics([NAN, NAN], nan_policy="omit")
    assert (found.pop("count"), found.pop("missing"), found.pop("sum")) == (0, 2, 0.0)
    assert found.pop("warnings") == (
        "Every value is missing: all statistics but the counts and the sum are NaN.",
    )
    assert all(np.isnan(value).all() for value in found.values())


@pytest.mark.parametrize("n", [1, 2, 50, 5000])
def test_a_nan_that_propagates_reaches_every_statistic(n: int) -> None:
    values = normals(n)
    values[n // 2] = NAN
    found = analytics.basic_statistics(values, nan_policy="propagate")
    assert (found.pop("count"), found.pop("missing")) == (n - 1, 1)
    assert found.pop("warnings") == (
        ("Every value is missing: all statistics but the counts and the sum are NaN.",)
        if n == 1
        else ()
    )
    assert all(np.isnan(value).all() for value in found.values())


@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
@pytest.mark.parametrize(
    "values",
    [
        [INF],
        [1.0, INF],
        [1.0, 2.0, -INF],
        [-INF, 1.0, INF],
        [INF, INF],
        [INF, 1.0, 2.0, 3.0, -INF, INF],
        [*range(3000), INF],
        [*range(2000), *[-INF] * 3000],
    ],
    ids=str,
)
def test_infinities_are_values_with_numpys_arithmetic(values: list[float], nan_policy: str) -> None:
    series = np.array(values, float)
    found = analytics.basic_statistics(series, nan_policy=nan_policy)
    with np.errstate(invalid="ignore"):
        expected = by_numpy(series, [5, 25, 50, 75, 95])
        total, mean = series.sum(), series.mean()
    assert same_bits({key: found[key] for key in ORDERED}, expected)
    assert found["sum"] == pytest.approx(total, nan_ok=True)
    assert found["mean"] == pytest.approx(mean, nan_ok=True)
    for key in ("variance", "std", "sem", "skewness", "kurtosis"):
        assert math.isnan(found[key])
    assert found["warnings"] == ()


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["values", "percentiles"])
@pytest.mark.parametrize("kind", hostile.SAME)
def test_any_layout_gives_the_same_bits(kind: str, argument: str) -> None:
    request: dict[str, Any] = {
        "values": np.arange(40.0)[::-1] ** 2,
        "percentiles": np.array([12.5, 99.0, 3.0]),
    }
    expected = analytics.basic_statistics(**request)
    passed = hostile.SAME[kind](request[argument])
    assert same_bits(expected, analytics.basic_statistics(**request | {argument: passed}))
    np.testing.assert_array_equal(passed, request[argument])


@pytest.mark.parametrize("dtype", ["b1", "i1", "u2", "i8", "u8", "f2", "f4", ">f8", "longdouble"])
def test_any_type_of_real_number_is_read(dtype: str) -> None:
    values = np.array([1, 0, 1, 1, 0, 1], dtype)
    found = analytics.basic_statistics(values)
    assert same_bits(found, analytics.basic_statistics([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))


REFUSED = [
    (argument, kind)
    for argument in ("values", "percentiles")
    for kind in hostile.REFUSED
    if (argument, kind) != ("percentiles", "none_at_all")  # which asks for no order statistics
]


@pytest.mark.parametrize(("argument", "kind"), REFUSED)
def test_what_is_no_series_of_numbers_is_refused_by_name(argument: str, kind: str) -> None:
    request: dict[str, Any] = {"values": np.arange(6.0), "percentiles": np.arange(6.0)}
    request[argument] = hostile.REFUSED[kind](request[argument])
    with pytest.raises(NativeError, match=rf"^{argument}: .*, expected "):
        analytics.basic_statistics(**request)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"percentiles": [50, -1]}, "percentiles: -1.0 at [1], expected from 0 to 100"),
        ({"percentiles": [100.5]}, "percentiles: 100.5 at [0], expected from 0 to 100"),
        ({"percentiles": [NAN]}, "percentiles: nan at [0], expected from 0 to 100"),
        ({"ddof": -1}, "ddof: -1, expected a whole number, zero or more"),
        ({"ddof": True}, "ddof: True, expected a whole number, zero or more"),
        ({"ddof": "1"}, "ddof: '1', expected a whole number, zero or more"),
        ({"ddof": 0.5}, "ddof: 0.5, expected a whole number, zero or more"),
        ({"nan_policy": "drop"}, "nan_policy: 'drop', expected one of raise, omit, propagate"),
    ],
)
def test_a_refusal_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        analytics.basic_statistics(**{"values": [1.0, 2.0]} | changes)
    assert str(caught.value) == message


# --- The twins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [3, 1000, 40_000])
def test_the_twins_agree_on_every_level(on_each_level: Any, shape: str, n: int) -> None:
    values = SHAPES[shape](n)
    with native_c.use_backend("fallback"):
        expected = analytics.basic_statistics(values)
    levels = on_each_level(lambda: analytics.basic_statistics(values))
    assert all(same_bits(levels[0], found) for found in levels)
    assert all(np.array_equal(levels[0][key], expected[key]) for key in ORDERED)
    size = float(np.sum(np.abs(values) / n))
    for key, scale in {"sum": n * size, "mean": size}.items():
        assert levels[0][key] == pytest.approx(expected[key], rel=1e-14, abs=1e-15 * scale)
    for key in ("variance", "std", "sem", "skewness", "kurtosis"):
        assert levels[0][key] == pytest.approx(expected[key], rel=1e-12, abs=1e-11, nan_ok=True)


def test_the_number_of_threads_does_not_change_the_bits(compiled: Any) -> None:
    values = np.exp(normals(300_000)) + 1e6
    answers = []
    with native_c.use_backend("compiled"):
        for threads in (1, 2, 3, 7):
            extension.set_threads(threads)
            answers.append(analytics.basic_statistics(values))
            assert native_c.made()["threads"] == threads
    assert all(same_bits(answers[0], answer) for answer in answers)


def test_a_thousand_calls_leak_nothing() -> None:
    values = normals(500)
    analytics.basic_statistics(values)
    tracemalloc.start()
    for _ in range(1_000):
        analytics.basic_statistics(values)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 20_000
