"""Our transport: kombu's for Redis, under a scheme of its own, that one bad entry cannot end.

`gristmill://`, `gristmills://` and `gristmill+socket://` are redis://, rediss:// and redis+socket://
with this transport. It has a scheme because Celery's `broker_transport` is dropped on failover and
ignored for sockets.
"""

from queue import Empty
from typing import Any, Final

import redis
from celery.app.amqp import AMQP
from kombu.connection import Connection as StockConnection
from kombu.entity import Exchange, Queue
from kombu.log import get_logger
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as stock

from contract.arrays import describe
from contract.families import FAMILIES

logger = get_logger(__name__)

SCHEME: Final = "gristmill"

#: What is not the fault of an entry that was being read.
_ELSEWHERE: Final = (redis.RedisError, OSError, Empty)


_orphans: dict[tuple[Any, ...], list[str]] = {}


class Message(virtual.Message):
    """A message of kombu's. One of our jobs is not unpacked: few bytes may become gigabytes."""

    #: Name of the compression that the body of a job of ours came under; None for none.
    compression: Any = None

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        """Read an entry of a queue."""
        headers = payload.get("headers") or {}
        if str(headers.get("task")).partition(".")[0] in FAMILIES:
            self.compression = headers.pop("compression", None)
        super().__init__(payload, channel, **kwargs)


class QoS(stock.QoS):
    """Kombu's account of what a channel has handed out and nobody has acknowledged.

    A broker without memory refuses whatever is in a transaction, even what would free some.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message; where there is no room for that, hand it out all the same.

        It has left its queue already. Only the end of this very process would lose it now.
        """
        try:
            super().append(message, delivery_tag)
        except redis.exceptions.OutOfMemoryError as error:
            logger.error("message %s is in this worker's memory alone: %s", delivery_tag, error)
            virtual.QoS.append(self, message, delivery_tag)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        if pipe is not None:
            return super()._remove_from_indices(delivery_tag, pipe)
        with self.channel.conn_or_acquire() as client:
            # In this order, so that an end in between leaves an index without message, which kombu
            # clears away, and no message without index, which it would never find.
            pipe = client.pipeline(transaction=False)
            return pipe.hdel(self.unacked_key, delivery_tag).zrem(
                self.unacked_index_key, delivery_tag
            )

    def restore_unacked(self, client: Any = None) -> None:
        """Give all of it back; where the broker is gone, leave that to the next channel."""
        try:
            super().restore_unacked(client)
        except _ELSEWHERE:
            self.channel.orphans.extend(self._delivered)
            raise


class Channel(stock.Channel):
    """Kombu's Redis channel, in whose place a worker's life hangs on each byte of the queue."""

    Message = Message
    QoS = QoS

    @property
    def orphans(self) -> list[str]:
        """Tags of messages that earlier channels to the same queues could not give back."""
        broker = self.connection.client
        place = (broker.hostname, broker.port, broker.virtual_host, self.global_keyprefix)
        return _orphans.setdefault(place, [])

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Consume, once what was in the hands of a broken connection is back in its queue."""
        while self.orphans:
            self.qos.restore_by_tag(self.orphans[-1])
            self.orphans.pop()
        return super().basic_consume(queue, *args, **kwargs)

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        """Return the body's bytes; one that is not in its encoding stays as it is.

        The message is then delivered and fails where it is read, so that its caller learns of it.
        """
        try:
            return super().decode_body(body, encoding)
        except (ValueError, TypeError, KeyError, AttributeError):
            return body

    def _brpop_read(self, **options: Any) -> Any:
        self.connection.is_delivering = False
        try:
            return super()._brpop_read(**options)
        except _ELSEWHERE:
            raise
        except Exception as error:
            # No JSON, no text, nested beyond any use, or a type that kombu makes of marked maps.
            if self.connection.is_delivering:
                raise
            logger.error("an entry of a queue is not a message and was dropped: %.200s", error)
            return None


class Transport(stock.Transport):
    """Kombu's Redis transport with our channel."""

    Channel = Channel

    def _get_errors(self) -> Any:
        """Return what ends a connection, and what ends a channel.

        A lack of memory at the broker must be among the first: the others end a worker.
        """
        connection_errors, channel_errors = super()._get_errors()  # type: ignore[misc]
        return (*connection_errors, redis.exceptions.OutOfMemoryError), channel_errors

    #: Whether the entry that was read last is in the hands of its consumer.
    is_delivering = False

    def _deliver(self, message: Any, queue: str) -> None:
        fault = _fault(message)
        if fault:
            logger.error("an entry of queue %s is not a message and was dropped: %s", queue, fault)
            return
        self.is_delivering = True
        super()._deliver(message, queue)


class Connection(StockConnection):
    """A connection that its worker survives, and that monitors see as the Redis that it is."""

    def as_uri(self, *args: Any, **kwargs: Any) -> str:
        """Return the broker's address with a scheme that everybody knows."""
        uri: str = super().as_uri(*args, **kwargs)
        return f"redis{uri.removeprefix(SCHEME)}" if uri.startswith(SCHEME) else uri

    def _do_close_transport(self) -> None:
        # Kombu's takes the address from the transport too: a channel that closes a second time, as
        # after a lost connection, could not give back what it holds, and the worker ended over it.
        self._transport = None


class Amqp(AMQP):
    """Celery's messaging with our connection: `Celery(amqp="contract.transport:Amqp")`."""

    Connection = Connection


def queue(name: str) -> Queue:
    """Return the queue `name` with its exchange, as Celery wants queues: Flower reads them too."""
    return Queue(name, Exchange(name), routing_key=name)


def _fault(message: Any) -> str:
    """Return what a message lacks to be handled at all; "" when it lacks nothing."""
    if not isinstance(message, dict):
        return f"{type(message).__name__}, expected a map"
    properties = message.get("properties")
    if not isinstance(properties, dict) or not _is_name(properties.get("delivery_tag")):
        return "no delivery tag, expected properties with one"
    route = properties.get("delivery_info")
    names = ("exchange", "routing_key")
    if not isinstance(route, dict) or not all(isinstance(route.get(name), str) for name in names):
        return "no delivery info, expected exchange and routing key"
    headers = message.get("headers", {})
    if not isinstance(headers, dict):
        return "headers that are no map"
    # Celery takes both for granted once it sees a task.
    if "task" in headers and not (_is_name(headers["task"]) and _is_name(headers.get("id"))):
        was = f"task {describe(headers['task'])} with id {describe(headers.get('id'))}"
        return f"{was}, expected both as text"
    return ""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


for _scheme in (SCHEME, f"{SCHEME}s"):  # the second is rediss://
    TRANSPORT_ALIASES[_scheme] = f"{__name__}:Transport"
