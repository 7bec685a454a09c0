"""Turns what callers pass into numbers, choices and flags, or refuses it by name."""

import math
import reprlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from native_c.errors import InvalidArgument

#: Numbers whose own text is short.
_SHORT: Final = (float, np.integer, np.floating)
_REAL: Final = (int, *_SHORT)


def said(value: object) -> str:
    """Return a short text for what a value is, whatever its own `repr` does."""
    if isinstance(value, _SHORT):
        return str(value)
    try:
        return reprlib.repr(value)
    except Exception:  # an int of more digits than Python writes
        return type(value).__name__


def as_float(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value`, one finite number from `low` to `high`, as a float.

    Raises InvalidArgument, which begins with `name`, for anything else.
    """
    if type(value) is float and low <= value <= high and math.isfinite(value):
        return value
    try:
        number = float(value) if _is_real(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if math.isfinite(number) and low <= number <= high:
        return number
    expected = "a finite number"
    if (low, high) != (-math.inf, math.inf):
        expected += f", {bounds(low, high)}"
    raise InvalidArgument(f"{name}: {said(value)}, expected {expected}")


def as_whole(name: str, value: object, low: int, high: int, expected: str) -> int:
    """Return `value`, one whole number from `low` to `high`, as an int.

    Raises InvalidArgument, `<name>: <value>, expected <expected>`, for anything else.
    """
    if type(value) is int and low <= value <= high:
        return value
    whole = _is_real(value) and isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:  # type: ignore[call-overload]
        raise InvalidArgument(f"{name}: {said(value)}, expected {expected}")
    return int(value)  # type: ignore[call-overload,no-any-return]


def as_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value`, one of `choices`. Raises InvalidArgument for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgument(f"{name}: {said(value)}, expected one of {', '.join(choices)}")
    return str(value)


def as_flag(name: str, value: object) -> bool:
    """Return `value`, True or False. Raises InvalidArgument for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidArgument(f"{name}: {said(value)}, expected True or False")
    return bool(value)


def bounds(low: float, high: float) -> str:
    """Return a range in words."""
    if high == math.inf:
        return f"at least {low}"
    return f"at most {high}" if low == -math.inf else f"from {low} to {high}"


def _is_real(value: object) -> bool:
    # NumPy counts times among the integers.
    return isinstance(value, _REAL) and not isinstance(value, np.timedelta64)
