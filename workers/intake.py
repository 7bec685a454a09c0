"""The intake: looks at each job message before Celery does, so that a bad one fails by itself."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from celery.app.task import Context
from celery.exceptions import InvalidTaskError, NotRegistered
from celery.signals import task_unknown
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.strategy import default

from contract import codec
from contract.arrays import describe
from contract.envelope import HEADER
from contract.errors import MessageError
from workers.summaries import shorten

logger = get_logger(__name__)

#: Content types that jobs may have.
_CONTENT_TYPES: Final = (codec.CONTENT_TYPE, "application/json")

#: What the body of a message must be.
A_TRIPLE: Final = "a list of arguments, a map of fields and a map of what is embedded"

#: Arguments and embedded signatures of a message whose body the parent leaves alone.
NOT_DECODED: Final[tuple[Any, ...]] = ((), {}, {})

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


class Consumer(CeleryConsumer):
    """Celery's consumer, which no message can end: `worker_consumer` in the settings."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> Any:
            try:
                return handle(message)
            except _MALFORMED as error:
                _fail(
                    self.app.backend, message, MessageError(f"message: {error}, expected a task's")
                )
                return message.ack_log_error(logger, self.connection_errors)

        return take

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Fail a job of a task that is not here: a line in the log, and its caller knows."""
        name = message.headers["task"] if "task" in message.headers else message.payload["task"]
        known = _expected(name, self.app.tasks)
        # What stock clients know is left as Celery has it: the name, and nothing else.
        fault = NotRegistered(f"{name}, expected {known}" if HEADER in message.headers else name)
        job_id = _job_id(message)
        _fail(self.app.backend, message, fault, f"unknown task, expected {known}")
        message.reject_log_error(logger, self.connection_errors)
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=job_id, exception=repr(fault))
        task_unknown.send(sender=self, message=message, exc=exc, name=name, id=job_id)


def _expected(name: object, known: Iterable[str]) -> str:
    """Return the tasks of the same family, for one that does not exist, or else all of them."""
    ours = sorted(task for task in known if not task.startswith("celery."))
    family = str(name).partition(".")[0] + "."
    return f"one of {', '.join([task for task in ours if task.startswith(family)] or ours)}"


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return the handler of one task's messages, as Celery's `Task.Strategy` asks for."""
    handle = default(task, app, consumer)

    def refuse(message: Any, fault: MessageError, ack: Any) -> None:
        _fail(task.backend, message, fault)
        ack(logger, consumer.connection_errors)

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        if body is None:  # protocol 2: the body has not been read
            fault = _fault(message)
            if fault is not None:
                return refuse(message, fault, ack)
            # Celery would decode the body here, in the parent, to send the arguments through the
            # pipe a second time. The child decodes it, under our limits; a bad one fails there.
            message._decoded_cache = NOT_DECODED
            _shorten_summaries(message.headers)
        elif not _job_id(message):  # protocol 1; its result would have no place
            return refuse(message, MessageError("id: none, expected a job's"), ack)
        try:
            return handle(message, body, ack, reject, callbacks)
        except _MALFORMED as error:
            return refuse(message, MessageError(f"headers: {error}, expected a task's"), ack)

    return take


def _fault(message: Any) -> MessageError | None:
    """Return what is wrong with a message as far as it shows without decoding it."""
    if message.content_type not in _CONTENT_TYPES:
        expected = " or ".join(_CONTENT_TYPES)
        return MessageError(f"content type: {describe(message.content_type)}, expected {expected}")
    if getattr(message, "compression", None) is not None:
        return MessageError(f"compression: {describe(message.compression)}, expected none")
    if not isinstance(message.body, bytes | str):
        return MessageError(f"message: body {describe(message.body)}, expected bytes or text")
    if len(message.body) > codec.INLINE.max_bytes:
        limit = codec.INLINE.max_bytes
        return MessageError(f"message: {len(message.body)} bytes, expected at most {limit}")
    return _fault_of_headers(message.headers)


def _fault_of_headers(headers: Mapping[str, Any]) -> MessageError | None:
    for name, kinds in _HEADERS.items():
        value = headers.get(name)
        if value is not None and not isinstance(value, kinds):
            return MessageError(f"{name}: {describe(value)}, expected {kinds[0].__name__}")
    limits = headers.get("timelimit") or (None, None)
    if len(limits) != 2 or not all(isinstance(limit, int | float | None) for limit in limits):
        return MessageError(f"timelimit: {describe(limits)}, expected two numbers of seconds")
    return None


def _shorten_summaries(headers: dict[str, Any]) -> None:
    """Cut what the client says of its arguments, before logs, monitors and the child see it."""
    for name in ("argsrepr", "kwargsrepr"):
        if headers.get(name):
            headers[name] = shorten(headers[name])


def _fail(backend: Any, message: Any, fault: Exception, said: str = "") -> None:
    """Give the caller of a job that cannot be run a failed result; `said`: the log's words."""
    job_id = _job_id(message)
    logger.error("job %s of %s refused: %s", job_id, message.headers.get("task"), said or fault)
    if job_id:
        backend.mark_as_failure(job_id, fault, request=_context(message, job_id))


def _context(message: Any, job_id: str) -> Context | None:
    """Return what Celery needs to tell a chord and the errbacks; None where nobody can read it."""
    with contextlib.suppress(Exception):  # headers and a body of anybody's
        if "task" in message.headers and message.content_type in _CONTENT_TYPES:
            message._decoded_cache = None  # it may be NOT_DECODED
            _, _, embed = message.decode()
            return Context({**message.headers, **embed, "id": job_id})
    return None


def _job_id(message: Any) -> str | None:
    """Return the id of the job that a message asks for, which protocol 1 has in the body."""
    found = message.headers.get("id")
    if "task" not in message.headers:
        with contextlib.suppress(Exception):  # a body of anybody's
            found = message.decode()["id"]
    return found if isinstance(found, str) else None
