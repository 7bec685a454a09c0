"""Drafts: entries of queues exactly as Celery and kombu write them, made without a broker.

Whoever sends them decides in which transaction, and knows what became of it.
"""

import threading
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps


class _Channel(virtual.Channel):
    """A channel that keeps what is published on it."""

    do_restore = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.entries: list[str] = []

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        self.entries.append(dumps(message))


class _Transport(virtual.Transport):
    Channel = _Channel
    driver_type = driver_name = "draft"

    def driver_version(self) -> str:
        return "1"


class Drafts:
    """Makes entries through a Celery app, whose signals and settings count as ever."""

    def __init__(self, app: Celery) -> None:
        """Draft for `app`; nothing is connected."""
        self._app = app
        self._channel: Any = Connection("memory://", transport=_Transport).channel()
        self._producer = app.amqp.Producer(self._channel, auto_declare=False)
        self._lock = threading.Lock()

    def draft(self, name: str, queue: str, **message: Any) -> str:
        """Return the entry of `queue` that asks for the task `name`; see `Celery.send_task`."""
        with self._lock:
            try:
                self._app.send_task(
                    name, queue=queue, producer=self._producer, retry=False, **message
                )
                (entry,) = self._channel.entries
                return str(entry)
            finally:
                self._channel.entries.clear()
