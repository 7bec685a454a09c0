"""A whole deployment on this machine: server, worker and Flower, gone when their owner is."""

import contextlib
import importlib.util
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from celery import Celery

from contract.deployment import URL_VARIABLE, Deployment
from gristmill.guard import GuardedProcess
from gristmill.missing import how_to_install
from gristmill.server import EmbeddedServer, free_port

#: Running jobs get ten seconds when a worker stops (celeryconfig), and as long to be handed back.
WORKER_STOP_SECONDS = 20.0

#: Lines of a log that an error quotes.
LAST_LINES = 20

_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'")


class StackError(RuntimeError):
    """Raised when a worker or Flower does not start."""


def flower_is_installed() -> bool:
    """Say whether Flower is there to be started."""
    return importlib.util.find_spec("flower") is not None


class Stack:
    """An embedded server with one worker, and Flower where asked for.

        with Stack(concurrency=2) as stack:
            client = producers.Client(stack.url)

    `concurrency`: how many jobs the worker runs at a time. Defaults to one for each core.
    `flower`: whether to start Flower, on loopback behind a random password. Defaults to off.
    `logs`: the directory for `worker.log` and `flower.log`. Defaults to the output of this process.
    `environment`: variables of the worker beside those of this process. Defaults to none.
    `server`: the embedded server, started or not. Defaults to one of its own.
    `start_timeout`: how long worker and Flower may take to answer, in seconds. Defaults to 30.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        flower: bool = False,
        logs: Path | None = None,
        environment: Mapping[str, str] | None = None,
        server: EmbeddedServer | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        """Prepare it; nothing runs before `start()`."""
        self.server = server or EmbeddedServer()
        self.worker: GuardedProcess | None = None
        self.flower: GuardedProcess | None = None
        self.flower_url = ""
        self.flower_password = secrets.token_urlsafe(12)
        self._concurrency = concurrency
        self._with_flower = flower
        self._logs = logs
        self._environment = dict(environment or {})
        self._start_timeout = start_timeout

    @property
    def url(self) -> str:
        """Return the address of its broker, for clients."""
        return self.server.url

    @property
    def ended(self) -> str:
        """Return which of its processes has ended by itself, or "" while all run."""
        running = {
            "server": self.server.running,
            "worker": self.worker is not None and self.worker.status is None,
            "flower": self.flower is None or self.flower.status is None,
        }
        return next((name for name, lives in running.items() if not lives), "")

    def start(self) -> Self:
        """Start server, worker and Flower, and wait until they answer.

        Raises ServerError, or StackError which says who did not answer.
        """
        try:
            self.server.start()
            self.worker = self._celery("worker", *self._worker_arguments())
            if self._with_flower:
                self._start_flower()
            self._await("worker", self._worker_answers)
            if self.flower:
                self._await("flower", self._flower_answers)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything, the worker first: running jobs get their time to end. Harmless twice."""
        for process in (self.worker, self.flower):
            if process:
                process.stop()
        self.server.stop()

    def last_words(self, name: str) -> str:
        """Return the end of a process's log in a form to add to an error; "" where none is kept."""
        log = self._logs / f"{name}.log" if self._logs else None
        if log is None or not log.is_file():
            return ""
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        for line in reversed(lines):
            if found := _MISSING.fullmatch(line.strip()):
                return f"; {found[1]}: not installed, expected `{how_to_install(found[1])}`"
        return "\n  ".join([f"; the end of {log.name}:", *lines])

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def _worker_arguments(self) -> list[str]:
        concurrency = [f"--concurrency={self._concurrency}"] if self._concurrency else []
        # Its name leaves Celery's default to a worker that is started beside it by hand. One worker
        # has nobody to gossip with or to learn revoked jobs from at its start.
        return [
            "--hostname=up@%h",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            *concurrency,
        ]

    def _start_flower(self) -> None:
        if not flower_is_installed():
            raise StackError("flower: not installed, expected `pip install 'gristmill[worker]'`")
        port = free_port()
        self.flower_url = f"http://127.0.0.1:{port}"
        self._environment["FLOWER_BASIC_AUTH"] = f"gristmill:{self.flower_password}"
        settings = importlib.util.find_spec("flowerconfig")
        assert settings is not None
        self.flower = self._celery(
            "flower", "--address=127.0.0.1", f"--port={port}", f"--conf={settings.origin}"
        )

    def _celery(self, command: str, *arguments: str) -> GuardedProcess:
        # Secrets travel in the environment: a command line is for everybody on the machine to read.
        environment = {**os.environ, **self._environment, URL_VARIABLE: self.url}
        return GuardedProcess(
            [sys.executable, "-m", "celery", "--app=workers", command, *arguments],
            log=self._logs / f"{command}.log" if self._logs else None,
            environment=environment,
            stop_seconds=WORKER_STOP_SECONDS,
        )

    def _await(self, name: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not answers():
            if self.ended:
                raise StackError(f"{self.ended}: ended at start{self.last_words(self.ended)}")
            if time.monotonic() > deadline:
                waited = f"{self._start_timeout:g} seconds"
                said = self.last_words(name)
                raise StackError(f"{name}: no answer, expected one within {waited}{said}")

    def _worker_answers(self) -> bool:
        deployment = Deployment.from_environment(self.url)
        app = Celery(broker=deployment.backend_url, set_as_current=False)
        app.conf.broker_transport_options = deployment.transport_options
        with contextlib.closing(app):
            return bool(app.control.ping(timeout=0.5, limit=1))

    def _flower_answers(self) -> bool:
        host, _, port = self.flower_url.rpartition("/")[2].partition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=0.5):
            return True
        time.sleep(0.1)
        return False
