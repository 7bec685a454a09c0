"""What facades take as an array, and how they refuse the rest."""

from typing import Any

import numpy as np
import pytest

from native_c.arrays import as_array, require_between, require_finite, require_shape
from native_c.errors import InvalidArgument, NativeError, OutOfMemory
from tests import hostile

GOOD = {
    "f8": np.linspace(1.0, 2.0, 12).reshape(3, 4),
    "i8": np.arange(12).reshape(3, 4),
    "u1": np.arange(12, dtype="u1").reshape(3, 4),
}


def test_an_array_that_fits_is_passed_on_as_it_is() -> None:
    for dtype, array in GOOD.items():
        assert as_array("x", array, dtype, 2) is array


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("dtype", GOOD)
def test_any_layout_becomes_aligned_native_and_contiguous(kind: str, dtype: str) -> None:
    passed = hostile.SAME[kind](GOOD[dtype])
    if dtype == "u1" and isinstance(passed, list | tuple):
        passed = np.array(passed, np.uint8)  # a list of Python integers reads as int64
    found = as_array("x", passed, dtype, 2)
    assert type(found) is np.ndarray
    assert found.dtype == np.dtype(dtype)
    assert found.flags.c_contiguous
    assert found.flags.aligned
    np.testing.assert_array_equal(found, GOOD[dtype])


@pytest.mark.parametrize("kind", hostile.REFUSED)
@pytest.mark.parametrize("dtype", GOOD)
def test_what_is_no_array_of_numbers_is_refused(kind: str, dtype: str) -> None:
    with pytest.raises(NativeError, match=r"^scores: .*, expected "):
        as_array("scores", hostile.REFUSED[kind](GOOD[dtype]), dtype, 2)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([[1.0]], "f8", "x: shape [1, 1], expected one dimension"),
        (3.0, "f8", "x: shape [], expected one dimension"),
        ([1.5], "i8", "x: dtype float64, expected whole numbers"),
        ([1j], "f8", "x: dtype complex128, expected real numbers"),
        ([1], "b1", "x: dtype int64, expected booleans"),
        ([1, -1], "u8", "x: -1, expected values that fit uint64"),
        (np.array([2**63], "u8"), "i8", f"x: {2**63}, expected values that fit int64"),
        ([[1], [2, 3]], "f8", "x: a ragged sequence, expected rows of equal length"),
    ],
)
def test_a_refusal_says_what_it_is_and_what_was_expected(
    value: Any, dtype: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        as_array("x", value, dtype, 1)
    assert str(caught.value) == message


def test_whole_numbers_become_floats_and_narrow_ones_wide() -> None:
    assert as_array("x", [True, False], "f8", 1).tolist() == [1.0, 0.0]
    assert as_array("x", np.array([200], "u1"), "i8", 1).tolist() == [200]
    assert as_array("x", np.array([7], "u8"), "i8", 1).tolist() == [7]
    assert as_array("x", np.array([], "u8"), "i8", 1).tolist() == []


def test_a_float_beyond_the_range_of_the_dtype_becomes_infinite() -> None:
    assert as_array("x", [1e300, -1e300, 1.5], "f4", 1).tolist() == [np.inf, -np.inf, 1.5]


def test_an_array_that_does_not_fit_in_memory_is_refused_as_such() -> None:
    with pytest.raises(OutOfMemory, match="expected an array that fits in memory"):
        as_array("x", np.broadcast_to(1.0, (2**29, 2**29)), "f8", 2)


def test_shapes_are_compared_with_the_argument_they_follow_from() -> None:
    require_shape("b", np.zeros((2, 3)), (2, 3), "a")
    with pytest.raises(InvalidArgument, match=r"b: shape \[2\], expected shape \[3\] as a"):
        require_shape("b", np.zeros(2), (3,), "a")


def test_a_value_out_of_range_is_named_with_its_place() -> None:
    values = np.array([[1.0, 2.0], [np.nan, 4.0]])
    with pytest.raises(InvalidArgument, match=r"v: nan at \[1, 0\], expected finite values"):
        require_finite("v", values)
    with pytest.raises(InvalidArgument, match=r"v: nan at \[1, 0\], expected at most 3"):
        require_between("v", values, high=3)
    with pytest.raises(InvalidArgument, match=r"v: 1.0 at \[0, 0\], expected at least 2"):
        require_between("v", values, low=2)
    with pytest.raises(InvalidArgument, match=r"v: 4.0 at \[1, 1\], expected from 0 to 3"):
        require_between("v", np.nan_to_num(values), 0, 3)
    require_between("v", np.nan_to_num(values), 0, 4)
    require_finite("v", np.empty((0, 3)))
