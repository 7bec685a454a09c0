"""Our transport: kombu's for Redis, under a scheme of its own, that loses no message.

`gristmill://`, `gristmills://` and `gristmill+socket://` are redis://, rediss:// and redis+socket://
with this transport. It has a scheme because Celery's `broker_transport` is dropped on failover and
ignored for sockets. The queues are stock kombu's, so other clients and monitors read and write
them; what happens between reserving and acknowledging is ours: see `scripts`, `inbox` and `line`.
"""

import uuid
from typing import Any, Final

import redis
from celery.app.amqp import AMQP
from celery.exceptions import ImproperlyConfigured
from kombu.connection import Connection as StockConnection
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock

from contract.transport import publishing
from contract.transport.channel import Channel, Message
from contract.transport.inbox import LeaseLost
from contract.transport.poller import Poller

__all__ = [
    "SCHEME",
    "Amqp",
    "Channel",
    "Connection",
    "LeaseLost",
    "Message",
    "Transport",
    "queue",
    "require",
    "require_same_server",
]

SCHEME: Final = "gristmill"

#: Seconds between attempts to reach a broker that is away, at first and at most. Kombu's 2 to 30
#: would let leases run out that a live worker could have renewed.
_RETRIES: Final = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}


class Transport(stock.Transport):
    """Kombu's Redis transport with our channel."""

    Channel = Channel

    #: What Celery's consumer answers by a new connection; anything else ends a worker.
    connection_errors = (
        *stock.Transport.connection_errors,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,  # a broker that has just become another's replica
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a transport; nothing connects yet."""
        super().__init__(*args, **kwargs)
        self.cycle: Any = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Read and renew in an event loop, as Celery's worker has it."""
        super().register_with_event_loop(connection, loop)
        self.cycle.join(loop)


class Connection(StockConnection):
    """A connection that its worker survives, and that monitors see as the Redis that it is."""

    def as_uri(self, *args: Any, **kwargs: Any) -> str:
        """Return the broker's address with a scheme that everybody knows."""
        uri: str = super().as_uri(*args, **kwargs)
        return f"redis{uri.removeprefix(SCHEME)}" if uri.startswith(SCHEME) else uri

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, and go on trying where the broker is away."""
        return super().ensure_connection(*args, **{**_RETRIES, **kwargs})

    def _do_close_transport(self) -> None:
        # Kombu's takes the address from the transport too: a channel that closes a second time, as
        # after a lost connection, could not give back what it holds, and the worker ended over it.
        self._transport = None


class Amqp(AMQP):
    """Celery's messaging with our connection: `Celery(amqp="contract.transport:Amqp")`."""

    Connection = Connection

    def _create_task_sender(self) -> Any:
        return publishing.patiently(super()._create_task_sender())

    def _retry_publish(self, publish: Any, *args: Any, **kwargs: Any) -> Any:
        """Publish what follows from a job; Celery's own tries are few, and then the job fails."""
        with publishing.of_success():
            return super()._retry_publish(publish, *args, **kwargs)


def queue(name: str) -> Queue:
    """Return the queue `name` with its exchange, as Celery wants queues: Flower reads them too."""
    return Queue(name, Exchange(name), routing_key=name)


def require(connection: StockConnection) -> None:
    """Raise `ImproperlyConfigured` where a connection's transport is not ours.

    Kombu has ways to fall back to its own without a word, and that one loses messages.
    """
    if not isinstance(connection.transport, Transport):
        kind = type(connection.transport)
        was = f"{kind.__module__}.{kind.__qualname__}"
        raise ImproperlyConfigured(f"broker_url: transport {was}, expected {SCHEME}://")


#: KEYS: a key that nobody has. A server without memory takes it, too: workers give some back.
_MARK: Final = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], '1', 'PX', 60000)"


def require_same_server(connection: StockConnection, results: "redis.Redis") -> None:
    """Raise `ImproperlyConfigured` where results lie in another database than the queues.

    An end is stored where the worker still holds the job's message, in one step: elsewhere every
    end would be refused. What the broker is given is looked for among the results, for addresses
    tell little: one server has many names, and a worker may not be allowed to ask for its own.
    """
    channel: Any = connection.default_channel
    key = f"{channel.global_keyprefix}gristmill:here:{uuid.uuid4()}"
    broker = redis.Redis(connection_pool=channel.pool)
    broker.eval(_MARK, 1, key)
    is_there = results.exists(key)
    broker.delete(key)
    if not is_there:
        raise ImproperlyConfigured(
            "result_backend: another Redis or database than the broker's, expected the same"
        )


for _scheme in (SCHEME, f"{SCHEME}s"):  # the second is rediss://
    TRANSPORT_ALIASES[_scheme] = f"{__name__}:Transport"
