"""The start-up self-test: the C kernels must agree with NumPy on small cases before they are used.

It guards against a miscompiled or stale extension, so it is quick rather than thorough. Each facade
lists its cases in its `SELF_TEST`, and whatever is listed is tested.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from native_c import backend
from native_c.errors import ExtensionMissing
from native_c.steps import Outcome, run

#: An operation of a facade and the arguments to call it with.
Case = tuple[Callable[..., Outcome], dict[str, Any]]


def run_self_test() -> None:
    """Raise ExtensionMissing, naming the operation, unless all cases agree on both twins."""
    for family in backend.FAMILIES:
        cases: Sequence[Case] = importlib.import_module(f"native_c.{family}").SELF_TEST
        for operation, arguments in cases:
            name = f"{family}.{operation.__name__}"
            try:
                ours, numpys = (_run_on(twin, operation, arguments) for twin in backend.TWINS)
            except Exception as error:  # a stale extension fails in many ways
                raise ExtensionMissing(f"the self-test of {name} failed: {error}") from error
            if not agree(ours, numpys):
                raise ExtensionMissing(f"the self-test of {name} disagrees with NumPy")


def agree(ours: dict[str, Any], numpys: dict[str, Any]) -> bool:
    """Whether two results have the same fields and values."""
    return ours.keys() == numpys.keys() and all(_same(ours[key], numpys[key]) for key in ours)


def _same(ours: object, numpys: object) -> bool:
    """Whether two values are equal, floats to 1e-9: far above rounding, far below any defect."""
    one, other = np.asarray(ours), np.asarray(numpys)
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True))


def _run_on(twin: str, operation: Callable[..., Outcome], arguments: dict[str, Any]) -> Any:
    with backend.use_backend(twin):
        return run(operation(**arguments))
