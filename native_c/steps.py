"""Drives kernels, those that return at once and those that work in steps, in one way."""

from collections.abc import Callable, Generator
from typing import Any

#: What a facade returns: its result, or for a long kernel a generator that yields its progress.
Outcome = dict[str, Any] | Generator[float, None, dict[str, Any]]


def run(outcome: Outcome, on_progress: Callable[[float], object] | None = None) -> dict[str, Any]:
    """Return the result of a facade's call, stepping through it where it is a long kernel.

    `on_progress` is called between steps, about every 50 ms or sooner, with the part that is done,
    in [0, 1]. What it raises ends the kernel, frees what it holds, and is raised here: so a job is
    cancelled or meets its deadline.
    """
    if not isinstance(outcome, Generator):
        return outcome
    try:
        while True:
            try:
                progress = next(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if on_progress is not None:
                on_progress(progress)
    finally:
        outcome.close()
