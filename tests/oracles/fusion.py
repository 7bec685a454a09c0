"""What PyTorch and Faiss answer for the `fusion` family."""

from typing import Any, Final

import numpy as np

from tests.oracles.table import Table

#: No similarity lies nearer than this to a threshold or to the next one that `top_k` cuts off: then
#: the kept pairs do not hang on anyone's rounding.
MARGIN: Final = 2e-6


def windows(
    *,
    seed: int,
    num_windows: int,
    dim: int,
    num_modalities: int = 1,
    num_zero: int = 0,
    timed: bool = False,
    **arguments: Any,
) -> dict[str, Any]:
    """Make a request for connection_discovery: random embeddings of very different lengths.

    The last `num_zero` embeddings are all zeros, and so equally near to all others.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    embeddings = rng.random((num_windows, dim)) - 0.5
    lengths = np.ldexp(1.0, rng.integers(-8, 9, num_windows))
    embeddings *= lengths[:, None]
    embeddings[num_windows - num_zero :] = 0.0
    request: dict[str, Any] = {
        "embeddings": embeddings.astype(np.float32),
        "modalities": rng.integers(0, num_modalities, num_windows).astype(np.int32),
    }
    if timed:
        request["timestamps_ms"] = rng.integers(0, 300_000, num_windows)
    return request | arguments


def discover_in_float64(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by torch.nn.functional.cosine_similarity and exp in float64, rounded to float32."""
    import torch

    rows = torch.from_numpy(request["embeddings"]).double()
    similarity = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
    return _keep(request, similarity)


def discover_in_float32(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by a product of torch.nn.functional.normalize's rows in float32."""
    import torch

    rows = torch.nn.functional.normalize(torch.from_numpy(request["embeddings"]))
    return _keep(request, rows @ rows.T)


def _keep(request: dict[str, Any], similarity: Any) -> dict[str, Any]:
    """Return the result for a tensor of similarities [n, n]."""
    import torch

    candidates = ~torch.eye(len(similarity), dtype=torch.bool)
    if request.get("cross_modal_only"):
        modalities = torch.from_numpy(request["modalities"])
        candidates &= modalities[:, None] != modalities
    threshold, top_k = request["threshold"], request.get("top_k")
    _refuse_near_ties((similarity[candidates] - threshold).abs())
    kept = candidates & (similarity >= threshold)
    if top_k:
        among = torch.where(candidates, similarity, -torch.inf)
        best, columns = among.topk(top_k + 1, dim=1)
        cut = best[:, -2] - best[:, -1]
        _refuse_near_ties(cut[cut.isfinite()])
        nearest = torch.zeros_like(candidates).scatter_(1, columns[:, :-1], value=True)
        kept &= nearest | nearest.T
    i, j = kept.triu(1).nonzero(as_tuple=True)
    found = similarity[i, j]
    return {
        "i": i.numpy(),
        "j": j.numpy(),
        "similarity": found.float().numpy(),
        "strength": _weaken(request, found, i, j).float().numpy(),
        "num_windows": len(similarity),
        "num_pairs_considered": int(candidates.triu(1).sum()),
    }


def _weaken(request: dict[str, Any], similarity: Any, i: Any, j: Any) -> Any:
    import torch

    if "timestamps_ms" not in request:
        return similarity
    times = torch.from_numpy(request["timestamps_ms"]).to(similarity.dtype)
    return similarity * torch.exp(-(times[i] - times[j]).abs() / request["time_scale_ms"])


def search_nearest(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by faiss: IndexFlatIP over normalized rows, searched among the allowed ones."""
    import faiss

    rows = request["embeddings"].copy()
    faiss.normalize_L2(rows)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    kept = {}
    for window, row in enumerate(rows):
        allowed = np.arange(len(rows)) != window
        if request.get("cross_modal_only"):
            allowed &= request["modalities"] != request["modalities"][window]
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.flatnonzero(allowed)))
        found, others = index.search(row[None], request["top_k"] + 1, params=chosen)
        _refuse_near_ties(np.diff(found[0])[-1:])
        _refuse_near_ties(found[0] - request["threshold"])
        for similarity, other in zip(found[0, :-1], others[0, :-1].tolist(), strict=True):
            if similarity >= request["threshold"]:
                kept[min(window, other), max(window, other)] = similarity
    pairs = sorted(kept)
    similarities = np.array([kept[pair] for pair in pairs])
    return {
        "i": [i for i, _ in pairs],
        "j": [j for _, j in pairs],
        "similarity": similarities,
    }


def _refuse_near_ties(distances: Any) -> None:
    nearest = float(abs(distances).min()) if len(distances) else np.inf
    if nearest < MARGIN:
        raise ValueError(f"seed: two similarities {nearest} apart, expected another seed")


_SMALL: Final = {"num_windows": 60, "dim": 24}
_ABOVE_A_THRESHOLD: Final = {
    "threshold": _SMALL | {"seed": 1, "threshold": 0.3},
    "zeros and a threshold below zero": {
        "seed": 2,
        "num_windows": 20,
        "dim": 24,
        "num_zero": 2,
        "threshold": -0.1,
    },
    "all pairs": {"seed": 3, "num_windows": 17, "dim": 5, "threshold": -1.0},
    "cross-modal over time": _SMALL
    | {
        "seed": 4,
        "num_modalities": 3,
        "threshold": 0.25,
        "cross_modal_only": True,
        "timed": True,
        "time_scale_ms": 45_000.0,
    },
    "many columns": {"seed": 5, "num_windows": 90, "dim": 777, "threshold": 0.07},
}
_NEAREST: Final = {
    "top_k": _SMALL | {"seed": 6, "threshold": -0.9, "top_k": 3},
    "top_k above a threshold": _SMALL | {"seed": 7, "threshold": 0.25, "top_k": 5},
    "cross-modal top_k": _SMALL
    | {"seed": 8, "num_modalities": 4, "threshold": 0.1, "top_k": 2, "cross_modal_only": True},
    "many columns": {"seed": 9, "num_windows": 90, "dim": 777, "threshold": 0.02, "top_k": 1},
}

#: One step of float32 at 1: where float64 cosines round to.
_ONE_STEP: Final = (0.0, 2.0**-23)
#: What sums in float32 promise.
_FLOAT32_SUMS: Final = (0.0, 1e-6)

TABLES: Final = (
    Table(
        name="fusion_torch_float64",
        operation="fusion.connection_discovery",
        oracle=("torch",),
        cases=_ABOVE_A_THRESHOLD,
        request=windows,
        answer=discover_in_float64,
        within={"similarity": _FLOAT32_SUMS, "strength": _FLOAT32_SUMS},
        rerun_within=_ONE_STEP,
    ),
    Table(
        name="fusion_torch_float64_nearest",
        operation="fusion.connection_discovery",
        oracle=("torch",),
        cases=_NEAREST,
        request=windows,
        answer=discover_in_float64,
        within={"similarity": _ONE_STEP, "strength": _ONE_STEP},
        rerun_within=_ONE_STEP,
    ),
    Table(
        name="fusion_torch_float32_nearest",
        operation="fusion.connection_discovery",
        oracle=("torch",),
        cases=_NEAREST,
        request=windows,
        answer=discover_in_float32,
        within={"similarity": _FLOAT32_SUMS, "strength": _FLOAT32_SUMS},
        rerun_within=_FLOAT32_SUMS,
    ),
    Table(
        name="fusion_faiss_nearest",
        operation="fusion.connection_discovery",
        oracle=("faiss-cpu",),
        cases=_NEAREST,
        request=windows,
        answer=search_nearest,
        within={"similarity": _FLOAT32_SUMS},
        rerun_within=_FLOAT32_SUMS,
    ),
)
