"""The fusion kernels in NumPy."""

from collections.abc import Generator
from typing import Final

import numpy as np
from numpy import float32, float64, int32, int64, uint32, uint64
from numpy.typing import NDArray

from native_c.errors import InvalidArgument, OutOfMemory
from native_c.fallback import elementary

#: Pairs, and the number of rows that are all zeros.
Found = tuple[NDArray[int32], NDArray[int32], NDArray[float32], int]
Pairs = tuple[NDArray[int32], NDArray[int32], NDArray[float32]]

#: Rows of a tile of similarities, and multiplications of a tile: about 20 ms on one thread.
MOST_ROWS: Final = 512
TILE_WORK: Final = 2e8


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
    tiles = _Tiles(embeddings.astype(float64), modalities, float32(threshold))
    pairs = yield from (_find_nearest(tiles, top_k, limit) if top_k else _find_all(tiles, limit))
    return *pairs, tiles.num_zero


def connection_strength(
    i: NDArray[int32],
    j: NDArray[int32],
    similarity: NDArray[float32],
    timestamps_ms: NDArray[int64],
    time_scale_ms: float,
    strength: NDArray[float32],
) -> None:
    """Fill `strength` [m] with similarity * exp(-|dt| / time_scale_ms)."""
    a, b = timestamps_ms[i], timestamps_ms[j]
    # Unsigned, because the distance of two int64 may need 64 bits.
    apart = np.maximum(a, b).view(uint64) - np.minimum(a, b).view(uint64)
    with np.errstate(over="ignore"):  # infinitely many scales apart is far enough
        scales = apart.astype(float64) / time_scale_ms
    decay = elementary.exp(-scales)
    strength[:] = similarity.astype(float64) * decay


class _Tiles:
    """The similarities of all rows, a tile at a time, as float64 sums rounded to float32."""

    def __init__(
        self, embeddings: NDArray[float64], modalities: NDArray[int32] | None, threshold: float32
    ) -> None:
        self.embeddings = embeddings
        self.norms = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))
        if not np.isfinite(self.norms).all():
            raise InvalidArgument
        zero = self.norms == 0
        self.norms[zero] = 1  # their sums of products are zeros, and stay so
        self.num_zero = int(zero.sum())
        self.modalities = modalities
        self.threshold = threshold
        self.num_rows = len(embeddings)
        side = max(1, min(MOST_ROWS, int((TILE_WORK / embeddings.shape[1]) ** 0.5)))
        starts = range(0, self.num_rows, side)
        self.blocks = [slice(start, min(start + side, self.num_rows)) for start in starts]

    def similarities(
        self, rows: slice, columns: slice
    ) -> tuple[NDArray[float32], NDArray[np.bool_]]:
        """Return a tile, and which of its pairs join two rows and reach the threshold."""
        # Divided afterwards, because sums of products of whole numbers are exact.
        sums = self.embeddings[rows] @ self.embeddings[columns].T
        sums /= self.norms[rows, None]
        sums /= self.norms[columns]
        tile: NDArray[float32] = np.clip(sums, -1.0, 1.0, out=sums).astype(float32)
        kept: NDArray[np.bool_] = tile >= self.threshold
        if self.modalities is not None:
            kept &= self.modalities[rows, None] != self.modalities[None, columns]
        if rows == columns:
            np.fill_diagonal(kept, val=False)
        return tile, kept


def _find_all(tiles: _Tiles, limit: int) -> Generator[float, None, Pairs]:
    done, total = 0, len(tiles.blocks) * (len(tiles.blocks) + 1) // 2
    ordered = []
    for block, rows in enumerate(tiles.blocks):
        found = []
        for columns in tiles.blocks[block:]:
            tile, kept = tiles.similarities(rows, columns)
            if rows == columns:
                kept = np.triu(kept)
            first, second = np.nonzero(kept)
            found.append(_as_pairs(first + rows.start, second + columns.start, tile[kept]))
            limit -= first.size
            if limit < 0:
                raise OutOfMemory
            done += 1
            if total > 1:
                yield done / total
        ordered.append(_in_order(found))
    return _join(ordered)


def _find_nearest(tiles: _Tiles, top_k: int, limit: int) -> Generator[float, None, Pairs]:
    """Find the `top_k` best of each row among all others, and join what the two ends found."""
    done, total = 0, len(tiles.blocks) ** 2
    found = []
    for rows in tiles.blocks:
        best = np.zeros((rows.stop - rows.start, top_k), uint64)
        for columns in tiles.blocks:
            tile, kept = tiles.similarities(rows, columns)
            worst = np.where(best[:, 0] == 0, float32(-1), _similarities_of(best[:, 0]))
            row, column = np.nonzero(kept & (tile >= worst[:, None]))
            best = _better_of(best, row, _keys(tile[row, column], column + columns.start))
            done += 1
            if total > 1:
                yield done / total
        row, _ = held = np.nonzero(best)
        here, other = row + rows.start, _others_of(best[held])
        ends = np.minimum(here, other), np.maximum(here, other)
        found.append(_as_pairs(*ends, _similarities_of(best[held])))
    i, j, similarity = _join(found)
    # A pair that both ends found counts once.
    _, unique = np.unique(i.astype(int64) * tiles.num_rows + j, return_index=True)
    if unique.size > limit:
        raise OutOfMemory
    return i[unique], j[unique], similarity[unique]


def _better_of(
    best: NDArray[uint64], row: NDArray[int64], keys: NDArray[uint64]
) -> NDArray[uint64]:
    """Return the best of `best` [n, k] and of new keys, whose rows ascend; the worst come first."""
    counts = np.bincount(row, minlength=len(best))
    place = np.arange(row.size) - (counts.cumsum() - counts)[row]
    new = np.zeros((len(best), counts.max()), uint64)
    new[row, place] = keys
    top_k = best.shape[1]
    return np.partition(np.hstack([best, new]), -top_k, axis=1)[:, -top_k:]


def _keys(similarity: NDArray[float32], other: NDArray[int64]) -> NDArray[uint64]:
    """Return an integer a pair, greater for a better one: more similar, then of lower index."""
    bits = (similarity + float32(0)).view(uint32)  # adding 0 makes 0 of -0
    ranks = np.where(bits >> 31, ~bits, bits | uint32(1 << 31)).astype(uint64)
    return ranks << uint64(32) | ~other.astype(uint32)


def _similarities_of(keys: NDArray[uint64]) -> NDArray[float32]:
    ranks = (keys >> uint64(32)).astype(uint32)
    return np.where(ranks >> 31, ranks & uint32(0x7FFFFFFF), ~ranks).view(float32)


def _others_of(keys: NDArray[uint64]) -> NDArray[int64]:
    return (~keys.astype(uint32)).astype(int64)


def _as_pairs(first: NDArray[int64], second: NDArray[int64], similarity: NDArray[float32]) -> Pairs:
    return first.astype(int32), second.astype(int32), similarity


def _in_order(groups: list[Pairs]) -> Pairs:
    if len(groups) == 1:
        return groups[0]
    i, j, similarity = _join(groups)
    order = np.argsort(i, kind="stable")  # the groups come by ascending j
    return i[order], j[order], similarity[order]


def _join(groups: list[Pairs]) -> Pairs:
    if not groups:
        return np.empty(0, int32), np.empty(0, int32), np.empty(0, float32)
    i, j, similarity = zip(*groups, strict=True)
    return np.concatenate(i), np.concatenate(j), np.concatenate(similarity)
