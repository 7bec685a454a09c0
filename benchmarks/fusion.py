"""Cases of the fusion kernels."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import native_c
from benchmarks.case import Call, Case, Peer
from native_c import fusion

Embeddings = NDArray[np.float32]
Answer = dict[str, Any]

DIMENSIONS: Final = 768
THRESHOLD: Final = 0.3
TOP_K: Final = 10

#: Rows of a block of NumPy's and torch's products: the fastest of 128 to 5,000 for the pairs above
#: a threshold. For the nearest, one product is fastest, which NumPy computes by half.
_BLOCK: Final = 512

#: Windows that tell of the same thing, on average.
_GROUP: Final = 10


def windows(size: int) -> tuple[Embeddings]:
    """Return embeddings in groups: cosines about 0.5 within a group, about 0 between groups."""
    rng = np.random.default_rng(7)
    things = rng.normal(size=(max(1, size // _GROUP), DIMENSIONS))
    told = things[rng.integers(0, len(things), size)]
    return ((told + rng.normal(size=told.shape)).astype(np.float32),)


def ours(embeddings: Embeddings) -> Call:
    """Find the pairs above the threshold."""
    modalities = np.zeros(len(embeddings), np.int32)
    return lambda: native_c.run(
        fusion.connection_discovery(embeddings, modalities, threshold=THRESHOLD)
    )


def ours_top(embeddings: Embeddings) -> Call:
    """Find the pairs that are among the ten nearest of one of their ends."""
    modalities = np.zeros(len(embeddings), np.int32)
    return lambda: native_c.run(
        fusion.connection_discovery(embeddings, modalities, threshold=-1.0, top_k=TOP_K)
    )


def exact_cosines(embeddings: Embeddings) -> NDArray[np.float64]:
    """Return all cosines [n, n] in float64, by NumPy."""
    rows = embeddings.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def verify(answer: Answer, embeddings: Embeddings) -> None:
    """Compare with the float64 cosines: the same pairs exactly, the similarities within 1e-6."""
    cosines = exact_cosines(embeddings)
    i, j = np.nonzero(np.triu(cosines.astype(np.float32) >= np.float32(THRESHOLD), 1))
    _compare(answer, i, j, cosines)


def verify_top(answer: Answer, embeddings: Embeddings) -> None:
    """Compare with the ten highest float64 cosines of each row."""
    cosines = exact_cosines(embeddings)
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argpartition(-cosines, TOP_K, axis=1)[:, :TOP_K]
    i, j = _pairs(nearest)
    _compare(answer, i, j, cosines)


def _pairs(nearest: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pairs (i, j), i < j, in order, of which one end names the other; -1 names none."""
    size, k = nearest.shape
    ends = np.stack([np.repeat(np.arange(size), k), nearest.ravel()])[:, nearest.ravel() >= 0]
    pairs = np.unique(ends.min(axis=0) * size + ends.max(axis=0))
    return np.divmod(pairs, size)


def _compare(answer: Answer, i: NDArray[Any], j: NDArray[Any], cosines: NDArray[Any]) -> None:
    assert i.size
    np.testing.assert_array_equal(answer["i"], i)
    np.testing.assert_array_equal(answer["j"], j)
    np.testing.assert_allclose(answer["similarity"], cosines[i, j], atol=1e-6, rtol=0)


def numpy(embeddings: Embeddings) -> Call:
    """Multiply the unit vectors, block by block, and select."""
    return lambda: numpy_above(embeddings)


def numpy_above(embeddings: Embeddings) -> tuple[Any, ...]:
    """Return i, j and similarity of the pairs above the threshold."""
    rows = numpy_units(embeddings)
    parts = []
    for begin in range(0, len(rows), _BLOCK):
        cosines = rows[begin : begin + _BLOCK] @ rows[begin:].T
        i, j = np.nonzero(np.triu(cosines >= THRESHOLD, 1))
        parts.append((i + begin, j + begin, cosines[i, j]))
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))


def numpy_units(embeddings: Embeddings) -> Embeddings:
    """Return the embeddings at length 1."""
    rows: Embeddings = embeddings / np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))[:, None]
    return rows


def torch(embeddings: Embeddings) -> Call:
    """Do as NumPy, without a graph of gradients."""
    import torch as pytorch

    given = pytorch.from_numpy(embeddings)

    @pytorch.inference_mode()
    def torch_above() -> tuple[Any, ...]:
        rows = pytorch.nn.functional.normalize(given)
        parts = []
        for begin in range(0, len(rows), _BLOCK):
            cosines = rows[begin : begin + _BLOCK] @ rows[begin:].T
            i, j = pytorch.nonzero(pytorch.triu(cosines >= THRESHOLD, 1), as_tuple=True)
            parts.append((i + begin, j + begin, cosines[i, j]))
        return parts[0] if len(parts) == 1 else tuple(map(pytorch.cat, zip(*parts, strict=True)))

    return lambda: torch_above()


def numkong(embeddings: Embeddings) -> Call:
    """Let its symmetric kernel fill the upper triangle, then select."""
    import numkong as nk

    def numkong_above() -> tuple[Any, Any, Any]:
        distances = numkong_angles(nk, embeddings)
        i, j = np.nonzero(np.triu(distances <= 1 - THRESHOLD, 1))
        return i, j, 1 - distances[i, j]

    return lambda: numkong_above()


def numkong_angles(nk: Any, embeddings: Embeddings) -> NDArray[Any]:
    """Return the angular distances [n, n], upper triangle, rows shared out among the threads."""
    size, threads = len(embeddings), int(os.environ.get("OMP_NUM_THREADS", "1"))
    if threads == 1:
        return np.asarray(nk.angulars_symmetric(embeddings))
    # Row i has n - i cosines, so equal shares of the triangle end at these rows.
    ends = (size * (1 - np.sqrt(1 - np.arange(threads + 1) / threads))).astype(int).tolist()
    found = nk.empty((size, size), dtype="float64")
    with ThreadPoolExecutor(threads) as pool:
        for begin, end in pairwise(ends):
            pool.submit(nk.angulars_symmetric, embeddings, out=found, start_row=begin, end_row=end)
    return np.asarray(found)


def faiss(embeddings: Embeddings) -> Call:
    """Search an exact index of inner products by range."""
    import faiss as library

    def faiss_above() -> tuple[Any, Any, Any]:
        rows = embeddings.copy()
        library.normalize_L2(rows)
        index = library.IndexFlatIP(rows.shape[1])
        index.add(rows)
        return index.range_search(rows, THRESHOLD)

    return lambda: faiss_above()


def numpy_top(embeddings: Embeddings) -> Call:
    """Multiply the unit vectors and partition each row."""
    return lambda: numpy_nearest(embeddings)


def numpy_nearest(embeddings: Embeddings) -> NDArray[Any]:
    """Return the ten nearest of each row and, first or last, itself."""
    rows = numpy_units(embeddings)
    cosines = rows @ rows.T
    return np.argpartition(cosines, -TOP_K - 1, axis=1)[:, -TOP_K - 1 :]


def torch_top(embeddings: Embeddings) -> Call:
    """Multiply the unit vectors and let topk select, unsorted."""
    import torch as pytorch

    given = pytorch.from_numpy(embeddings)

    @pytorch.inference_mode()
    def torch_nearest() -> Any:
        rows = pytorch.nn.functional.normalize(given)
        return pytorch.topk(rows @ rows.T, TOP_K + 1, sorted=False).indices

    return lambda: torch_nearest()


def numkong_top(embeddings: Embeddings) -> Call:
    """Fill the triangle, mirror it, and partition each row with NumPy."""
    import numkong as nk

    def numkong_nearest() -> NDArray[Any]:
        distances = np.triu(numkong_angles(nk, embeddings))
        distances += np.triu(distances, 1).T
        return np.argpartition(distances, TOP_K, axis=1)[:, : TOP_K + 1]

    return lambda: numkong_nearest()


def faiss_top(embeddings: Embeddings) -> Call:
    """Search by inner product without an index, which is its exact brute force."""
    import faiss as library

    def faiss_nearest() -> NDArray[Any]:
        rows = embeddings.copy()
        library.normalize_L2(rows)
        return library.knn(rows, rows, TOP_K + 1, library.METRIC_INNER_PRODUCT)[1]

    return lambda: faiss_nearest()


def agrees(theirs: Any, ours: Answer) -> None:
    """Compare pairs (i, j, similarity); float32 may round one in a thousand to the other side."""
    i, j, similarity = (np.asarray(part) for part in theirs)
    _same_pairs(i, j, ours)
    if i.size == ours["i"].size:
        np.testing.assert_allclose(similarity, ours["similarity"], atol=1e-4, rtol=0)


def faiss_agrees(theirs: Any, ours: Answer) -> None:
    """Compare a range search, which finds each pair twice and each row itself."""
    limits, similarity, j = theirs
    i = np.repeat(np.arange(limits.size - 1), np.diff(limits.astype(np.int64)))
    order = np.lexsort((j, i))
    order = order[i[order] < j[order]]
    agrees((i[order], j[order], similarity[order]), ours)


def top_agrees(theirs: Any, ours: Answer) -> None:
    """Compare the nearest of each row, itself left out."""
    nearest = np.asarray(theirs)
    others = np.where(nearest == np.arange(len(nearest))[:, None], -1, nearest)
    _same_pairs(*_pairs(others), ours)


def _same_pairs(i: NDArray[Any], j: NDArray[Any], ours: Answer) -> None:
    size = ours["num_windows"]
    theirs, mine = i.astype(np.int64) * size + j, ours["i"].astype(np.int64) * size + ours["j"]
    assert np.setxor1d(theirs, mine).size <= mine.size / 1000


def _num_pairs(size: int) -> int:
    return size * (size - 1) // 2


_ABOVE: Final = {50: 2.0}
_TOP: Final = {5_000: 1.5}

CASES: Final = (
    Case(
        operation="fusion.connection_discovery",
        name=f"{DIMENSIONS} dimensions, above {THRESHOLD}",
        data=windows,
        sizes=(50, 500, 5_000),
        unit="windows",
        ours=ours,
        verify=verify,
        peers=(
            Peer("NumPy, product and nonzero", "numpy", numpy, agrees, _ABOVE),
            Peer("torch, product and nonzero", "torch", torch, agrees, _ABOVE),
            Peer("numkong, angulars_symmetric", "numkong", numkong, agrees, _ABOVE),
            Peer("faiss, range_search", "faiss-cpu", faiss, faiss_agrees, _ABOVE),
        ),
        element="pair",
        elements=_num_pairs,
        note="Ours decides each pair as float64 would, the peers within the rounding of float32.",
    ),
    Case(
        operation="fusion.connection_discovery",
        name=f"{DIMENSIONS} dimensions, top {TOP_K}",
        data=windows,
        sizes=(500, 2_000, 5_000),
        unit="windows",
        ours=ours_top,
        verify=verify_top,
        peers=(
            Peer("NumPy, product and argpartition", "numpy", numpy_top, top_agrees, _TOP),
            Peer("torch, product and topk", "torch", torch_top, top_agrees, _TOP),
            Peer("numkong, angulars_symmetric", "numkong", numkong_top, top_agrees, _TOP),
            Peer("faiss, knn", "faiss-cpu", faiss_top, top_agrees, _TOP),
        ),
        element="pair",
        elements=_num_pairs,
        bars_on_all_cores=True,
        note="The peers stop at the nearest of each row; ours goes on to the pairs, each once, "
        "with similarity and strength, and decides as float64 would.",
    ),
)
