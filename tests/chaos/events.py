"""What happened to each job and when: an append-only log that producers and workers write."""

import os
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

#: Where a process of the suite writes its log, and the name that it goes by there.
DIRECTORY_VARIABLE: Final = "CHAOS_LOG"
NAME_VARIABLE: Final = "CHAOS_NAME"

_NOBODY: Final = "-"


class Kind(StrEnum):
    """What a line tells."""

    #: A producer's submit returned: the job is accepted. The note is how many seconds it took.
    ACCEPTED = "accepted"
    #: A producer's submit raised: no job was accepted, and the error stands in its place.
    REFUSED = "refused"
    #: A caller that waited has the result, or an error that the job ended with.
    ANSWERED = "answered"
    #: A caller that waited was sent away without knowing how its job ended.
    ABANDONED = "abandoned"
    #: A worker takes messages.
    READY = "ready"
    #: A worker's parent process has the message.
    RECEIVED = "received"
    #: A worker's process begins to run the job.
    STARTED = "started"
    #: The run is over and its result is stored, or was refused.
    ENDED = "ended"


class Event(NamedTuple):
    """One line of the log."""

    #: Seconds of the host's monotonic clock, which all processes share.
    at: float
    kind: Kind
    job: str
    #: Name of the producer or worker.
    name: str
    #: Process id of the worker's parent, which tells one life of a worker from the next.
    parent: int
    #: Process id of who wrote the line.
    process: int
    #: State of a job that ended, or what was wrong; without spaces.
    note: str


class Log:
    """Appends lines to files of this process's own, each with one write that no kill divides."""

    def __init__(self, directory: Path, name: str) -> None:
        """Write to `directory` under `name`; a forked child goes on with a file of its own."""
        self._directory, self._name = directory, name
        self._parent = os.getpid()
        self._process, self._file = 0, -1

    @classmethod
    def from_environment(cls) -> "Log":
        """Return the log that the one who started this process wants."""
        return cls(Path(os.environ[DIRECTORY_VARIABLE]), os.environ[NAME_VARIABLE])

    def write(self, kind: Kind, job: str = _NOBODY, note: str = _NOBODY) -> None:
        """Append a line about a job."""
        process = os.getpid()
        if process != self._process:
            path = self._directory / f"{self._name}-{self._parent}-{process}.log"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._process = process
        line = f"{time.monotonic():.6f} {kind} {job} {'_'.join(note.split()) or _NOBODY}\n"
        os.write(self._file, line.encode(errors="replace"))


class Reader:
    """Reads the logs of a directory, each line once."""

    def __init__(self, directory: Path, initial: str) -> None:
        """Read every log that is or will be in `directory`, of names with this first letter."""
        self._directory, self._pattern = directory, f"{initial}*.log"
        self._offsets: dict[Path, int] = {}

    def read(self) -> list[Event]:
        """Return what was written since the last call, ordered by time."""
        found: list[Event] = []
        for path in self._directory.glob(self._pattern):
            offset = self._offsets.get(path, 0)
            if path.stat().st_size == offset:
                continue
            with path.open("rb") as log:
                log.seek(offset)
                whole, mark, _ = log.read().rpartition(b"\n")
            self._offsets[path] = offset + len(whole) + len(mark)
            found += _parse(path, whole.decode(errors="replace").splitlines())
        return sorted(found)


def _parse(path: Path, lines: Iterable[str]) -> Iterator[Event]:
    name, parent, process = path.stem.rsplit("-", 2)
    for line in lines:
        at, kind, job, note = line.split(" ")
        yield Event(float(at), Kind(kind), job, name, int(parent), int(process), note)
