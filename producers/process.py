"""What one process holds open for a client: connections, the broker's clock, a Celery app."""

import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from celery import Celery

from contract.clock import BrokerClock
from contract.deployment import Deployment
from contract.drafts import Drafts
from contract.idempotency import MAX_SECONDS, Once
from contract.operation import Operation
from contract.results import SCHEME
from contract.transport import Amqp
from producers.forking import without_fork
from producers.limits import Gate, Limits
from producers.replies import Replies
from producers.sending import Sender

#: Seconds to open a connection, and without an answer on one, after which a call gives up.
CONNECT_SECONDS: Final = 5.0

#: Seconds after which a connection that was idle is asked whether it still leads anywhere.
HEALTH_SECONDS: Final = 10.0

#: Most connections that the threads of one process submit on; more threads wait for one another.
_MAX_CONNECTIONS: Final = 32


class Process:
    """A client's side of one process. Threads may share it; a forked child needs its own."""

    def __init__(self, deployment: Deployment, limits: Limits) -> None:
        """Prepare; nothing is connected."""
        self._deployment = deployment
        self.app = celery_app(deployment)
        is_socket = deployment.url.startswith("unix")
        self.redis = redis.Redis.from_url(
            deployment.url,
            **({} if is_socket else {"socket_keepalive": True}),
            protocol=2,  # with the newer one a closed connection shows only when it is used
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            health_check_interval=HEALTH_SECONDS,
        )
        self.replies = Replies(self.redis, deployment)
        self._clock = BrokerClock(self.redis)
        self._drafts = Drafts(self.app)
        self._sender = Sender(self.redis, _MAX_CONNECTIONS)
        self._gate = Gate(self.redis, deployment, limits, self._clock)

    @staticmethod
    def until() -> float:
        """Return when a submit that begins now gives up, by `time.monotonic()`."""
        return time.monotonic() + CONNECT_SECONDS

    def now(self, until: float) -> float:
        """Return seconds since 1970 by the broker's clock; raises `NotSent` where it is away."""
        if self._clock.is_due:
            self._sender.reach(until)  # so that the clock is not asked on a connection that is dead
        return self._clock.now()

    def draft(self, name: str, queue: str, **message: Any) -> str:
        """Return the entry of `queue` that asks for a task."""
        with without_fork():
            return self._drafts.draft(name, queue, **message)

    def send(
        self,
        operation: Operation[Any, Any],
        job_id: str,
        entry: str,
        once: Once | None,
        until: float,
    ) -> str:
        """Enqueue an entry, unless its key stands for a job already; return the job's id.

        Raises `QueueFull` beyond the client's limits, `InvalidRequest` for a key that was given to
        another request, `NotSent` where the broker does not say that it has the entry.
        """
        queue_key = self._deployment.queue_key(operation.family)
        if once is None:
            with self._gate.admit(operation.family):
                self._sender.send(queue_key, entry, until=until)
            return job_id
        found = self._sender.send_once(
            queue_key,
            entry,
            self._deployment.once_key(operation.name, once.key),
            once.to_value(job_id),
            MAX_SECONDS,
            lambda: self._gate.admit(operation.family),
            until,
        )
        return once.job_of(found)

    def send_many(
        self, operation: Operation[Any, Any], entries: Sequence[str], until: float
    ) -> None:
        """Enqueue entries, all or none; raises as `send` does."""
        with self._gate.admit(operation.family):
            queue_key = self._deployment.queue_key(operation.family)
            self._sender.send(queue_key, *entries, until=until)

    def drop_idle(self) -> None:
        """Close the connections that nobody uses right now."""
        self.redis.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        self.redis.close()
        self.app.close()


def celery_app(deployment: Deployment) -> Celery:
    """Return a Celery app that sends jobs to a deployment and reads results; it knows no tasks."""
    app = Celery("gristmill-producer", amqp=Amqp, set_as_current=False)
    # The setting of this name would give way to CELERY_RESULT_BACKEND.
    app.backend_cls = f"{SCHEME}+{deployment.backend_url}"
    app.conf.update(
        broker_url=deployment.broker_url,
        broker_transport_options={
            **deployment.transport_options,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": CONNECT_SECONDS,
            "max_retries": 0,  # connecting is tried again by whoever publishes
        },
        result_backend_transport_options=deployment.transport_options,
        broker_connection_timeout=CONNECT_SECONDS,
    )
    return app
