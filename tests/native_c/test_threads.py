"""The thread pool under what worker processes do to it: forks, many callers, changing limits."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np

import native_c
from native_c import extension, mcts


def large() -> dict[str, Any]:
    """Return a request that is cut into several chunks."""
    rng = np.random.default_rng(8)
    visits = rng.integers(0, 99, (60_000, 5))
    sums = rng.random(visits.shape)
    return {"visits": visits, "value_sums": sums, "parent_visits": visits.sum(axis=1) + 1}


def test_many_threads_may_call_at_once(compiled: Any) -> None:
    request = large()
    answers: list[bytes] = []
    extension.set_threads(4)

    def call() -> None:
        with native_c.use_backend("compiled"):
            found = [mcts.ucb1_selection(**request)["scores"] for _ in range(5)]
        answers.extend(scores.tobytes() for scores in found)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert len(set(answers)) == 1


def test_how_many_threads_were_used_is_told_to_the_thread_that_called(compiled: Any) -> None:
    extension.set_threads(2)
    with native_c.use_backend("compiled"):
        mcts.ucb1_selection(**large())
        told: list[int] = []
        thread = threading.Thread(target=lambda: told.append(extension.made()["threads"]))
        thread.start()
        thread.join()
        assert native_c.made()["threads"] == 2
        assert told == [1]
        mcts.ucb1_selection([[1]], [[1.0]], [1])
        assert native_c.made()["threads"] == 1


FORK = """
import os
import numpy as np
import native_c
from native_c import mcts

rng = np.random.default_rng(8)
visits = rng.integers(0, 99, (60_000, 5))
request = {"visits": visits, "value_sums": rng.random(visits.shape),
           "parent_visits": visits.sum(axis=1) + 1}
native_c.set_threads(3)
expected = mcts.ucb1_selection(**request)["scores"].tobytes()
assert native_c.made()["threads"] == 3
for _ in range(4):
    child = os.fork()
    if child == 0:
        same = mcts.ucb1_selection(**request)["scores"].tobytes() == expected
        os._exit(0 if same and native_c.made()["threads"] == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert mcts.ucb1_selection(**request)["scores"].tobytes() == expected
"""


def test_parent_and_forked_child_both_keep_computing(compiled: Any) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    environment = os.environ | {"NATIVE_C_BACKEND": "compiled"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_threads_can_be_stopped_and_start_again(compiled: Any) -> None:
    extension.set_threads(3)
    request = large()
    with native_c.use_backend("compiled"):
        before = mcts.ucb1_selection(**request)["scores"]
        compiled.lib.nc_stop_threads()
        assert (mcts.ucb1_selection(**request)["scores"] == before).all()
