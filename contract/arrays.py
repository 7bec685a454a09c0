"""Array fields of requests and results: what is coerced, what is refused, and in which words."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

#: Types of element that may travel, in NumPy's spelling; always little-endian on the wire.
DTYPES: Final = ("f4", "f8", "i4", "i8", "u1", "b1")

#: Largest array of a request, in bytes. Redis takes strings up to 512 MiB, and a stock transport's
#: base64 makes four bytes of three.
MAX_ARRAY_BYTES: Final = 256 * 2**20

#: How JSON spells the numbers that it has no literal for, as in the JSON form of protocol buffers.
NON_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

_NAMES = {
    "f4": "float32",
    "f8": "float64",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "b1": "bool",
}
_RANKS = {0: "a single number", 1: "one dimension", 2: "two dimensions", 3: "three dimensions"}


def refusal(was: str, expected: str, argument: str = "") -> PydanticCustomError:
    """Return the error that a validator raises; it becomes `argument: was, expected expected`."""
    detail = {"was": was, "expected": expected, "argument": argument}
    return PydanticCustomError("refused", "{was}, expected {expected}", detail)


def refuse_unless(holds: object, argument: str, was: str, expected: str) -> None:
    """Raise a refusal of `argument` unless `holds`; for checks between fields."""
    if not holds:
        raise refusal(was, expected, argument)


def describe(value: object) -> str:
    """Return a short text for what a value is: `shape [3, 4]`, `'abc'`, `dtype complex128`."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {list(value.shape)}"
    return _short.repr(value)


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python writes no int of more digits than it would read; the text is cut anyway.
        return (
            super().repr_int(x, level) if x.bit_length() < 8192 else f"int of {x.bit_length()} bits"
        )


_short = _Short()


def summary(fields: Mapping[str, Any]) -> str:
    """Return fields in one line for operators: arrays by type, shape and size."""
    return ", ".join(f"{name}={_brief(value)}" for name, value in fields.items())


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, np.ndarray):
        return describe(value)
    return f"{value.dtype}[{'x'.join(map(str, value.shape))}] {_size(value.nbytes)}"


def _size(num_bytes: int) -> str:
    for unit, size in (("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} B"


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array field: `Annotated[ArrayLike, Array("f8", ndim=1)]`.

    Anything that `numpy.asarray` reads as real numbers is accepted: lists, views, any byte order,
    any alignment. The field then holds a C-contiguous, aligned, native array of `dtype`; the
    caller's array is never changed, and is shared where it already is what is needed.
    """

    #: Type of the elements, one of `DTYPES`.
    dtype: str
    #: Number of dimensions. Defaults to any.
    ndim: int | None
    #: Smallest and largest allowed value. Defaults to no bound.
    ge: float | None
    le: float | None
    #: Whether NaN and infinities are refused. Defaults to False.
    finite: bool
    #: Least number of elements. Defaults to 0.
    min_size: int

    def __init__(
        self,
        dtype: str,
        ndim: int | None = None,
        *,
        ge: float | None = None,
        le: float | None = None,
        finite: bool = False,
        min_size: int = 0,
    ) -> None:
        """Describe the field."""
        if dtype not in DTYPES:
            raise ValueError(f"dtype: {dtype!r}, expected one of {', '.join(DTYPES)}")
        for name, value in list(locals().items()):
            if name != "self":
                object.__setattr__(self, name, value)

    def validate(self, value: object) -> NDArray[Any]:
        """Return `value` as the array that the field promises, or raise a refusal."""
        array = _read(value)
        self._check_type(array)
        if self.ndim is not None and array.ndim != self.ndim:
            expected = _RANKS.get(self.ndim, f"{self.ndim} dimensions")
            raise refusal(f"shape {list(array.shape)}", expected)
        if array.size < self.min_size:
            raise refusal(f"{array.size} elements", f"at least {self.min_size}")
        self._check_bytes(array)
        exact = self._cast(array)
        self._check_values(exact)
        return exact

    def _check_type(self, array: NDArray[Any]) -> None:
        kinds = "b" if self.dtype == "b1" else "biuf"
        if array.dtype.kind not in kinds:
            expected = "true or false" if self.dtype == "b1" else "real numbers"
            raise refusal(_no_number(array) or f"dtype {array.dtype}", expected)

    def _check_bytes(self, array: NDArray[Any]) -> None:
        # Before any copy: a broadcast view of two bytes may ask for terabytes.
        num_bytes = array.size * np.dtype(self.dtype).itemsize
        if num_bytes > MAX_ARRAY_BYTES:
            raise refusal(f"{num_bytes} bytes", f"at most {MAX_ARRAY_BYTES}")

    def _cast(self, array: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            exact = np.require(array, self.dtype, ["C_CONTIGUOUS", "ALIGNED"])
        if self.dtype[0] in "iu" and array.dtype.kind in "iuf" and array.dtype != exact.dtype:
            self._check_whole(array, exact)
        if array.dtype.kind == "f" and array.dtype.itemsize > exact.itemsize:
            name = _NAMES[self.dtype]
            beyond = ~np.isfinite(exact) & np.isfinite(array)
            _refuse_any(beyond, f"too large for {name}", f"{name} numbers")
        return exact

    def _check_whole(self, array: NDArray[Any], exact: NDArray[Any]) -> None:
        limits = np.iinfo(self.dtype)
        with np.errstate(all="ignore"):
            # A float's upper limit is compared as a power of two: none holds 2**63 - 1.
            is_float = array.dtype.kind == "f"
            above = array >= limits.max + 1.0 if is_float else array > limits.max
            changed = (array < limits.min) | above | (exact.astype(array.dtype) != array)
        _refuse_any(changed, f"not whole {_NAMES[self.dtype]} numbers", "whole numbers")

    def _check_values(self, array: NDArray[Any]) -> None:
        if self.finite and self.dtype[0] == "f":
            _refuse_any(~np.isfinite(array), "not finite", "finite numbers")
        if self.ge is not None:
            _refuse_any(array < self.ge, f"below {self.ge}", f"at least {self.ge}")
        if self.le is not None:
            _refuse_any(array > self.le, f"above {self.le}", f"at most {self.le}")

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Tell pydantic to validate with `validate`; `None` passes where the field may be None."""
        schema: core_schema.CoreSchema = core_schema.no_info_plain_validator_function(self.validate)
        if source is type(None) or type(None) in get_args(source):
            schema = core_schema.nullable_schema(schema)
        return schema

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the field as nested lists, its JSON form."""
        kind = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}[self.dtype[0]]
        bounds = {"minimum": self.ge, "maximum": self.le}
        found: JsonSchemaValue = {
            "type": kind,
            **{k: v for k, v in bounds.items() if v is not None},
        }
        if kind == "number" and not self.finite:
            found = {"anyOf": [found, {"enum": list(NON_FINITE)}]}
        for _ in range(1 if self.ndim is None else self.ndim):
            found = {"type": "array", "items": found}
        if self.min_size and self.ndim == 1:
            found["minItems"] = self.min_size
        if schema["type"] == "nullable":
            found = {"anyOf": [found, {"type": "null"}]}
        return {**found, "description": f"{_NAMES[self.dtype]} array"}


def to_json(value: Any) -> Any:
    """Return a value for JSON: arrays as lists, NaN and infinities as `NON_FINITE` words."""
    if isinstance(value, np.ndarray):
        exact = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        return value.tolist() if exact else to_json(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return value


def _read(value: object) -> NDArray[Any]:
    mask = np.ma.getmask(value) if isinstance(value, np.ma.MaskedArray) else np.ma.nomask
    if mask.any():
        was = f"masked array with {int(mask.sum())} masked"
        raise refusal(was, "a plain array (fill with NaN first)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise refusal("ragged nested lists", "rows of equal length") from None
        raise refusal(f"unreadable ({error})", "an array of numbers") from None
    except MemoryError:
        raise refusal("too large for memory", f"at most {MAX_ARRAY_BYTES} bytes") from None
    except Exception as error:  # an object's own __array__ may raise anything
        was = f"unreadable ({type(error).__name__}: {error})"
        raise refusal(was, "an array of numbers") from None
    if array.dtype.kind == "U" and isinstance(value, list | tuple):
        return np.asarray(_unspell(value), dtype="f8")
    return array


def _unspell(value: Any) -> Any:
    """Return nested lists with the words of `NON_FINITE` as floats; refuse what is no number."""
    if isinstance(value, list | tuple):
        return [_unspell(item) for item in value]
    if isinstance(value, str) and value in NON_FINITE:
        return NON_FINITE[value]
    if isinstance(value, str):
        raise refusal(f"text {describe(value)}", "real numbers")
    if not _is_number(value):
        raise refusal(describe(value), "real numbers")
    return float(value)


def _is_number(value: Any) -> bool:
    """Say whether `value`, an element of a list, is a real number that NumPy holds."""
    if isinstance(value, int):
        return value.bit_length() <= 64
    return isinstance(value, float | np.bool_ | np.integer | np.floating)


def _no_number(array: NDArray[Any]) -> str:
    """Return the first element of an object array that is no number, and where it is."""
    for index in np.ndindex(array.shape) if array.dtype.kind == "O" and array.ndim else ():
        value: Any = array[index]
        if not (_is_number(value) or (isinstance(value, str) and value in NON_FINITE)):
            return f"{describe(value)} at {_place(index)}"
    return ""


def _place(index: tuple[int, ...]) -> object:
    return index[0] if len(index) == 1 else list(index)


def _refuse_any(bad: NDArray[Any], what: str, expected: str) -> None:
    if bad.any():
        where = tuple(int(at) for at in np.unravel_index(int(np.argmax(bad)), bad.shape))
        was = f"{int(bad.sum())} of {bad.size} {what} (first at {_place(where)})"
        raise refusal(was, expected)
