"""The stand: a server, networks that can fail, supervised workers, and an observer of results."""

import base64
import contextlib
import json
import os
import re
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import redis

from contract.deployment import URL_VARIABLE, Deployment
from contract.families import FAMILIES
from gristmill.server import EmbeddedServer
from tests.chaos import stock
from tests.chaos.events import Event, Kind, Reader
from tests.chaos.observer import Observer
from tests.chaos.proxy import Proxy
from tests.chaos.worker import Worker

#: Whose transport and settings the workers have.
Side = Literal["ours", "stock"]

_OPTIONS: Final[dict[Side, tuple[str, ...]]] = {
    "ours": ("workers", "-I", "tests.chaos.tasks"),
    "stock": ("tests.chaos.stock", "-I", "tests.chaos.recorder", "-Q", stock.queues()),
}

#: When the server's append-only file reaches the disk: before each answer, or once a second.
Fsync = Literal["always", "everysec"]

#: How far back in the logs a job may have begun that runs now, in lines.
_RECENT: Final = 500

#: A job's id wherever it stands in a message.
_ID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Stand:
    """Everything that a scenario needs, started in order and gone at its end.

    `workers` of them run `concurrency` jobs each. With `networks` each worker reaches the server
    through a proxy of its own, `proxies["w1"]` and so on, and apps through `proxies["apps"]`.
    `environments` are further variables by worker, `clocks` how many hours theirs is ahead.
    """

    def __init__(
        self,
        *,
        side: Side = "ours",
        workers: int = 2,
        concurrency: int = 2,
        networks: bool = False,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        clocks: Mapping[str, int] | None = None,
        fsync: Fsync = "always",
        stop_seconds: float = 10.0,
    ) -> None:
        self.side: Side = side
        self._names = [f"w{number}" for number in range(1, workers + 1)]
        self._concurrency, self._networks = concurrency, networks
        self._environments, self._clocks = environments or {}, clocks or {}
        self._stop_seconds = stop_seconds
        self._settings = {"appendfsync": fsync}
        self._everything = contextlib.ExitStack()
        self.proxies: dict[str, Proxy] = {}
        self.workers: dict[str, Worker] = {}
        #: Every line of the workers' logs so far, by time.
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        """Start everything, and wait until the workers take messages."""
        with contextlib.ExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._reader = Reader(self.directory, "w")
            self.server = stack.enter_context(
                EmbeddedServer(append_only=True, settings=self._settings)
            )
            #: A connection straight to the server.
            self.raw: redis.Redis = stack.enter_context(redis.Redis.from_url(self.server.url))
            self.observer = stack.enter_context(Observer(self.server.url))
            if self._networks:
                for name in (*self._names, "apps"):
                    self.proxies[name] = stack.enter_context(Proxy(self.server.port))
            for name in self._names:
                self.workers[name] = stack.enter_context(self._worker(name))
            self._everything = stack.pop_all()
        try:
            self.wait_for_workers()
        except BaseException:
            self._everything.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self._everything.close()

    def url(self, name: str) -> str:
        """Return the server's address as a worker or the apps see it."""
        if name not in self.proxies:
            return self.server.url
        return self.server.url.replace(f":{self.server.port}/", f":{self.proxies[name].port}/")

    @property
    def deployment(self) -> Deployment:
        """The deployment as the apps see it."""
        return Deployment(url=self.url("apps"))

    def read(self) -> list[Event]:
        """Read on in the workers' logs, and return every line so far by time."""
        found = self._reader.read()
        if found:
            at = bisect_left(self.events, found[0])
            self.events[at:] = sorted([*self.events[at:], *found])
        return self.events

    def has(self, job: str, kind: Kind, since: float = 0.0) -> bool:
        """Say whether the workers' logs tell this of a job, after a moment."""
        return any(e.job == job and e.kind is kind and e.at > since for e in reversed(self.read()))

    def is_busy(self, name: str) -> bool:
        """Say whether the last that is known of a worker is that it has a job."""
        for event in reversed(self.read()):
            if event.name == name:
                return event.kind in (Kind.RECEIVED, Kind.STARTED)
        return False

    def running(self, name: str) -> int | None:
        """Return a process of a worker that is in the middle of a job; None where none is."""
        ended = set()
        for event in reversed(self.read()[-_RECENT:]):
            if event.name != name:
                continue
            if event.kind is Kind.STARTED and event.process not in ended:
                return event.process
            if event.kind is Kind.ENDED:
                ended.add(event.process)
        return None

    def lives(self, name: str) -> list[int]:
        """Return the process ids of a worker's parents that took messages, in order."""
        return [
            event.process
            for event in self.read()
            if event.kind is Kind.READY and event.name == name
        ]

    def wait_for_workers(self, seconds: float = 60) -> None:
        """Return once every worker's present life takes messages."""
        wait_until(
            lambda: all(worker.pid in self.lives(name) for name, worker in self.workers.items()),
            seconds,
            lambda: "workers:\n" + "\n".join(w.output()[-600:] for w in self.workers.values()),
        )

    def jobs_at_the_server(self) -> set[str]:
        """Return the ids in any queue, and in any record of what workers have in hand."""
        entries = [entry for _, found in self._entries() for entry in found]
        texts = [*entries, *map(_body, entries)]
        return {found.decode() for text in texts for found in _ID.findall(text)}

    def residue(self) -> dict[str, int]:
        """Return how many entries are left in each queue and each record of what is in hand."""
        return {key: len(found) for key, found in self._entries() if found}

    def _entries(self) -> Iterator[tuple[str, list[bytes]]]:
        for key in sorted(self.raw.scan_iter("*")):
            name = key.decode(errors="replace")
            if name.split("\x06")[0] in (*FAMILIES, "celery"):
                yield name, self.raw.lrange(key, 0, -1)  # type: ignore[misc]
            elif name == "unacked" or ":inbox:" in name:
                yield name, self.raw.hvals(key)  # type: ignore[misc]

    def _worker(self, name: str) -> Worker:
        environment = {
            URL_VARIABLE: self.url(name),
            "NATIVE_C_THREADS": "1",
            **self._environments.get(name, {}),
        }
        return Worker(
            name=name,
            directory=self.directory,
            options=(*_OPTIONS[self.side], f"--concurrency={self._concurrency}"),
            environment=environment,
            hours_ahead=self._clocks.get(name, 0),
            stop_seconds=self._stop_seconds,
        )


def _body(entry: bytes) -> bytes:
    """Return the body of a message, where the later links of a chain are; b"" of anything else."""
    try:
        return base64.b64decode(json.loads(entry)["body"])
    except (ValueError, TypeError, KeyError):
        return b""


def wait_until(
    holds: Callable[[], Any],
    seconds: float,
    what: Callable[[], str] = lambda: "it",
    every: float = 0.02,
) -> None:
    """Return once `holds()`; after `seconds` raise TimeoutError that tells `what()` it was."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what()}")
        time.sleep(every)


def commit() -> str:
    """Return the commit of the tree that is tested, with a plus where it was changed since."""
    with os.popen("git describe --always --dirty=+ 2>/dev/null") as answer:
        return answer.read().strip() or "unknown"
