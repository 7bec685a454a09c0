"""A monitor that listens to a stand's events as Flower does."""

import threading
from operator import itemgetter
from typing import Any

from celery.events.state import State

from tests.compat.stand import Stand
from tests.integration.worker import wait_until


class Monitor:
    """Listens as Flower does: every event into Celery's own memory of a cluster."""

    def __init__(self, stand: Stand) -> None:
        self.state = State()
        self._events: list[dict[str, Any]] = []
        self._connection = stand.client.connection_for_read()
        self._receiver = stand.client.events.Receiver(self._connection, handlers={"*": self._hear})
        self._thread = threading.Thread(target=self._receiver.capture, daemon=True)

    def _hear(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self.state.event(event)

    def __enter__(self) -> "Monitor":
        self._thread.start()
        # Listening begins by asking the workers for a sign of life, which comes when it has begun.
        wait_until(lambda: "worker-heartbeat" in self.types(), 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)
        self._connection.release()

    def of(self, task_id: str) -> list[str]:
        """Return what was told of a task, in the order in which it happened."""
        mine = [event for event in self._events if event.get("uuid") == task_id]
        return [event["type"] for event in sorted(mine, key=itemgetter("timestamp"))]

    def types(self) -> set[str]:
        return {event["type"] for event in self._events}

    def event(self, task_id: str, kind: str) -> dict[str, Any]:
        return next(e for e in self._events if (e.get("uuid"), e["type"]) == (task_id, kind))

    def wait_for(self, task_id: str, *types: str) -> None:
        wait_until(lambda: self.of(task_id) == list(types), 10, lambda: f"saw {self.of(task_id)}")
