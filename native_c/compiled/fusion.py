"""The fusion kernels in C: see include/fusion.h."""

from collections.abc import Generator
from typing import Any, Final

import numpy as np
from numpy import float32, int32, int64
from numpy.typing import NDArray

from native_c.compiled import NULL, ffi, i64, lib, pointer
from native_c.errors import OutOfMemory, check

#: Pairs, and the number of rows that are all zeros.
Found = tuple[NDArray[int32], NDArray[int32], NDArray[float32], int]
Pairs = tuple[NDArray[int32], NDArray[int32], NDArray[float32]]

#: Seconds that a step works before Python looks after signals, cancellation and progress.
BUDGET: Final = 0.03
#: Tiles of pairs that a step has room for: as many as its threads work on at once.
TILES: Final = 16


def connection_discovery(
    embeddings: NDArray[float32],
    modalities: NDArray[int32] | None,
    threshold: float,
    top_k: int,
    limit: int,
) -> Generator[float, None, Found]:
    """Yield the progress, and return the kept pairs ordered by (i, j); `top_k` 0 keeps all.

    Raises InvalidArgument where a row is not finite, and OutOfMemory for more pairs than `limit`.
    """
    num_rows, num_columns = embeddings.shape
    size = lib.nc_fusion_discovery_bytes(num_rows, num_columns, top_k)
    scratch = ffi.from_buffer(np.empty(size, np.uint8))
    rows = pointer("float[]", embeddings)
    codes = NULL if modalities is None else _i32(modalities)
    sizes = (size, num_rows, num_columns)
    check(lib.nc_fusion_discovery_begin(scratch, *sizes, rows, codes, threshold, top_k))
    groups = yield from _step_through(scratch, num_rows, limit)
    if lib.nc_fusion_discovery_count(scratch) > limit:
        raise OutOfMemory
    if top_k == 0 and num_rows * num_rows <= lib.nc_fusion_discovery_room(num_rows):
        # One tile comes in order. Copies give back the room that it did not fill.
        first, second, similarity = groups[0]
        pairs = first.copy(), second.copy(), similarity.copy()
    else:
        pairs = yield from _put_in_order(scratch, groups, top_k)
    return *pairs, lib.nc_fusion_discovery_zero_rows(scratch)


def connection_strength(
    i: NDArray[int32],
    j: NDArray[int32],
    similarity: NDArray[float32],
    timestamps_ms: NDArray[int64],
    time_scale_ms: float,
    strength: NDArray[float32],
) -> None:
    """Fill `strength` [m] with similarity * exp(-|dt| / time_scale_ms)."""
    pairs = _pointers((i, j, similarity))
    times, out = i64(timestamps_ms), pointer("float[]", strength)
    check(lib.nc_fusion_strength(i.size, *pairs, times, time_scale_ms, out))


def _step_through(scratch: Any, num_rows: int, limit: int) -> Generator[float, None, list[Pairs]]:
    """Return all pairs found above the threshold, in groups, in the order in which they came."""
    room = lib.nc_fusion_discovery_room(num_rows)
    capacity = room if num_rows * num_rows <= room else room * TILES
    buffers = _make_pairs(capacity)
    pointers = _pointers(buffers)
    found, progress = ffi.new("int64_t *"), ffi.new("double *")
    groups: list[Pairs] = []
    several = False
    while status := lib.nc_fusion_discovery_step(
        scratch, BUDGET, capacity, *pointers, found, progress
    ):
        if status != lib.NC_AGAIN:
            check(status)
        if capacity - found[0] < room:
            groups.append(_copy(buffers, found[0]))
            found[0] = 0
            if len(groups) * (capacity - room) > limit:
                raise OutOfMemory
        several = True
        yield progress[0]
    if several:
        yield 1.0
    first, second, similarity = buffers
    groups.append((first[: found[0]], second[: found[0]], similarity[: found[0]]))
    return groups


def _put_in_order(scratch: Any, groups: list[Pairs], top_k: int) -> Generator[float, None, Pairs]:
    pairs = _make_pairs(lib.nc_fusion_discovery_count(scratch))
    pointers = _pointers(pairs)
    if top_k:
        check(lib.nc_fusion_discovery_gather(scratch, *pointers))
    while groups:
        group = groups.pop(0)  # given back as soon as it is placed
        check(lib.nc_fusion_discovery_place(scratch, group[0].size, *_pointers(group), *pointers))
        if groups:
            yield 1.0
    return pairs


def _make_pairs(count: int) -> Pairs:
    return np.empty(count, int32), np.empty(count, int32), np.empty(count, float32)


def _copy(pairs: Pairs, count: int) -> Pairs:
    first, second, similarity = pairs
    return first[:count].copy(), second[:count].copy(), similarity[:count].copy()


def _i32(array: NDArray[int32]) -> Any:
    return pointer("int32_t[]", array)


def _pointers(pairs: Pairs) -> tuple[Any, Any, Any]:
    return _i32(pairs[0]), _i32(pairs[1]), pointer("float[]", pairs[2])
