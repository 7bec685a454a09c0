"""A supervised worker: started again whenever it ends, as systemd would."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from gristmill.guard import GuardedProcess
from tests.chaos.events import DIRECTORY_VARIABLE, NAME_VARIABLE

ROOT: Final = Path(__file__).parents[2]

#: Seconds between an end and the next start: systemd's `RestartSec` unless told otherwise.
RESTART_SECONDS: Final = 0.1

#: What every worker of the suite is told, ours or stock.
_QUIET: Final = ("--without-gossip", "--without-mingle", "--loglevel", "WARNING")


@dataclass(kw_only=True)
class Worker:
    """`celery worker` under a supervisor's thread, its output in `<directory>/<name>.out`.

    When its parent process ends, what is left of it is killed with it, as systemd does with a
    control group.
    """

    name: str
    directory: Path
    #: Options of the command: the app (`-A`), what to include, concurrency.
    options: Sequence[str]
    environment: Mapping[str, str]
    #: How many hours the clock of its host is ahead.
    hours_ahead: int = 0
    #: Seconds from SIGTERM to SIGKILL when the suite is done with it.
    stop_seconds: float = 10.0
    #: Lives that ended without the suite's stopping it.
    num_ends: int = 0
    _is_stopped: bool = False
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _process: GuardedProcess | None = None

    def __enter__(self) -> Self:
        """Start it; it takes messages a second or two later."""
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it for good."""
        with self._starting:
            self._is_stopped = True
        if self._process is not None:
            self._process.stop()
        self._thread.join()

    @property
    def pid(self) -> int | None:
        """Return the id of its parent process; None while there is none."""
        try:
            pid = int(self._pid_file.read_text())
            is_ours = "worker" in " ".join(psutil.Process(pid).cmdline())
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if is_ours else None

    def children(self) -> list[psutil.Process]:
        """Return the processes of its pool."""
        try:
            return psutil.Process(self.pid).children() if self.pid else []
        except psutil.Error:
            return []

    def kill(self) -> int | None:
        """Kill its parent process and return the id that it had; None where there was none."""
        return self._send(signal.SIGKILL, os.kill)

    def tell(self, number: signal.Signals) -> int | None:
        """Send a signal to its parent process."""
        return self._send(number, os.kill)

    def suspend(self) -> int | None:
        """Stop every process of it in the middle of whatever it does."""
        return self._send(signal.SIGSTOP, os.killpg)

    def resume(self, pid: int) -> None:
        """Let a suspended life go on."""
        os.killpg(pid, signal.SIGCONT)

    def output(self) -> str:
        """Return what it has printed in all its lives."""
        return self._output_file.read_text(errors="replace")

    def _send(self, number: signal.Signals, deliver: Callable[[int, int], None]) -> int | None:
        pid = self.pid
        if pid is None:
            return None
        try:
            deliver(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def _supervise(self) -> None:
        while True:
            with self._starting:
                if self._is_stopped:
                    return
                self._process = GuardedProcess(
                    [sys.executable, "-m", *self._command()],
                    log=self._output_file,
                    environment=self._variables(),
                    stop_seconds=self.stop_seconds,
                )
            self._process.wait()
            if not self._is_stopped:
                self.num_ends += 1
                time.sleep(RESTART_SECONDS)

    def _command(self) -> list[str]:
        name = ("-n", f"{self.name}@%h", "--pidfile", str(self._pid_file))
        application, *others = self.options
        program = ("tests.chaos.skewed", str(self.hours_ahead)) if self.hours_ahead else ("celery",)
        return [*program, "-A", application, "worker", *name, *_QUIET, *others]

    def _variables(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(ROOT),
            DIRECTORY_VARIABLE: str(self.directory),
            NAME_VARIABLE: self.name,
            "OPENBLAS_NUM_THREADS": "1",
        }
        return {**os.environ, **own, **self.environment}

    @property
    def _pid_file(self) -> Path:
        return self.directory / f"{self.name}.pid"

    @property
    def _output_file(self) -> Path:
        return self.directory / f"{self.name}.out"
