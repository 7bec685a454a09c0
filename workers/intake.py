"""The intake: looks at each job message before Celery does, so that a bad one fails by itself."""

from collections.abc import Callable
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker.strategy import default

from contract import codec
from contract.errors import MessageError

logger = get_logger(__name__)

#: Content types that jobs may have.
_CONTENT_TYPES: Final = (codec.CONTENT_TYPE, "application/json")

#: Arguments and embedded signatures of a message whose body the parent leaves alone.
NOT_DECODED: Final[tuple[Any, ...]] = ((), {}, {})

#: What Celery raises for headers that are not a task's. Some of it would end the worker's parent,
#: and its successor's, for the message would come again.
_MALFORMED: Final = (InvalidTaskError, KeyError, TypeError, ValueError, AttributeError)


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return the handler of one task's messages, as Celery's `Task.Strategy` asks for."""
    handle = default(task, app, consumer)

    def refuse(message: Any, fault: MessageError, ack: Any) -> None:
        _fail(task, message, fault)
        ack(logger, consumer.connection_errors)

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        if body is None:  # protocol 2: the body has not been read
            fault = _fault(message)
            if fault is not None:
                return refuse(message, fault, ack)
            # Celery would decode the body here, in the parent, to send the arguments through the
            # pipe a second time. The child decodes it, under our limits; a bad one fails there.
            message._decoded_cache = NOT_DECODED
        try:
            return handle(message, body, ack, reject, callbacks)
        except _MALFORMED as error:
            return refuse(message, MessageError(f"headers: {error}, expected a task's"), ack)

    return take


def _fault(message: Any) -> MessageError | None:
    """Return what is wrong with a message as far as it shows without decoding it."""
    if message.content_type not in _CONTENT_TYPES:
        expected = " or ".join(_CONTENT_TYPES)
        return MessageError(f"content type: {message.content_type!r}, expected {expected}")
    if not isinstance(message.body, bytes | str):
        return MessageError(f"message: body {message.body!r}, expected bytes or text")
    if len(message.body) > codec.INLINE.max_bytes:
        limit = codec.INLINE.max_bytes
        return MessageError(f"message: {len(message.body)} bytes, expected at most {limit}")
    return None


def _fail(task: Any, message: Any, fault: MessageError) -> None:
    """Give the caller of a job that cannot be read a failed result."""
    job_id = message.headers.get("id")
    logger.error("job %s of %s refused: %s", job_id, task.name, fault)
    if job_id:
        task.backend.mark_as_failure(job_id, fault)
