"""Benchmarks of the fusion kernels: each case checks its answer, then times it beside its peers.

`python -m benchmarks.fusion` prints the records; every figure is the least of many runs, on one
thread, of the kernel's facade alone: no queue.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import native_c
from native_c import fusion

#: Seconds that one figure may take, and runs it has at most.
_SECONDS: Final = 2.0
_RUNS: Final = 2_000

#: Rows that a peer multiplies with all others at once.
_BLOCK: Final = 1_024

Floats = NDArray[np.float32]
Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """Windows to connect, above a threshold or to the most similar ones."""

    num_windows: int
    threshold: float
    top_k: int | None = None
    #: The least ratio to each peer that is aimed at.
    bar: float = 1.5
    embeddings: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make embeddings in 50 loose clusters."""
        random = np.random.default_rng(7)
        centres = random.normal(size=(50, 768))
        noisy = centres[random.integers(0, 50, self.num_windows)]
        noisy += 2.0 * random.normal(size=noisy.shape)
        object.__setattr__(self, "embeddings", noisy.astype(np.float32))

    def __str__(self) -> str:
        """Return the case as the records name it."""
        kept = f"top {self.top_k}" if self.top_k else f"above {self.threshold}"
        return f"{self.num_windows:,} x 768, {kept}"


def ours(case: Case) -> Pairs:
    """Return the pairs that the kernel keeps."""
    found = connect(case)
    return set(zip(found["i"].tolist(), found["j"].tolist(), strict=True))


def connect(case: Case) -> dict[str, Any]:
    """Run the kernel; the least that a caller does."""
    modalities = np.zeros(case.num_windows, np.int32)
    return native_c.run(
        fusion.connection_discovery(
            case.embeddings, modalities, threshold=case.threshold, top_k=case.top_k
        )
    )


def by_numpy(case: Case) -> list[NDArray[Any]]:
    """Return the pairs by blocks of a matrix product, and argpartition for the most similar."""
    rows = case.embeddings / np.linalg.norm(case.embeddings, axis=1, keepdims=True)
    kept = []
    for begin in range(0, len(rows), _BLOCK):
        sums = rows[begin : begin + _BLOCK] @ rows.T
        if case.top_k is None:
            pairs = np.argwhere(np.triu(sums >= case.threshold, begin + 1))
            kept.append(pairs + np.array([begin, 0]))
            continue
        here = np.arange(len(sums))
        sums[here, here + begin] = -2.0
        nearest = np.argpartition(sums, -case.top_k, axis=1)[:, -case.top_k :]
        pairs = np.stack(np.broadcast_arrays(here[:, None] + begin, nearest), axis=-1)
        kept.append(pairs[np.take_along_axis(sums, nearest, axis=1) >= case.threshold])
    return kept


def by_torch(case: Case) -> list[Any] | None:
    """Return the pairs by torch's matrix product and topk; None where torch is not here."""
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    torch.set_num_threads(1)
    rows = torch.nn.functional.normalize(torch.from_numpy(case.embeddings), dim=1)
    kept: list[Any] = []
    for begin in range(0, len(rows), _BLOCK):
        sums = rows[begin : begin + _BLOCK] @ rows.T
        if case.top_k is None:
            pairs = torch.nonzero(torch.triu(sums >= case.threshold, begin + 1)).numpy()
            kept.append(pairs + np.array([begin, 0]))
            continue
        here = torch.arange(len(sums))
        sums[here, here + begin] = -2.0
        values, nearest = torch.topk(sums, case.top_k, dim=1, sorted=False)
        pairs = torch.stack(torch.broadcast_tensors(here[:, None] + begin, nearest), dim=-1)
        kept.append(pairs[values >= case.threshold].numpy())
    return kept


PEERS: Final[dict[str, Callable[[Case], list[Any] | None]]] = {
    "NumPy, blocks of X @ X.T and argpartition": by_numpy,
    "torch, blocks of X @ X.T and topk": by_torch,
}


def verify(case: Case, theirs: list[Any]) -> None:
    """Raise AssertionError unless a peer's pairs are ours, up to its rounding."""
    pairs = {tuple(sorted(pair)) for group in theirs for pair in group.tolist()}
    different = pairs ^ ours(case)
    assert len(different) <= 1e-3 * len(pairs), f"{case}: {len(different)} pairs differ"


def least_milliseconds(call: Callable[[], object]) -> float:
    """Return the least time of a call, in milliseconds."""
    call()
    best, start = float("inf"), time.perf_counter()
    for _ in range(_RUNS):
        began = time.perf_counter()
        call()
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended - start > _SECONDS:
            break
    return best * 1e3


def one_thread() -> AbstractContextManager[Any]:
    """Hold NumPy's BLAS to one thread, where threadpoolctl (of scikit-learn) is here to do so."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def records() -> Iterator[dict[str, Any]]:
    """Yield a record for each case and peer; a ratio above 1 means that ours is better."""
    native_c.set_threads(1)
    for case in (Case(50, 0.3), Case(500, 0.3), Case(5_000, 0.0, top_k=10)):
        mine = least_milliseconds(lambda case=case: connect(case))  # type: ignore[misc]
        for peer, call in PEERS.items():
            with one_thread():
                answer = call(case)
                if answer is None:
                    continue
                verify(case, answer)
                theirs = least_milliseconds(lambda case=case, call=call: call(case))  # type: ignore[misc]
            yield {
                "operation": "fusion.connection_discovery",
                "case": str(case),
                "metric": "time",
                "unit": "ms",
                "ours": mine,
                "peer": peer,
                "peer_value": theirs,
                "threads": 1,
                "better": "lower",
                "ratio": theirs / mine,
                "bar": case.bar,
            }


if __name__ == "__main__":
    for record in records():
        print(json.dumps(record))
