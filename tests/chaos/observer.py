"""The observer: hears every state that is stored for a job, straight from the server."""

import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import redis
from celery import states

from contract.errors import MessageError
from contract.results import read_meta

#: Keys under which Celery keeps results, before the id.
RESULT: Final = "celery-task-meta-"

_BATCH: Final = 500

#: Returns the SHA-1 of what each key holds: results are compared where they are.
_DIGESTS: Final = """
local found = {}
for index, key in ipairs(KEYS) do found[index] = redis.sha1hex(redis.call('GET', key) or '') end
return found
"""


class Observer:
    """Counts, by job, how often an end became visible; and reads the ends that are stored.

    A worker publishes what it stores. While the server is down nothing is heard; what was stored
    shortly before is found by `look`, and what was stored over it by `compare`.
    """

    def __init__(self, url: str) -> None:
        """Listen at the server with this address."""
        self._url = url
        #: How many ends of a job were published.
        self.ends: Counter[str] = Counter()
        #: State of a job's first end that was seen.
        self.states: dict[str, str] = {}
        #: What a job that did not end well ended with.
        self.errors: dict[str, str] = {}
        #: When that end was heard, in seconds of the monotonic clock.
        self.ended_at: dict[str, float] = {}
        #: Jobs whose stored end is no longer the first one that was seen.
        self.changed: set[str] = set()
        self._digests: dict[str, str] = {}
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""
        self._is_stopped.set()
        self._thread.join()

    def look(self, jobs: list[str]) -> None:
        """Read what is stored for these jobs."""
        with redis.Redis.from_url(self._url) as client:
            for start in range(0, len(jobs), _BATCH):
                batch = jobs[start : start + _BATCH]
                found: list[Any] = client.mget([f"{RESULT}{job}" for job in batch])
                for job, payload in zip(batch, found, strict=True):
                    self._note(job, payload)

    def compare(self, jobs: Sequence[str]) -> None:
        """Find the jobs whose stored end is no longer the one that was seen first."""
        with redis.Redis.from_url(self._url) as client:
            digest = client.register_script(_DIGESTS)
            for start in range(0, len(jobs), _BATCH):
                batch = [job for job in jobs[start : start + _BATCH] if job in self.states]
                found = digest(keys=[f"{RESULT}{job}" for job in batch])
                pairs = zip(batch, found, strict=True)
                self.changed |= {job for job, now in pairs if now.decode() != self._digests[job]}

    def _listen(self) -> None:
        while not self._is_stopped.is_set():
            with contextlib.suppress(redis.RedisError, OSError):
                self._listen_once()
            time.sleep(0.02)

    def _listen_once(self) -> None:
        with redis.Redis.from_url(self._url) as client, client.pubsub() as channel:
            channel.psubscribe(f"{RESULT}*")
            while not self._is_stopped.is_set():
                message = channel.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message is None:
                    continue
                job = message["channel"].decode().removeprefix(RESULT)
                if self._note(job, message["data"]):
                    self.ends[job] += 1

    def _note(self, job: str, payload: bytes | None) -> bool:
        """Remember a job's first end; say whether the payload is an end."""
        try:
            meta = read_meta(payload)
        except MessageError as error:
            meta = {"status": states.FAILURE, "result": str(error)}
        state = meta["status"]
        if state not in states.READY_STATES:
            return False
        if job not in self.states:
            self.states[job] = state
            if state != states.SUCCESS:
                self.errors[job] = repr(meta["result"])
            self.ended_at[job] = time.monotonic()
            self._digests[job] = hashlib.sha1(payload or b"", usedforsecurity=False).hexdigest()
        return True
