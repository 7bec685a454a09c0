"""Facade of the fusion kernels: checks and prepares arguments, allocates results."""

from collections.abc import Generator
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from native_c import backend
from native_c.arrays import (
    FLOAT32,
    INT32,
    INT64,
    as_array,
    require_between,
    require_finite,
    require_shape,
)
from native_c.errors import InvalidArgument, OutOfMemory
from native_c.scalars import as_flag, as_float, as_whole

#: Pairs (i, j, similarity), and the number of rows that are all zeros.
Found = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], int]

#: Beyond it a float64 becomes infinite in float32.
MOST_FLOAT32: Final = float(np.finfo(np.float32).max)

#: Most pairs of one answer: 256 MiB of indices, similarities and strengths, which still travel.
MAX_PAIRS: Final = 2**24

#: Most candidates that `top_k` may hold while it looks, at 8 bytes each: each pair has two ends.
MAX_CANDIDATES: Final = 4 * MAX_PAIRS

#: Pairs whose strength is computed between two reports of progress: some milliseconds of work.
STRENGTHS_A_STEP: Final = 1 << 19


def connection_discovery(
    embeddings: object,
    modalities: object,
    timestamps_ms: object = None,
    threshold: float = 0.3,
    top_k: int | None = None,
    cross_modal_only: bool = False,
    time_scale_ms: float = 60_000.0,
) -> Generator[float, None, dict[str, Any]]:
    """Find the pairs of n windows whose embeddings have a cosine similarity of `threshold` or more.

    `embeddings` [n, d] are finite and become float32, d at least 1; `modalities` [n] are integer
    codes; `timestamps_ms` [n] are integers; `threshold` is in [-1, 1]; `top_k`, 1 or more, keeps
    only the pairs that are among the `top_k` of one of their ends, equal similarities by lowest
    index; `cross_modal_only` leaves out pairs of one modality; `time_scale_ms` is above 0, finite.

    Works in steps: yields its progress, and returns the pairs ordered by (i, j): `i` and `j` [m]
    int32, `similarity` [m] float32, `strength` [m] float32, the similarity times
    exp(-|dt| / time_scale_ms), and `num_windows`, `num_pairs_considered` and `warnings`.

    Which pairs are kept is exact: as if float64 cosines were rounded to float32 and compared with
    the threshold so rounded. With `top_k` the similarities are those; without, they come from sums
    in float32, within 1e-6 up to 1,000 columns.

    Raises InvalidArgument where a shape or a range is not kept, and OutOfMemory where embeddings
    or work space do not fit.
    """
    rows = _as_embeddings(embeddings)
    num_windows = rows.shape[0]
    codes = as_array("modalities", modalities, INT32, 1)
    require_shape("modalities", codes, (num_windows,), "the rows of embeddings")
    if timestamps_ms is not None:
        timestamps_ms = as_array("timestamps_ms", timestamps_ms, INT64, 1)
        require_shape("timestamps_ms", timestamps_ms, (num_windows,), "the rows of embeddings")
    threshold = as_float("threshold", threshold, -1, 1)
    most = _as_count(top_k, num_windows)
    time_scale_ms = as_float("time_scale_ms", time_scale_ms, 0)
    if time_scale_ms == 0:
        raise InvalidArgument(f"time_scale_ms: {time_scale_ms}, expected a number above 0")
    counted = codes if as_flag("cross_modal_only", cross_modal_only) else None
    twin = backend.current().fusion
    pairs = _find(twin, embeddings, rows, counted, threshold, most)
    return _discover(twin, pairs, counted, num_windows, timestamps_ms, time_scale_ms)


def _require_room(num_windows: int, top_k: int) -> None:
    """Refuse a `top_k` whose candidates would outgrow any answer and this machine's memory."""
    candidates = num_windows * top_k
    if candidates > MAX_CANDIDATES:
        was = f"{top_k}, which keeps {candidates} candidates of {num_windows} windows"
        raise InvalidArgument(f"top_k: {was}, expected at most {MAX_CANDIDATES} in all")


def _find(
    twin: ModuleType,
    given: object,
    embeddings: NDArray[np.float32],
    modalities: NDArray[np.int32] | None,
    threshold: float,
    top_k: int,
) -> Generator[float, None, Found]:
    try:
        found: Found = yield from twin.connection_discovery(
            embeddings, modalities, threshold, top_k, MAX_PAIRS
        )
    except InvalidArgument:
        _explain(given)
        raise
    except OutOfMemory:
        was = f"{threshold}, which keeps more than {MAX_PAIRS} pairs"
        raise InvalidArgument(f"threshold: {was}, expected a higher one, or top_k") from None
    return found


def _discover(
    twin: ModuleType,
    pairs: Generator[float, None, Found],
    modalities: NDArray[np.int32] | None,
    num_windows: int,
    timestamps_ms: Any,
    time_scale_ms: float,
) -> Generator[float, None, dict[str, Any]]:
    i, j, similarity, num_zero = yield from pairs
    strength = similarity.copy()  # which it is without times, and is replaced with them
    for begin in range(0, 0 if timestamps_ms is None else i.size, STRENGTHS_A_STEP):
        if begin:
            yield 1.0
        part = slice(begin, begin + STRENGTHS_A_STEP)
        ends = (i[part], j[part], similarity[part])
        twin.connection_strength(*ends, timestamps_ms, time_scale_ms, strength[part])
    return {
        "i": i,
        "j": j,
        "similarity": similarity,
        "strength": strength,
        "num_windows": num_windows,
        "num_pairs_considered": _count_pairs(num_windows, modalities),
        "warnings": (_say_zero(num_zero),) if num_zero else (),
    }


def _as_embeddings(value: object) -> NDArray[np.float32]:
    embeddings = as_array("embeddings", value, FLOAT32, 2)
    if embeddings.shape[1] == 0:
        raise InvalidArgument(
            f"embeddings: shape {list(embeddings.shape)}, expected at least one column"
        )
    return embeddings


def _as_count(top_k: object, num_windows: int) -> int:
    """Return how many pairs a window may keep, 0 for all of them."""
    if top_k is None:
        return 0
    most = as_whole("top_k", top_k, 1, 2**63 - 1, "a whole number, at least 1, or None")
    if most >= num_windows - 1:  # all others of a window: nothing is left out
        return 0
    _require_room(num_windows, most)
    return most


def _explain(given: object) -> None:
    """Say which number is not finite: the kernels see that in passing, but not where."""
    numbers = np.asarray(given)
    require_finite("embeddings", numbers)
    require_between("embeddings", numbers, -MOST_FLOAT32, MOST_FLOAT32)


def _count_pairs(num_windows: int, modalities: NDArray[np.int32] | None) -> int:
    pairs = num_windows * (num_windows - 1) // 2
    if modalities is None:
        return pairs
    counts: list[int] = np.unique(modalities, return_counts=True)[1].tolist()
    return pairs - sum(count * (count - 1) // 2 for count in counts)


def _say_zero(num_zero: int) -> str:
    rows = "1 embedding is" if num_zero == 1 else f"{num_zero} embeddings are"
    return f"{rows} all zeros: such a window has similarity 0 with every other."


#: Small cases on which the C kernels must agree with NumPy before they are used.
SELF_TEST = (
    (
        connection_discovery,
        {
            "embeddings": [[1, 1, 1, 1], [1, -1, 1, 1], [2, 2, 2, -2], [0, 0, 0, 0], [3, 3, 3, 3]],
            "modalities": [0, 1, 1, 0, 0],
            "timestamps_ms": [0, 1_000, 60_000, 0, -5],
            "threshold": 0.5,
            "cross_modal_only": True,
        },
    ),
    (
        connection_discovery,
        {
            "embeddings": [[1, 2, 3], [3, 2, 1], [0, 1, -1], [1, 2, 4], [-1, 2, 0]],
            "modalities": [0, 0, 0, 0, 0],
            "threshold": -1.0,
            "top_k": 2,
        },
    ),
)
