"""Forks in the middle of other threads' calls: they wait, and a child is not locked in."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from gristmill.server import EmbeddedServer
from producers import Client, mcts
from producers.forking import without_fork

#: Python says from 3.12 on what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

OPERATION = mcts.ucb1_selection
REQUEST = OPERATION.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])


def ended_well(child: int, seconds: float = 20) -> bool:
    """Wait for a child's end; kill it when it does not come."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def fork(act: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    finally:
        os._exit(status)


def in_a_block(hold: threading.Event) -> threading.Thread:
    """Start a thread that is inside a block until `hold` is set."""
    inside = threading.Event()

    def stay() -> None:
        with without_fork():
            inside.set()
            hold.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(5)
    return thread


def test_a_fork_waits_for_the_blocks_of_other_threads() -> None:
    hold = threading.Event()
    thread = in_a_block(hold)
    threading.Timer(0.2, hold.set).start()
    started = time.monotonic()
    child = fork(lambda: None)
    assert 0.1 < time.monotonic() - started < 0.9
    assert ended_well(child)
    thread.join()


def test_a_fork_does_not_wait_for_ever_and_its_child_has_blocks_of_its_own() -> None:
    hold = threading.Event()
    thread = in_a_block(hold)

    def enter_and_fork() -> None:
        with without_fork():
            pass
        assert ended_well(fork(lambda: None))

    started = time.monotonic()
    child = fork(enter_and_fork)
    assert 0.9 < time.monotonic() - started < 5
    assert ended_well(child)
    hold.set()
    thread.join()
    assert ended_well(fork(lambda: None))


def test_children_forked_while_threads_open_connections_can_submit(server: EmbeddedServer) -> None:
    for round_ in range(6):
        client = Client(server.url, prefix=f"forked{round_}:", timeout=5)
        done = threading.Event()

        def submit(client: Client = client, done: threading.Event = done) -> None:
            while not done.is_set():
                client.submit(OPERATION, REQUEST)

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        children = [fork(partial(client.submit, OPERATION, REQUEST)) for _ in range(3)]
        done.set()
        assert [ended_well(child) for child in children] == [True] * 3
        for thread in threads:
            thread.join()
        client.close()
