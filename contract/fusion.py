"""Requests and results of the `fusion` family: windows of several modalities, and their ties."""

import reprlib
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from contract.arrays import Array, refuse_unless
from contract.operation import Operation, Result, request, result

__all__ = ["ConnectionDiscoveryRequest", "ConnectionDiscoveryResult", "connection_discovery"]


class Labels:
    """A field of labels, all names or all integers; it then holds one int32 code for each.

    Names become the codes 0, 1, ... in alphabetical order, integers stay as they are. Only equality
    counts, and a request that is checked again on its way keeps its codes.
    """

    _codes = Array("i4", ndim=1)

    def validate(self, value: object) -> NDArray[Any]:
        """Return the codes [n] of `value`, or raise a refusal."""
        names = _names_of(value)
        if names is None:
            return self._codes.validate(value)
        strange = [name for name in names if not isinstance(name, str)][:1]
        was = f"{reprlib.repr(strange)[1:-1]} among names"
        refuse_unless(not strange, "", was, "names only, or integers only")
        distinct = {name: code for code, name in enumerate(sorted(set(names)))}
        return np.fromiter((distinct[name] for name in names), np.int32, len(names))

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Tell pydantic to validate with `validate`."""
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the field as a list of names or of integers, its JSON form."""
        lists = [{"type": "array", "items": {"type": kind}} for kind in ("string", "integer")]
        return {"anyOf": lists, "description": "labels, compared for equality"}


def _names_of(value: object) -> Sequence[Any] | None:
    """Return the labels as a sequence where any of them is a name, else None."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "UTO" or value.ndim != 1:
            return None
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return None
    return value if any(isinstance(label, str) for label in value) else None


@request
class ConnectionDiscoveryRequest:
    """Find the pairs of windows whose embeddings point in similar directions.

    The similarity of two windows is the cosine of the angle between their embeddings. A pair is
    kept when its similarity is at least `threshold` and, with `top_k`, when it is among the `top_k`
    most similar ones of either of its ends (equal similarities go to the lowest index). A window
    whose embedding is all zeros has similarity 0 with every other.
    """

    #: Embedding of each window, [n, d], finite, of any length; float64 is rounded to float32.
    embeddings: Annotated[ArrayLike, Array("f4", ndim=2, finite=True)]
    #: Modality of each window, [n], all names or all integers.
    modalities: Annotated[Sequence[str] | ArrayLike, Labels()]
    #: Time of each window, [n], in milliseconds since any epoch. Defaults to none: time does not
    #: weaken a pair.
    timestamps_ms: Annotated[ArrayLike | None, Array("i8", ndim=1)] = None
    #: Least similarity of a kept pair, in [-1, 1]. Defaults to 0.3.
    threshold: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = 0.3
    #: Number of pairs that each window may keep, at least 1. Defaults to all.
    top_k: Annotated[int | None, Field(ge=1, lt=2**63)] = None
    #: Whether pairs of one modality are left out. Defaults to False.
    cross_modal_only: bool = False
    #: Time in which the strength of a pair falls to 1/e of its similarity, in milliseconds, above
    #: 0. Defaults to a minute.
    time_scale_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60_000.0

    def __post_init__(self) -> None:
        """Check what the arguments must be for one another."""
        shape = np.shape(self.embeddings)
        refuse_unless(shape[1] > 0, "embeddings", f"shape {list(shape)}", "at least one column")
        for name in ("modalities", "timestamps_ms"):
            values = getattr(self, name)
            if values is not None:
                was, expected = f"{len(values)} elements", f"{shape[0]}, one for each embedding"
                refuse_unless(len(values) == shape[0], name, was, expected)


@result
class ConnectionDiscoveryResult(Result):
    """The kept pairs of windows, ordered by `i`, then by `j`."""

    #: Index of the first window of each pair, [m].
    i: Annotated[NDArray[np.int32], Array("i4", ndim=1)]
    #: Index of the second window of each pair, [m], always above `i`.
    j: Annotated[NDArray[np.int32], Array("i4", ndim=1)]
    #: Cosine similarity of each pair, [m], in [-1, 1].
    similarity: Annotated[NDArray[np.float32], Array("f4", ndim=1)]
    #: Strength of each pair, [m]: its similarity times exp(-|time apart| / `time_scale_ms`), or its
    #: similarity where no timestamps are given.
    strength: Annotated[NDArray[np.float32], Array("f4", ndim=1)]
    #: Number of windows, n.
    num_windows: int
    #: Number of pairs that were looked at: all, or all of two modalities.
    num_pairs_considered: int


connection_discovery = Operation(
    "fusion.connection_discovery", ConnectionDiscoveryRequest, ConnectionDiscoveryResult
)
