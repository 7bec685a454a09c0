"""Cases for tests of the harness: none of our kernels, and peers that behave or do not."""

import time
from typing import Any

from benchmarks.case import Call, Case, Peer
from benchmarks.measurement import Job

JOB = Job("mcts", 0, 1, quick=True)


def count_up(size: int) -> tuple[int]:
    return (size,)


def adding(size: int) -> Call:
    return lambda: sum(range(size))


def spin(seconds: float) -> None:
    """Keep the processor busy: time asleep would count by one clock and not by the other."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def adding_slowly(size: int) -> Call:
    def slowly() -> int:
        spin(0.002)
        return sum(range(size))

    return lambda: slowly()


def multiplying(size: int) -> Call:
    return lambda: size * 2


def importing(size: int) -> Call:
    import a_library_that_nobody_has  # type: ignore[import-not-found]

    return lambda: a_library_that_nobody_has.add(size)


def is_triangular(answer: int, size: int) -> None:
    assert answer == size * (size - 1) // 2, f"{answer} is not the sum"


def is_never_right(answer: int, size: int) -> None:
    raise AssertionError("the oracle says otherwise")


def same(theirs: Any, ours: Any) -> None:
    assert theirs == ours, f"{theirs} is not {ours}"


SLOW = Peer("slow", "numpy", adding_slowly, same, bars={100: 2.0})
MISSING = Peer("missing", "a-library-that-nobody-has", importing, same, bars={100: 2.0})
OTHER = Peer("other", "numpy", multiplying, same)


def case(*peers: Peer, verify: Any = is_triangular, ours: Any = adding, **more: Any) -> Case:
    """Return a case of adding up numbers."""
    fields: dict[str, Any] = {
        "operation": "mcts.ucb1_selection",
        "name": "added",
        "data": count_up,
        "sizes": (100,),
        "unit": "numbers",
        "ours": ours,
        "verify": verify,
        "peers": peers,
        "element": "number",
    }
    return Case(**fields | more)
