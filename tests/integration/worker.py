"""A real worker process that a test starts, looks into and ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil
import redis

ROOT = Path(__file__).parents[2]


class Worker:
    """`celery -A workers worker` in a process group of its own, its log in a file.

    `options` are further arguments of the command; `environment` is set on top of the test's own.
    `app` is another app than ours.
    """

    def __init__(
        self,
        url: str,
        log: Path,
        *options: str,
        prefix: str = "",
        app: str = "workers",
        **environment: str,
    ) -> None:
        self.url, self.prefix, self._log, self._options = url, prefix, log, options
        self._app = app
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {**os.environ, "GRISTMILL_URL": self.url, "GRISTMILL_PREFIX": self.prefix}
        command = [sys.executable, "-m", "celery", "-A", self._app, "worker", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", *self._options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for_log(" ready.")
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()
        for process in self.family():
            process.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self, seconds: float = 20) -> int:
        """Ask for a warm shutdown and return the exit status; kill what does not end in time."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            return self._process.wait()

    def alive(self) -> bool:
        return self.status() is None

    def status(self) -> int | None:
        """Return the exit status; None while it lives."""
        assert self._process is not None
        return self._process.poll()

    def family(self) -> list[psutil.Process]:
        """Return every process of the worker that lives."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and _session(process.pid) == self.pid
        except psutil.NoSuchProcess:  # it ended meanwhile
            return False

    def children(self) -> list[psutil.Process]:
        """Return the pool's processes."""
        return psutil.Process(self.pid).children()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_log(self, text: str, times: int = 1, seconds: float = 30) -> None:
        """Wait until the worker has logged `text` so many times."""
        wait_until(
            lambda: self.log().count(text) >= times or not self.alive(),
            seconds,
            lambda: f"{text!r} in\n{self.log()}",
        )
        assert self.log().count(text) >= times, self.log()


def wait_until(holds, seconds: float, what=lambda: "it") -> None:
    """Return once `holds()`; fail after `seconds`, telling `what()` was waited for."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            raise AssertionError(f"waited {seconds} s in vain for {what()}")
        time.sleep(0.02)


def held(client: redis.Redis, prefix: str = "") -> int:
    """Return how many messages workers hold that they have not acknowledged."""
    keys = list(client.scan_iter(f"{prefix}gristmill:inbox:*"))
    return sum(client.hlen(key) for key in keys)


def push(client: redis.Redis, entry: str | bytes, queue: str = "mcts") -> None:
    """Put raw bytes into a queue, as a broken or hostile client would."""
    client.lpush(queue, entry)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
