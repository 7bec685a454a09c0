"""Running a kernel to its end, in one call or in steps."""

from collections.abc import Generator
from typing import Any

import pytest

import native_c


def stepping(log: list[str]) -> Generator[float, None, dict[str, Any]]:
    try:
        for step in range(4):
            yield step / 4
        return {"answer": 42}
    finally:
        log.append("finished")


def test_a_kernel_that_returns_at_once_is_its_result() -> None:
    assert native_c.run({"answer": 42}) == {"answer": 42}


def test_a_stepping_kernel_is_driven_to_its_result() -> None:
    log: list[str] = []
    assert native_c.run(stepping(log)) == {"answer": 42}
    assert log == ["finished"]


def test_progress_is_told_between_steps() -> None:
    told: list[float] = []
    native_c.run(stepping([]), told.append)
    assert told == [0.0, 0.25, 0.5, 0.75]


def test_what_the_listener_raises_ends_the_kernel_and_frees_what_it_holds() -> None:
    log: list[str] = []

    def cancel(progress: float) -> None:
        if progress == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        native_c.run(stepping(log), cancel)
    assert log == ["finished"]
