"""Run the embedded server as its parent until that parent's pipe closes, then leave nothing behind.

Started as `python server_guard.py DIRECTORY COMMAND...` with a pipe as standard input. The kernel
closes the pipe however its owner ends (return, Ctrl-C, SIGTERM, kill -9), so no server outlives the
process that started it. The guard stands alone: it imports nothing of ours.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading

#: How long a server may take to flush its files after SIGTERM before it is killed, in seconds.
STOP_SECONDS = 5.0


def run(directory: str, command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; return its exit status.

    When standard input closes first, stop the command and remove `directory` (unless it is "").
    When the command ends by itself, keep the directory: its owner may start it again there.
    """
    # The owner decides and the pipe tells us. An empty handler, unlike SIG_IGN, is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # The command is ours alone to stop, and its end is seen by the wait below.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orphaned = threading.Event()
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 1):
            pass
        if ended.is_set():
            return
        orphaned.set()
        server.terminate()
        if not ended.wait(STOP_SECONDS):
            server.kill()

    threading.Thread(target=watch, daemon=True).start()
    status = server.wait()
    ended.set()
    if orphaned.is_set() and directory:
        shutil.rmtree(directory, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
