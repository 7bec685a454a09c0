"""What is promised to be the same to the bit, as data: the tests hold it, the page shows it.

A row of the table in docs/determinism.md is a `Promise`: an operation, requests of it that are
large enough for the thread pool, and how near two answers are that differ in one thing alone: the
number of threads, the worker's pool, a second delivery, the instruction set, the backend.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

import native_c

PAGE: Final = Path(__file__).parents[1] / "docs" / "determinism.md"

#: Fields that say how an answer was made, and so may differ.
MADE: Final = {"backend", "simd", "threads", "kernel_seconds", "queue_seconds"}

Request = dict[str, Any]


@dataclass(frozen=True)
class Within:
    """How far numbers may be apart: relative to them, or absolute, whichever allows more."""

    relative: float = 0.0
    absolute: float = 0.0
    #: What `absolute` is a part of, and its size for a request; 1 where there is nothing to say.
    part_of: str = ""
    scale: Callable[[Request], float] = lambda request: 1.0

    def __str__(self) -> str:
        """Return the tolerance as the page says it."""
        parts = []
        if self.relative:
            parts.append(f"{self.relative:.0e} relative")
        if self.absolute:
            parts.append(f"{self.absolute:.0e}" + (f" of {self.part_of}" if self.part_of else ""))
        return " or ".join(parts).replace("e-0", "e-")


#: Fields whose bits may differ, each with its tolerance; all others have the same bits.
Agreement = Mapping[str, Within]
SAME: Final[Agreement] = {}


@dataclass(frozen=True)
class Promise:
    """One row: what two answers to one request have in common."""

    operation: str
    requests: Mapping[str, Callable[[], Request]]
    #: Which requests of the operation the row is about, where it is not all of them.
    when: str = ""
    #: Whether such a request is spread over threads.
    pooled: bool = True
    threads: Agreement = field(default_factory=dict)
    pools: Agreement = field(default_factory=dict)
    redelivery: Agreement = field(default_factory=dict)
    levels: Agreement = field(default_factory=dict)
    backends: Agreement = field(default_factory=dict)


COLUMNS: Final = ("threads", "pools", "redelivery", "levels", "backends")


def compute(operation: str, request: Request) -> dict[str, Any]:
    """Return what the kernels answer, on the twin in force."""
    family, _, verb = operation.partition(".")
    return native_c.run(getattr(importlib.import_module(f"native_c.{family}"), verb)(**request))


def assert_agree(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    agreement: Agreement,
    request: Request | None = None,
) -> None:
    """Fail unless two answers have the same fields, and those the same bits or near values."""
    assert found.keys() - MADE == expected.keys() - MADE
    for name in sorted(found.keys() - MADE):
        if name in agreement:
            allowed = agreement[name]
            absolute = allowed.absolute * allowed.scale(request or {})
            np.testing.assert_allclose(
                found[name], expected[name], allowed.relative, absolute, err_msg=name
            )
        else:
            assert bits_of(found[name]) == bits_of(expected[name]), name


def bits_of(value: Any) -> tuple[Any, ...]:
    """Return what two equal values have in common, down to the sign of a zero."""
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


def table() -> str:
    """Return the table of the page."""
    lines = [
        f"| | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for promise in PROMISES:
        said = f"`{promise.operation}`" + (f", {promise.when}" if promise.when else "")
        cells = [_say(getattr(promise, column)) for column in COLUMNS]
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _say(agreement: Agreement) -> str:
    if not agreement:
        return "same bits"
    fields: dict[str, list[str]] = {}
    for name, allowed in agreement.items():
        fields.setdefault(str(allowed), []).append(f"`{name}`")
    said = "; ".join(f"{', '.join(names)} within {allowed}" for allowed, names in fields.items())
    return f"same bits, but {said}"


# --- The requests -----------------------------------------------------------------------------


@functools.cache
def _series() -> Any:
    return np.random.default_rng(5).normal(0.1, 1, 300_000)


def _with_gaps() -> Request:
    values = _series()[:140_001] * 1e3 + 1e9
    values[::97] = np.nan
    return {"values": values, "percentiles": [99.9, 0, 12.5], "ddof": 0, "nan_policy": "omit"}


def _zeros() -> Request:
    return {"values": np.where(_series()[:140_001] > 0, 0.0, -0.0), "percentiles": [0, 30, 100]}


def _windows(**more: Any) -> Request:
    rng = np.random.default_rng(6)
    return {
        "embeddings": rng.normal(size=(600, 48)).astype(np.float32),
        "modalities": np.arange(600) % 3,
        "timestamps_ms": rng.integers(0, 10**6, 600),
        **more,
    }


def _bandit(policy: str) -> Request:
    rng = np.random.default_rng(7)
    return {
        "counts": np.arange(20) % 4,
        "reward_sums": np.arange(20) % 4 * 0.25,
        "policy": policy,
        "outcomes": (rng.random((1500, 20)) < np.linspace(0.1, 0.7, 20)).astype(float),
        "prior_alpha": 0.5,
        "seed": 11,
    }


def _batch(policy: str) -> Request:
    request = _bandit(policy)
    del request["outcomes"]
    return request | {"num_selections": 1500, "step": 4}


def _nodes() -> Request:
    rng = np.random.default_rng(8)
    visits = rng.integers(0, 99, (60_000, 5))
    return {
        "visits": visits,
        "value_sums": rng.normal(size=visits.shape) * 9,
        "parent_visits": visits.sum(axis=1) + 1,
        "child_counts": rng.integers(0, 6, 60_000),
    }


def _magnitude(request: Request) -> float:
    return float(np.nansum(np.abs(request["values"])))


def _mean_magnitude(request: Request) -> float:
    return _magnitude(request) / max(1, int(np.count_nonzero(~np.isnan(request["values"]))))


_POLICIES = ("ucb1", "thompson", "epsilon_greedy", "softmax")
_SIXTH: Final = Within(absolute=1e-6)
_SEVENTH: Final = Within(absolute=1e-7)
_SPREAD: Final = Within(relative=1e-12)
_SHAPE: Final = Within(relative=1e-12, absolute=1e-11)

PROMISES: Final = (
    Promise(
        "analytics.basic_statistics",
        {"plain": lambda: {"values": _series()}, "gaps": _with_gaps, "zeros": _zeros},
        backends={
            "sum": Within(0.0, 1e-14, "the sum of magnitudes", _magnitude),
            "mean": Within(0.0, 1e-14, "the mean of magnitudes", _mean_magnitude),
            **dict.fromkeys(("variance", "std", "sem"), _SPREAD),
            **dict.fromkeys(("skewness", "kurtosis"), _SHAPE),
        },
    ),
    Promise(
        "fusion.connection_discovery",
        {
            "threshold": lambda: _windows(threshold=0.2),
            "across": lambda: _windows(threshold=-0.1, cross_modal_only=True),
        },
        when="up to 1,000 columns",
        levels=dict.fromkeys(("similarity", "strength"), _SIXTH),
        backends=dict.fromkeys(("similarity", "strength"), _SIXTH),
    ),
    Promise(
        "fusion.connection_discovery",
        {"nearest": lambda: _windows(threshold=-1.0, top_k=5)},
        when="with `top_k` below n − 1",
        backends=dict.fromkeys(("similarity", "strength"), _SEVENTH),
    ),
    Promise(
        "optimization.multi_armed_bandit",
        {
            **{f"{name}-replay": functools.partial(_bandit, name) for name in _POLICIES},
            **{f"{name}-batch": functools.partial(_batch, name) for name in _POLICIES},
        },
        pooled=False,
    ),
    Promise("mcts.ucb1_selection", {"nodes": _nodes}),
)

#: Every request of every promise, named for pytest.
CASES: Final = {
    f"{promise.operation}-{name}": (promise, make)
    for promise in PROMISES
    for name, make in promise.requests.items()
}
