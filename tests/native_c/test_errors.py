"""The errors of the kernels, and the statuses they stand for."""

from typing import Any

import pytest

from native_c import errors


def test_each_failing_status_of_the_header_has_its_error(compiled: Any) -> None:
    lib = compiled.lib
    expected = {
        lib.NC_INVALID: errors.InvalidArgument,
        lib.NC_NO_MEMORY: errors.OutOfMemory,
        lib.NC_SINGULAR: errors.Singular,
        lib.NC_NOT_CONVERGED: errors.NotConverged,
        lib.NC_UNSUPPORTED: errors.Unsupported,
    }
    assert dict(errors.ERRORS) == expected
    assert (lib.NC_OK, lib.NC_AGAIN) == (0, 5)


@pytest.mark.parametrize("status", errors.ERRORS)
def test_a_failing_status_raises_its_error(status: int) -> None:
    with pytest.raises(errors.ERRORS[status], match=r"^Raised when "):
        errors.check(status)


def test_success_raises_nothing_and_an_unknown_status_the_base() -> None:
    errors.check(0)
    with pytest.raises(errors.NativeError):
        errors.check(99)


def test_each_error_is_also_the_built_in_one_that_callers_expect() -> None:
    for error, builtin in (
        (errors.InvalidArgument, ValueError),
        (errors.OutOfMemory, MemoryError),
        (errors.Singular, ArithmeticError),
        (errors.NotConverged, ArithmeticError),
        (errors.Unsupported, ValueError),
        (errors.UnknownBackend, ValueError),
        (errors.ExtensionMissing, ImportError),
    ):
        assert issubclass(error, builtin)
        assert issubclass(error, errors.NativeError)
        assert str(error()) == (error.__doc__ or "").splitlines()[0]
        assert str(error("x: 1, expected 2")) == "x: 1, expected 2"
