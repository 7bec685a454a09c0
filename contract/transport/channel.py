"""Kombu's Redis channel, whose messages stay in Redis until they are acknowledged."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

import redis
from kombu.log import get_logger
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps
from kombu.utils.scheduling import cycle_by_name

from contract.connections import ANSWER_SECONDS, Pool
from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery
from contract.events import Events
from contract.families import FAMILIES
from contract.transport import entries, publishing, scripts
from contract.transport.inbox import TROUBLE, Entry, Inbox
from contract.transport.line import Line

logger = get_logger(__name__)

#: Seconds that the event loop may spend on handing out what came in one answer.
_TURN_SECONDS: Final = 0.05

#: What becomes of a message: its job runs, or somebody else shall have it.
_BEGUN: Final = "begun"
_HANDED_BACK: Final = "handed back"

#: Bells are push messages, which RESP 3 has; they would upset redis-py's check of a connection.
_BELLS: Final[dict[str, Any]] = {"protocol": 3, "health_check_interval": 0}

# From 7.0 on redis-py asks with RESP 3 to be told of maintenance, of which we make no use, and
# 7.4 cannot over a socket.
with contextlib.suppress(ImportError):
    from redis.maint_notifications import MaintNotificationsConfig

    _BELLS["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)


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

    @property
    def has_begun(self) -> bool:
        """Whether its job runs: a worker that reconnects or stops goes on with it."""
        return vars(self).get("_fate") == _BEGUN

    def begin(self) -> bool:
        """Note that its job begins; False where it is handed back, so that it must not.

        Of `begin` and `hand_back`, from whatever thread each is called, the first one decides.
        """
        return bool(vars(self).setdefault("_fate", _BEGUN) == _BEGUN)

    def hand_back(self) -> bool:
        """Note that it goes back to its queue; False where its job runs."""
        return bool(vars(self).setdefault("_fate", _HANDED_BACK) == _HANDED_BACK)


class QoS(virtual.QoS):
    """Kombu's account of what a channel has handed out; the truth is the inbox in Redis."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message."""
        super().append(message, delivery_tag)
        self.channel.hold(delivery_tag, message)

    def ack(self, delivery_tag: str) -> None:
        """Be done with a message."""
        super().ack(delivery_tag)
        if self.channel.inbox is not None:
            self.channel.inbox.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Refuse a message, for good or to have it again at once."""
        if not requeue:
            return self.ack(delivery_tag)
        return self.put_back(delivery_tag)

    def put_back(self, delivery_tag: str, fault: str = "", *, behind: bool = False) -> None:
        """Put a message back at the front of its queue, or the back; count the `fault` it met."""
        super().ack(delivery_tag)
        if self.channel.inbox is not None:
            self.channel.inbox.put_back(delivery_tag, fault, behind=behind)

    def restore_unacked(self) -> None:
        """Put all messages back at the front of their queues."""
        for tag in list(self._delivered):
            self.put_back(tag)
        self._flush()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Hand back what has not begun, as the channel or the process ends."""
        self._on_collect.cancel()
        self.channel.leave()
        self._flush()
        self._delivered.clear()


class Channel(stock.Channel):
    """Kombu's Redis channel, with an inbox for the queues whose messages are acknowledged.

    Consumers that do not acknowledge (remote control and its replies) and fanout stay kombu's.
    """

    Message = Message
    QoS: Any = QoS

    #: Option: seconds that an answer may take. Kombu's are for ever: a worker that told its events
    #: to a connection that led nowhere never took another job.
    socket_timeout: Any = ANSWER_SECONDS

    #: Option: renew the lease by a thread, where a job may block the event loop (`-P solo`).
    renew_in_thread = False

    from_transport_options: Any = (*stock.Channel.from_transport_options, "renew_in_thread")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open a channel; it has no inbox before it consumes."""
        self.inbox: Inbox | None = None
        self.line: Line | None = None
        self._has_left = False
        self._reserved_queues: dict[str, str] = {}
        super().__init__(*args, **kwargs)
        self.handlers["INBOX"] = self.read_inbox
        self._reserve_cycle = cycle_by_name(self.queue_order_strategy)()

    # --- Consuming ---

    @property
    def active_queues(self) -> list[str]:
        """The queues that kombu's own BRPOP serves."""
        reserved = self._reserved_queues.values()
        return [queue for queue in super().active_queues if queue not in reserved]

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any
    ) -> Any:
        """Consume; a queue whose messages are acknowledged is reserved from."""
        if not no_ack and queue not in self._fanout_queues:
            self._open_inbox()
            self._reserved_queues[consumer_tag] = queue
            self._reserve_cycle.update(list(dict.fromkeys(self._reserved_queues.values())))
        return super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        if self._reserved_queues.pop(consumer_tag, None) is not None:
            self._reserve_cycle.update(list(dict.fromkeys(self._reserved_queues.values())))
        return super()._basic_cancel(consumer_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message of a queue, or None."""
        if no_ack:
            return super().basic_get(queue, no_ack=True, **kwargs)
        inbox = self._open_inbox()
        inbox.keep()
        for entry in inbox.reserve(self._keys([queue]), 1):
            payload = self._read(entry)
            if payload is not None:
                message = self.Message(payload, channel=self)
                self.qos.append(message, message.delivery_tag)
                return message
        return None

    def _open_inbox(self) -> Inbox:
        if self.inbox is None:
            deployment = Deployment(prefix=self.global_keyprefix)
            broker = self.connection.client
            place = (broker.hostname, broker.port, broker.virtual_host, self.global_keyprefix)
            # A client of its own: kombu's prefix some keys, and close with the channel.
            client = redis.Redis(connection_pool=self._pool_of())
            self.inbox = Inbox.adopt(place) or Inbox(client, deployment)
            self.inbox.on_ack = self.connection.cycle.acknowledged
            self._inbox_place = place
            self._letters = DeadLetters(self.inbox.client, deployment)
            self._events = Events(self.inbox.client, deployment)
            pool = self._pool_of(asynchronous=True, **_BELLS)
            self.line = Line(self.inbox, pool, self._preferred_keys, self._credit)
            if self.renew_in_thread:
                self.inbox.keep()
        return self.inbox

    def _pool_of(self, *, asynchronous: bool = False, **options: Any) -> "redis.ConnectionPool":
        """Return connections that the lease hangs on."""
        parameters = {**self._connparams(asynchronous=asynchronous), **options}
        patience = parameters.get("socket_timeout") or scripts.SILENT_SECONDS
        parameters["socket_timeout"] = min(patience, scripts.SILENT_SECONDS)
        return Pool(**parameters)

    def _get_pool(self, asynchronous: bool = False) -> "redis.ConnectionPool":
        parameters = self._connparams(asynchronous=asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=parameters["db"])
        return Pool(**parameters)

    def _preferred_keys(self) -> list[str]:
        """Return the keys to reserve from: by priority, and within one as the strategy says."""
        return self._keys(self._reserve_cycle.consume(len(self._reserved_queues)))

    def _keys(self, queues: list[str]) -> list[str]:
        steps = self.priority_steps
        return [self.global_keyprefix + self._q_for_pri(q, step) for step in steps for q in queues]

    def _credit(self) -> int:
        """Return how many more messages the consumer takes."""
        if not (self._reserved_queues and self.qos.can_consume()):
            return 0
        # Celery's `worker_disable_prefetch` puts a rule of its own here, which knows no number.
        if "can_consume" in vars(self.qos):
            return 1
        room = self.qos.can_consume_max_estimate()
        return 1 if room is None else int(room)

    # --- Publishing ---

    def prepare_message(self, *args: Any, **kwargs: Any) -> Any:
        """Return a message; a retry copies its headers, where it was delivered is not its own."""
        message = super().prepare_message(*args, **kwargs)
        message["headers"] = {
            name: value for name, value in message["headers"].items() if name != DELIVERY
        }
        return message

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        sequel = publishing.sequel()
        if sequel is None or queue in self._expires:
            super()._put(queue, message, **kwargs)
            return
        step = self._get_message_priority(message, reverse=False)
        key = self.global_keyprefix + self._q_for_pri(queue, step)
        client = redis.Redis(connection_pool=self.pool)
        sequel.put(client, Deployment(prefix=self.global_keyprefix), key, dumps(message))

    # --- Reading ---

    def turn(self, *, is_due: bool = False) -> bool:
        """Ask for entries where that is of use; connect where there is no connection.

        Returns whether some came by it.
        """
        if self.line is None:
            return False
        with _as_connection_error():
            self.connection.cycle.watch(self)
            return self.line.turn(is_due=is_due)

    def read_inbox(self) -> None:
        """Take in what came on the line."""
        assert self.line is not None
        with _as_connection_error():
            self.line.read()

    def deliver(self, *, only_one: bool = False) -> bool:
        """Hand out what has come and say whether there was any; stop where it takes long."""
        limit, arrived = time.monotonic() + _TURN_SECONDS, self.line and self.line.arrived
        was_any = False
        while arrived and not (was_any and (only_one or time.monotonic() > limit)):
            was_any = self._deliver(arrived.popleft()) or was_any
        return was_any

    def _deliver(self, entry: Entry) -> bool:
        key = entry.tag.partition(" ")[2].removeprefix(self.global_keyprefix)
        queue = key.rsplit(self.sep, 1)[0]
        payload = self._read(entry)
        if payload is None:
            return False
        self._reserve_cycle.rotate(queue)
        if queue not in self.connection._callbacks:  # cancelled while the answer was on its way
            self.qos.append(self.Message(payload, channel=self), entry.tag)
            self.qos.put_back(entry.tag)
            return False
        self.connection._deliver(payload, queue)
        return True

    def _read(self, entry: Entry) -> dict[str, Any] | None:
        """Return an entry's message; one that is none becomes a dead letter."""
        assert self.inbox is not None
        delivery = Delivery(
            inbox=self.inbox.key, tag=entry.tag, lost=entry.lost, returned=entry.returned
        )
        try:
            message = entries.read(entry.raw)
        except entries.NoMessage as fault:
            self._bury(delivery, str(fault))
            return None
        entries.mark(message, delivery)
        if entry.lost or entry.returned:
            self._events.count("redelivered", reason="lost" if entry.lost else "returned")
        return message

    def _bury(self, delivery: Delivery, fault: str) -> None:
        assert self.inbox is not None
        queue = delivery.queue.removeprefix(self.global_keyprefix)
        logger.error("an entry of queue %s is not a message: %s", queue, fault)
        try:
            said = f"not a message: {fault}"
            self._letters.bury(delivery, said)  # which counts it, too
        except TROUBLE as error:
            # It stays in the inbox, and comes again with the next connection.
            logger.error("it could not be put to the dead letters: %s", error)

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        """Return the body's bytes; one that is not in its encoding stays as it is.

        The message is then delivered and fails where it is read, so that its caller learns of it.
        """
        try:
            return super().decode_body(body, encoding)
        except (ValueError, TypeError, KeyError, AttributeError):
            return body

    # --- Giving back ---

    def hold(self, delivery_tag: str, message: Any) -> None:
        """Note a message that the consumer answers for; fanout's are in no inbox."""
        if self.inbox is not None and " " in delivery_tag:
            self.inbox.hold(delivery_tag, message)

    def requeue_lost(self, delivery_tag: str) -> None:
        """Put a message back at the front of its queue: the process that ran its job has died."""
        self.qos.put_back(delivery_tag, scripts.LOST)

    def requeue_behind(self, delivery_tag: str) -> None:
        """Put a message back at the back of its queue: its task asks to be run later."""
        self.qos.put_back(delivery_tag, behind=True)

    def hand_back(self) -> None:
        """Hand back what has not begun, as a worker stops, and keep the lease of what runs.

        Nobody reads from this channel any more, so that from now on a thread renews.
        """
        if self.inbox is not None:
            self._end_line()
            self.inbox.keep()
            try:
                self.inbox.hand_back_waiting()
            except TROUBLE as error:
                logger.warning("jobs could not be handed back yet: %s", error)

    def keep(self) -> None:
        """Renew the lease by a thread, for a reader without event loop."""
        if self.inbox is not None:
            self.inbox.keep()

    def close(self) -> None:
        """Close the channel."""
        super().close()
        self.leave()

    def leave(self) -> None:
        """Leave the inbox, once nobody reads from this channel any more."""
        if self.inbox is not None and not self._has_left:
            self._has_left = True
            self._end_line()
            self.inbox.leave(self._inbox_place)

    def _end_line(self) -> None:
        # The timers of an event loop go on while a worker stops: they find no line to ask on.
        line, self.line = self.line, None
        if line is not None:
            line.finish()


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    """Make a lost connection of any surprise: Celery answers that by a new one, others by dying."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        raise
    except Exception as error:
        raise redis.ConnectionError(f"reserving failed: {error}") from error
