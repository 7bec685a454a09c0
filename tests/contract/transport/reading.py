"""A consumer that reads queues as a worker's does, with no worker around it."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import redis
from kombu.asynchronous import Hub
from kombu.messaging import Consumer

from contract.dead_letters import DeadLetter, DeadLetters
from contract.deployment import Deployment
from contract.transport import Connection, queue

QUEUE = "entries"


def entry(**changes: Any) -> dict[str, Any]:
    """Return a queue's entry as kombu writes it, changed as told."""
    message: dict[str, Any] = {
        "body": base64.b64encode(b'"body"').decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "mcts.ucb1_selection", "id": "7"},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
        },
    }
    properties = {**message["properties"], **changes.pop("properties", {})}
    return {**message, "properties": properties, **changes}


def named(job_id: str) -> str:
    """Return an entry of a job's, as text."""
    return json.dumps(entry(headers={"task": "user.task", "id": job_id}))


class Reader:
    """A consumer of some queues: what it has read, and how it answers."""

    def __init__(
        self,
        deployment: Deployment,
        *queues: str,
        prefetch: int = 0,
        connection: Connection | None = None,
        **options: Any,
    ) -> None:
        """Consume; unless `handle` is set to something else, each message is acknowledged."""
        self.deployment = deployment
        options = {**deployment.transport_options, "brpop_timeout": 1, **options}
        self.connection = connection or Connection(deployment.broker_url, transport_options=options)
        self.read: list[Any] = []
        self.handle: Callable[[Any], Any] = lambda message: message.ack()
        self.raw = redis.Redis.from_url(deployment.url)
        self.key = f"{deployment.prefix}{QUEUE}"
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        names = queues or (QUEUE,)
        self.consumer = Consumer(
            self.channel, list(map(queue, names)), on_message=self._take, accept=["json"]
        )
        self.consumer.consume()

    def _take(self, message: Any) -> None:
        self.read.append(message)
        self.handle(message)

    def push(self, *ids: str, queue: str = QUEUE) -> None:
        """Enqueue jobs of these ids, as stock clients do."""
        for job_id in ids:
            self.raw.lpush(f"{self.deployment.prefix}{queue}", named(job_id))

    def drain(self, until: Callable[[], object], seconds: float = 5) -> None:
        """Read until it is so."""
        limit = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < limit, self.ids()
            try:
                self.connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue

    def ids(self) -> list[str]:
        """Return the ids of the jobs that were read."""
        return [message.headers.get("id") for message in self.read]

    def has_read(self, job_id: str) -> bool:
        """Say whether a job was read."""
        return job_id in self.ids()

    def waiting(self, queue: str = QUEUE) -> list[str]:
        """Return the ids of the jobs that wait, the next one first."""
        entries = self.raw.lrange(f"{self.deployment.prefix}{queue}", 0, -1)
        return [json.loads(each)["headers"]["id"] for each in reversed(entries)]

    def held(self) -> int:
        """Return how many messages all inboxes of the deployment hold."""
        keys = self.raw.scan_iter(f"{self.deployment.prefix}gristmill:inbox:*")
        return sum(self.raw.hlen(key) for key in keys)

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters, the newest first."""
        return list(DeadLetters(self.raw, self.deployment).list())

    def close(self) -> None:
        """Stop reading."""
        self.connection.release()
        self.raw.close()


def run(hub: Hub, until: Callable[[], object], seconds: float = 5) -> None:
    """Run an event loop until it is so."""
    limit, loop = time.monotonic() + seconds, hub.create_loop()
    ticks = hub.call_repeatedly(0.02, lambda: None)
    while not until():
        assert time.monotonic() < limit
        next(loop)
    ticks.cancel()
