"""The intake: looks at each job message before Celery does, so that a bad one fails by itself."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis
from celery import states
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, NotRegistered
from celery.signals import task_rejected, task_unknown
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.strategy import default

from contract import codec
from contract.arrays import describe
from contract.envelope import DELIVERY, HEADER
from contract.errors import InternalError, MessageError
from contract.events import Events
from contract.outages import is_passing
from contract.results import Backend
from contract.transport import require, require_same_server
from contract.transport.scripts import SILENT_SECONDS
from workers.burial import bury, delivery_of, deployment_of, verdict
from workers.prefork import has_process
from workers.reading import CONTENT_TYPES, NOT_DECODED, ReadingPool, read
from workers.summaries import shorten

logger = get_logger(__name__)

#: Seconds that the broker may take for an event. Where the connection for events leads nowhere,
#: there must be time to notice that the other one does not either, and to renew the lease.
EVENT_SECONDS: Final = 1.0

#: What Celery's headers hold where they are not null. It takes that for granted, in the parent,
#: where a time limit that is text, say, would end the worker.
_HEADERS: Final = {
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), (int,)),
    **dict.fromkeys(("eta", "expires", "root_id", "parent_id", "group", "reply_to"), (str,)),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "lang", "origin", "shadow"), (str,)),
    "ignore_result": (bool,),
    "timelimit": (list, tuple),
    "stamped_headers": (list, tuple),
    "stamps": (dict,),
}

#: What Celery raises for headers that are not a task's. Some of it would end the worker's parent,
#: and its successor's, for the message would come again.
_MALFORMED: Final = (InvalidTaskError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Refusal:
    """Why a message is not run."""

    #: What its caller gets.
    fault: Exception
    #: What its dead letter counts as, a label of the event.
    kind: str = "malformed"
    #: What could not be read of it, a label of the event `decode_error`; "" for a job given up.
    unread: str = ""
    #: What the log and the dead letter say; "" for what the caller is told.
    said: str = ""

    @property
    def reason(self) -> str:
        """What the log and the dead letter say."""
        return self.said or str(self.fault)


class Consumer(CeleryConsumer):
    """Celery's consumer, which no message can end: `worker_consumer` in the settings."""

    #: The broker that it was last connected to; one of a list may take another's place.
    _place: tuple[Any, ...] = ()

    def connect(self) -> Any:
        """Connect, also again; a transport that loses messages ends the worker instead.

        So does a broker that keeps no results: none could be stored.
        """
        connection = super().connect()
        require(connection)
        place = (connection.hostname, connection.port, connection.virtual_host)
        if place != self._place and isinstance(self.app.backend, Backend):
            require_same_server(connection, self.app.backend.client)
        self._place = place
        return connection

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        """Return the connection for messages and remote control."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        return self.ensure_connected(_bounded(connection, SILENT_SECONDS))

    def connection_for_write(self, url: Any = None, heartbeat: Any = None) -> Any:
        """Return the connection for events, which must not hold the event loop up."""
        connection = self.app.connection_for_write(url=url, heartbeat=heartbeat)
        return self.ensure_connected(_bounded(connection, EVENT_SECONDS))

    def stop(self) -> None:
        """Stop reading. Jobs that have not begun are given back before the running ones end."""
        self._note_begun()
        super().stop()
        if self.task_consumer is not None:
            self.task_consumer.channel.hand_back()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of a connection that broke, and of the jobs that have not begun."""
        self._note_begun()
        super().on_connection_error_after_connected(exc)

    def _note_begun(self) -> None:
        """Take each job for begun that a process of the pool has, though it did not say so yet."""
        for request in tuple(state.reserved_requests):
            run = request._apply_result and request._apply_result()
            if has_process(run):
                request.message.begin()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> Any:
            try:
                return handle(message)
            except _MALFORMED as error:
                return self._refuse(message, f"message: {error}, expected a task's")

        return take

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse a message that names no task."""
        self._refuse(message, "task: none, expected a message of Celery's")
        task_rejected.send(sender=self, message=message, exc=None)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a message that Celery finds no task's."""
        self._refuse(message, f"message: {exc}, expected a task's")
        task_rejected.send(sender=self, message=message, exc=exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a message of the first protocol, or of none, whose body is not readable."""
        self._refuse(message, f"message: {exc}, expected a body in its content type", "body")

    def _refuse(self, message: Any, said: str, unread: str = "headers") -> None:
        refuse(self.app, message, Refusal(MessageError(said), unread=unread))
        message.ack_log_error(logger, self.connection_errors)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Fail a job of a task that is not here: a line in the log, and its caller knows."""
        name = message.headers["task"] if "task" in message.headers else message.payload["task"]
        known = _expected(name, self.app.tasks)
        # What stock clients know is left as Celery has it: the name, and nothing else.
        fault = NotRegistered(f"{name}, expected {known}" if HEADER in message.headers else name)
        job_id = _job_id(message)
        said = f"unknown task, expected {known}"
        refuse(self.app, message, Refusal(fault, kind="unknown_task", said=said))
        message.reject_log_error(logger, self.connection_errors)
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=job_id, exception=repr(fault))
        task_unknown.send(sender=self, message=message, exc=exc, name=name, id=job_id)


def _bounded(connection: Any, seconds: float) -> Any:
    """Return a connection of a worker's parent, which renews a lease and cannot wait for long."""
    options = connection.transport_options
    options["socket_timeout"] = min(seconds, options.get("socket_timeout") or seconds)
    return connection


def _expected(name: object, known: Iterable[str]) -> str:
    """Return the tasks of the same family, for one that does not exist, or else all of them."""
    ours = sorted(task for task in known if not task.startswith("celery."))
    family = str(name).partition(".")[0] + "."
    return f"one of {', '.join([task for task in ours if task.startswith(family)] or ours)}"


class _Consumer:
    """A consumer as Celery's strategy sees it: with a pool that reads bodies as we do."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.pool = ReadingPool(consumer.pool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return the handler of one task's messages, as Celery's `Task.Strategy` asks for."""
    handle = default(task, app, _Consumer(consumer))

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        refusal = _given_up(app, message) or _look(message, body)
        if refusal is None:
            if not task.acks_late:
                # Acknowledged as it begins: from then on it is kept nowhere, and nobody is fenced.
                message.headers.pop(DELIVERY, None)
            if body is None:
                # Celery would decode the body here, in the parent, to send the arguments through
                # the pipe a second time. The child decodes it, under our limits.
                message._decoded_cache = NOT_DECODED
                _shorten_summaries(message.headers)
            try:
                return handle(message, body, ack, reject, callbacks)
            except _MALFORMED as error:
                fault = MessageError(f"headers: {error}, expected a task's")
                refusal = Refusal(fault, unread="headers")
        refuse(app, message, refusal)
        return ack(logger, consumer.connection_errors)

    return take


def _given_up(app: Any, message: Any) -> Refusal | None:
    """Return why a job is not to be run again that has cost too much already."""
    delivery = delivery_of(message)
    said = verdict(delivery)
    if not said:
        return None
    deployment, kind = deployment_of(app), "lost" if delivery and delivery.lost else "returned"
    Events(app.backend.client, deployment).count("poison", reason=kind)
    name = message.headers.get("task")
    fault = InternalError(f"{name}: given up, {said}, expected it to end", "")
    return Refusal(fault, kind="poison")


def _look(message: Any, body: Any) -> Refusal | None:
    """Return what is wrong with a message as far as it shows without decoding it."""
    if body is not None:  # protocol 1, which had to be read; its result would have no place
        return None if _job_id(message) else _refusal("headers", "id: none, expected a job's")
    if message.content_type not in CONTENT_TYPES:
        was, expected = describe(message.content_type), " or ".join(CONTENT_TYPES)
        return _refusal("content_type", f"content type: {was}, expected {expected}")
    if not isinstance(message.content_encoding, str | None):
        was = describe(message.content_encoding)
        return _refusal("content_type", f"content encoding: {was}, expected text")
    if getattr(message, "compression", None) is not None:
        was = describe(message.compression)
        return _refusal("compression", f"compression: {was}, expected none")
    if not isinstance(message.body, bytes | str):
        was = describe(message.body)
        return _refusal("body", f"message: body {was}, expected bytes or text")
    if len(message.body) > codec.INLINE.max_bytes:
        limit = codec.INLINE.max_bytes
        said = f"message: {len(message.body)} bytes, expected at most {limit}"
        return _refusal("too_large", said, kind="too_large")
    return _look_at_headers(message.headers)


def _look_at_headers(headers: Mapping[str, Any]) -> Refusal | None:
    for name, kinds in _HEADERS.items():
        value = headers.get(name)
        if value is not None and not isinstance(value, kinds):
            said = f"{name}: {describe(value)}, expected {kinds[0].__name__}"
            return _refusal("headers", said)
    limits = headers.get("timelimit") or (None, None)
    if len(limits) != 2 or not all(isinstance(limit, int | float | None) for limit in limits):
        said = f"timelimit: {describe(limits)}, expected two numbers of seconds"
        return _refusal("headers", said)
    return None


def _refusal(unread: str, said: str, kind: str = "malformed") -> Refusal:
    return Refusal(MessageError(said), kind=kind, unread=unread)


def _shorten_summaries(headers: dict[str, Any]) -> None:
    """Cut what the client says of its arguments, before logs, monitors and the child see it."""
    for name in ("argsrepr", "kwargsrepr"):
        if headers.get(name):
            headers[name] = shorten(headers[name])


def refuse(app: Any, message: Any, refusal: Refusal) -> None:
    """Give the caller of a job that is not run a failed result, and keep its message.

    In this order, so that an end of this process in between leaves the message where it was: it is
    refused again. A result that stands already stays. The message is then to be acknowledged.
    """
    job_id = _job_id(message)
    task = message.headers.get("task")
    logger.error("job %s of %s refused: %s", job_id, task, refusal.reason)
    if refusal.unread:
        events = Events(app.backend.client, deployment_of(app))
        events.count("decode_error", reason=refusal.unread)
    try:
        if job_id and _end(app.backend, job_id, refusal, _context(message, job_id)):
            return  # this was the echo of a job that has ended well
        bury(app, message, refusal.reason, refusal.kind)
    except Exception as error:
        if is_passing(error) or is_passing(error.__cause__):
            # As the consumer knows it: it connects again, and the message comes again.
            raise redis.ConnectionError(f"job {job_id} waits to be refused: {error}") from error
        logger.exception("job %s of %s was refused, and not all was done", job_id, task)


def _end(backend: Any, job_id: str, refusal: Refusal, context: Context) -> bool:
    """End a job with a failure; say whether it has another end already."""
    try:
        backend.mark_as_failure(job_id, refusal.fault, request=context)
    except Exception as error:
        if is_passing(error) or is_passing(error.__cause__):
            raise
        # Such as an errback that cannot be called. The message is to be kept all the same.
        logger.exception("job %s: not all that follows from its failure was done", job_id)
    return backend.get_state(job_id) in (states.SUCCESS, states.REVOKED)


def _context(message: Any, job_id: str) -> Context:
    """Return what Celery needs to tell a chord and the errbacks, as far as it can be read."""
    # The task with its envelope, also where nothing else is right: its idempotency key ends, too.
    kept = ("task", DELIVERY, HEADER)
    known = {"id": job_id, **{name: message.headers.get(name) for name in kept}}
    known["delivery_info"] = message.delivery_info or {}  # errbacks are not sent without
    with contextlib.suppress(Exception):  # headers and a body of anybody's
        if "task" in message.headers and len(message.body) <= codec.INLINE.max_bytes:
            _, _, embed = read(message.body, message.content_type, message.content_encoding)
            return Context({**message.headers, **embed, **known})
    return Context(known)


def _job_id(message: Any) -> str | None:
    """Return the id of the job that a message asks for, which protocol 1 has in the body."""
    found = message.headers.get("id")
    if "task" not in message.headers:
        with contextlib.suppress(Exception):  # a body of anybody's
            found = message.decode()["id"]
    return found if isinstance(found, str) else None
