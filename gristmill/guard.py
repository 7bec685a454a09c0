"""A process that never outlives its owner: servers and workers that a command or a test starts.

Run as a program, `python guard.py SECONDS DIRECTORY COMMAND...` starts the command and waits for
its end or for the end of its own standard input, a pipe from the owner. The kernel closes that pipe
however the owner ends (return, Ctrl-C, SIGTERM, kill -9); then the guard stops the command, with
the processes that it started, and removes the directory. It uses the standard library alone.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Seconds beyond a command's own that the guard's owner waits: to kill, reap and remove files.
MARGIN = 5.0


class GuardedProcess:
    """A running command that stops when `stop()` is called or this process ends, however it ends.

    `command`: the program and its arguments.
    `log`: the file to which its output is added. Defaults to the output of this process.
    `environment`: its environment variables. Defaults to those of this process.
    `stop_seconds`: how long it may take to end after SIGTERM before it is killed. Defaults to 5.
    `directory`: removed after it was stopped. Defaults to none.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stop_seconds: float = 5.0,
        directory: Path | None = None,
    ) -> None:
        """Start the command."""
        self.command = tuple(command)
        self._stop_seconds = stop_seconds
        self._directory = directory
        program = [sys.executable, "-I", __file__, str(stop_seconds), str(directory or "")]
        with log.open("ab") if log else contextlib.nullcontext() as output:
            self._guard = subprocess.Popen(
                [*program, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                # The terminal sends Ctrl-C to a whole session: these wait for their owner's word.
                start_new_session=True,
                bufsize=0,
            )
        _guarded.add(self)

    @property
    def status(self) -> int | None:
        """Return the command's exit status, or None while it runs."""
        return self._guard.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end by itself and return its exit status.

        Raises subprocess.TimeoutExpired when it runs for `timeout` more seconds.
        """
        status = self._guard.wait(timeout)
        self._close_pipe()
        return status

    def stop(self) -> None:
        """Ask the command to end, kill what does not, and wait for it. Harmless twice."""
        if self not in _guarded:
            return  # a forked child's copy: the process is its parent's
        self._close_pipe()
        self._guard.wait(timeout=self._stop_seconds + MARGIN)
        if self._directory:
            # The guard has removed it, unless the command ended by itself before.
            shutil.rmtree(self._directory, ignore_errors=True)

    def disown(self) -> None:
        """Leave the process to the parent of this forked child.

        A copy of the pipe that stayed open here would hide the parent's end from the guard.
        """
        self._close_pipe()
        # A child cannot wait for its parent's child, and Popen warns of what nobody waited for.
        self._guard.returncode = 0

    def _close_pipe(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()


#: The guarded processes of this process.
_guarded: weakref.WeakSet[GuardedProcess] = weakref.WeakSet()


def _stop_all() -> None:
    for process in list(_guarded):
        process.stop()


def _disown_all() -> None:
    for process in list(_guarded):
        process.disown()
    _guarded.clear()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_disown_all)


def guard(stop_seconds: float, directory: str, command: Sequence[str]) -> int:
    """Run `command` until it ends or standard input closes; return its exit status.

    When standard input closes first, stop the command and remove `directory` (unless it is "").
    When the command ends by itself, keep the directory: its owner may start it again there.
    """
    # The owner decides and the pipe tells us. An empty handler, unlike SIG_IGN, is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # A group of its own, so that what it leaves behind can be killed.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    ended, stopped = threading.Event(), threading.Event()

    def stop_when_the_pipe_closes() -> None:
        os.read(0, 1)  # returns when the last writer is gone: nobody ever writes
        stopped.set()
        process.terminate()
        if not ended.wait(stop_seconds):
            process.kill()

    threading.Thread(target=stop_when_the_pipe_closes, daemon=True).start()
    status = process.wait()
    ended.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if stopped.is_set() and directory:
        shutil.rmtree(directory, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(guard(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
