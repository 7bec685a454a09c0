"""The request and result of basic_statistics: what is accepted, and which words refuse."""

from typing import Any

import numpy as np
import pytest

from contract.analytics import BasicStatisticsRequest, BasicStatisticsResult, basic_statistics
from contract.errors import InvalidRequest
from contract.operation import fields_of
from tests import hostile

ARRAYS: dict[str, Any] = {
    "values": np.array([3.0, -4.0, 1.5, 2.0, 1e9]),
    "percentiles": np.array([90.0, 0.0, 100.0, 12.5]),
}

POLICIES = 'nan_policy "omit" or "propagate"'


def test_a_request_needs_only_values() -> None:
    request = basic_statistics.build([1, 2, 3])
    assert request.values.tolist() == [1.0, 2.0, 3.0]
    assert request.percentiles.tolist() == [5.0, 25.0, 50.0, 75.0, 95.0]
    assert (request.ddof, request.nan_policy) == (1, "raise")
    assert isinstance(request, BasicStatisticsRequest)


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("name", ARRAYS)
def test_any_layout_becomes_the_same_native_array(name: str, kind: str) -> None:
    passed = hostile.SAME[kind](ARRAYS[name])
    field = getattr(basic_statistics.build(**{**ARRAYS, name: passed}), name)
    assert field.dtype == np.float64
    assert field.flags.c_contiguous
    assert field.flags.aligned
    np.testing.assert_array_equal(field, ARRAYS[name])
    np.testing.assert_array_equal(passed, ARRAYS[name])


@pytest.mark.parametrize("dtype", ["b1", "i1", "u4", "i8", "f2", "f4", ">f8", ">i2"])
def test_any_type_of_real_number_becomes_float64(dtype: str) -> None:
    field = basic_statistics.build(np.array([1, 0, 1], dtype)).values
    assert field.dtype == np.float64
    assert field.tolist() == [1.0, 0.0, 1.0]


REFUSED = [
    (name, kind)
    for name in ARRAYS
    for kind in hostile.REFUSED
    if (name, kind) != ("percentiles", "none_at_all")  # which asks for no order statistics
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_is_no_series_of_numbers_is_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: .*, expected "):
        basic_statistics.build(**{**ARRAYS, name: hostile.REFUSED[kind](ARRAYS[name])})


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_values_that_are_not_finite_are_refused_unless_a_policy_takes_them(kind: str) -> None:
    values = hostile.NOT_FINITE[kind](ARRAYS["values"])
    with pytest.raises(
        InvalidRequest, match=r"^values: 1 of 5 not finite \(first at 2\), expected"
    ):
        basic_statistics.build(values)
    for policy in ("omit", "propagate"):
        request = basic_statistics.build(values, nan_policy=policy)
        np.testing.assert_array_equal(request.values, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, "values: 0 elements, expected at least 1"),
        (
            {"values": [1.0, float("nan"), float("inf")]},
            f"values: 2 of 3 not finite (first at 1), expected finite numbers, or {POLICIES}",
        ),
        (
            {"percentiles": [50, -1]},
            "percentiles: 1 of 2 below 0 (first at 1), expected at least 0",
        ),
        (
            {"percentiles": [100.1]},
            "percentiles: 1 of 1 above 100 (first at 0), expected at most 100",
        ),
        (
            {"percentiles": [float("nan")]},
            "percentiles: 1 of 1 not finite (first at 0), expected finite numbers",
        ),
        ({"percentiles": 50}, "percentiles: shape [], expected one dimension"),
        ({"ddof": -1}, "ddof: -1, expected greater than or equal to 0"),
        ({"ddof": True}, "ddof: True, expected a valid integer"),
        ({"ddof": "1"}, "ddof: '1', expected a valid integer"),
        ({"ddof": 0.5}, "ddof: 0.5, expected a valid integer"),
        ({"ddof": None}, "ddof: None, expected a valid integer"),
        ({"ddof": 2**63}, "ddof: 9223372036854775808, expected less than 9223372036854775808"),
        ({"nan_policy": "drop"}, "nan_policy: 'drop', expected 'raise', 'omit' or 'propagate'"),
        ({"nan_policy": None}, "nan_policy: None, expected 'raise', 'omit' or 'propagate'"),
        (
            {"axis": 0},
            "axis: unknown argument, expected one of values, percentiles, ddof, nan_policy",
        ),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        basic_statistics.build(**{**ARRAYS, **change})
    assert str(caught.value) == message


def test_a_request_without_values_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"^values: missing, expected a value$"):
        basic_statistics.build()


def test_percentiles_of_none_ask_for_no_order_statistics() -> None:
    assert basic_statistics.build([1.0], percentiles=None).percentiles is None
    assert basic_statistics.build([1.0], None).percentiles is None


def test_no_percentiles_and_numpys_own_integers_are_fine() -> None:
    request = basic_statistics.build([1.0], percentiles=[], ddof=np.int32(0))
    assert request.percentiles.shape == (0,)
    assert request.ddof == 0


def test_a_rebuilt_request_is_the_same() -> None:
    request = basic_statistics.build(**ARRAYS, ddof=0, nan_policy="omit")
    again = basic_statistics.build(**fields_of(request))
    for name, value in fields_of(request).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_a_result_without_a_spread_is_ready_for_json() -> None:
    fields = dict.fromkeys(BasicStatisticsResult.__dataclass_fields__, 1.0)
    made = {"backend": "compiled", "simd": "avx2", "threads": 1, "queue_seconds": 0.5}
    counts = {"count": 1, "missing": 0, "warnings": ("One value has no spread.",)}
    percentiles = {"percentiles": np.array([1.0, np.nan]), "std": float("nan")}
    told = basic_statistics.read_result(fields | made | counts | percentiles).to_dict()
    assert told["count"] == 1
    assert told["percentiles"] == [1.0, "NaN"]
    assert told["std"] == "NaN"
    assert told["warnings"] == ["One value has no spread."]
