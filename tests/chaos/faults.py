"""The faults that strike a stand under load, one class each."""

import contextlib
import itertools
import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import psutil

from tests.chaos.ledger import Blow
from tests.chaos.proxy import Network
from tests.chaos.stand import Stand, wait_until
from tests.chaos.worker import Worker


class Fault(ABC):
    """Something that goes wrong, as often as wanted."""

    #: What it is called in the sheet.
    name: ClassVar[str]
    #: Shortest and longest pause before it strikes, in seconds.
    pause: ClassVar[tuple[float, float]] = (2.0, 5.0)
    #: Whether the stand needs networks that can fail.
    needs_networks: ClassVar[bool] = False

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def wait(self) -> None:
        """Let the load run for a while."""
        time.sleep(self._random.uniform(*self.pause))

    @abstractmethod
    def strike(self, stand: Stand) -> Blow:
        """Do it once, undo what can be undone, and return what was done."""

    def _worker(self, stand: Stand) -> Worker:
        """Return a random worker, in the middle of something if it is ever: idle ones lose none."""
        worker = self._random.choice(list(stand.workers.values()))
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: stand.is_busy(worker.name), 2, every=0.001)
        return worker

    def _retry(self, act: Callable[[], int | None]) -> int:
        """Return what `act` returns once there is something for it to act on."""
        found = act()
        limit = time.monotonic() + 60
        while found is None and time.monotonic() < limit:
            time.sleep(0.02)
            found = act()
        assert found is not None, "nothing to act on for a minute"
        return found


def _moment(pid: int, at: float) -> Blow:
    return Blow(at=at, over_at=at, parents=frozenset({pid}))


class KillParent(Fault):
    """SIGKILL to the parent process of a random worker; its supervisor starts it again."""

    name = "kill -9 of a worker's parent"
    pause = (2.5, 5.5)

    def strike(self, stand: Stand) -> Blow:
        pid = self._retry(self._worker(stand).kill)
        return _moment(pid, time.monotonic())


class KillChild(Fault):
    """SIGKILL to a process of a worker's pool, in the middle of a job whenever there is one."""

    name = "kill -9 of a worker's child"
    pause = (0.5, 2.0)

    def strike(self, stand: Stand) -> Blow:
        def kill() -> int | None:
            worker = self._worker(stand)
            children = {child.pid: child for child in worker.children()}
            child = children.get(stand.running(worker.name) or 0)
            if child is None and children:
                child = self._random.choice(list(children.values()))
            with contextlib.suppress(psutil.NoSuchProcess):
                if child is not None:
                    child.kill()
                    return child.pid
            return None

        pid = self._retry(kill)
        at = time.monotonic()
        return Blow(at=at, over_at=at, process=pid)


class KillServer(Fault):
    """SIGKILL to the server, and a start on what it left on disk one to three seconds later."""

    name = "kill -9 of Redis and restart"
    pause = (3.0, 6.0)

    def strike(self, stand: Stand) -> Blow:
        at = time.monotonic()
        stand.server.kill()
        time.sleep(self._random.uniform(1.0, 3.0))
        stand.server.start()
        return Blow(at=at, over_at=time.monotonic())


class CutNetwork(Fault):
    """The network fails for some seconds: down, silent, slow, or half-open connections.

    In turns: for everybody, and for one worker alone, longer than its lease.
    """

    name = "network cut"
    pause = (4.0, 8.0)
    needs_networks = True

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._num_strikes = 0

    def strike(self, stand: Stand) -> Blow:
        ways = (Network.DOWN, Network.BLACKHOLE, None, Network.SLOW, Network.BLACKHOLE)
        way = ways[self._num_strikes % len(ways)]
        is_for_all = self._num_strikes % 2 == 0
        self._num_strikes += 1
        names = list(stand.proxies) if is_for_all else [self._worker(stand).name]
        at = time.monotonic()
        for name in names:
            if way is None:
                stand.proxies[name].half_open()
            else:
                stand.proxies[name].set(way)
        if way is not None:
            time.sleep(self._random.uniform(5.0, 8.0))
        for name in names:
            stand.proxies[name].set(Network.OPEN)
        return Blow(at=at, over_at=time.monotonic())


class KillClients(Fault):
    """CLIENT KILL to every connection at the server."""

    name = "CLIENT KILL of all connections"
    pause = (1.0, 4.0)

    def strike(self, stand: Stand) -> Blow:
        at = time.monotonic()
        for kind in ("normal", "pubsub"):
            stand.raw.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return Blow(at=at, over_at=at)


class PauseClients(Fault):
    """CLIENT PAUSE: the server answers nobody for some seconds, or takes no writes."""

    name = "CLIENT PAUSE"
    pause = (3.0, 6.0)

    def strike(self, stand: Stand) -> Blow:
        seconds = self._random.uniform(3.0, 8.0)
        at = time.monotonic()
        mode = self._random.choice(("ALL", "WRITE"))
        stand.raw.execute_command("CLIENT", "PAUSE", int(seconds * 1000), mode)
        time.sleep(seconds)
        return Blow(at=at, over_at=at + seconds)


class FillMemory(Fault):
    """The server's memory is full for some seconds, under noeviction; then there is room again."""

    name = "maxmemory reached, then freed"
    pause = (4.0, 8.0)

    def strike(self, stand: Stand) -> Blow:
        at = time.monotonic()
        stand.raw.config_set("maxmemory", "1mb")
        time.sleep(self._random.uniform(3.0, 8.0))
        stand.raw.config_set("maxmemory", "0")
        return Blow(at=at, over_at=time.monotonic())


class SuspendWorker(Fault):
    """SIGSTOP to all processes of a worker, far beyond its lease, then SIGCONT."""

    name = "SIGSTOP of a worker, then SIGCONT"

    def __init__(self, seed: int = 1, *, seconds: float = 60.0) -> None:
        super().__init__(seed)
        self._seconds = seconds

    def strike(self, stand: Stand) -> Blow:
        worker = self._worker(stand)
        pid = self._retry(worker.suspend)
        at = time.monotonic()
        time.sleep(self._seconds)
        worker.resume(pid)
        return Blow(at=at, over_at=time.monotonic(), parents=frozenset({pid}))


class TerminateWorker(Fault):
    """SIGTERM to a worker, as a supervisor stops it; it ends by itself and is started again."""

    name = "SIGTERM of a worker"
    pause = (4.0, 7.0)

    def strike(self, stand: Stand) -> Blow:
        worker = self._worker(stand)
        at = time.monotonic()
        pid = self._retry(lambda: worker.tell(signal.SIGTERM))
        wait_until(lambda: not psutil.pid_exists(pid), 60)
        return Blow(at=at, over_at=time.monotonic(), parents=frozenset({pid}))


class InTurn(Fault):
    """Several faults, one after another on the same workers: whatever may happen in a bad week."""

    name = "all of these faults in turn"
    pause = (2.0, 4.0)
    needs_networks = True

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self._faults = itertools.cycle(faults)

    def strike(self, stand: Stand) -> Blow:
        return next(self._faults).strike(stand)
