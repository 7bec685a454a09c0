"""Every error that crosses the wire, each with a stable code.

An error travels as its class and its positional arguments, all of them JSON-ready, so that Celery
and any other client can rebuild or read it.
"""

from typing import ClassVar


class GristmillError(Exception):
    """Raised when a job cannot be accepted, run or delivered; the base of all errors here."""

    #: Stable name of the error on the wire, in logs and in metrics.
    code: ClassVar[str] = "error"
    #: Whether running the same job again may succeed.
    retryable: ClassVar[bool] = False

    def __init__(self, *args: object) -> None:
        """Keep every argument; OSError, which two errors here are, would keep no more than two."""
        self.args = args

    def __str__(self) -> str:
        """Return the first argument: the message. Further arguments are details for programs."""
        return str(self.args[0]) if self.args else _first_sentence(type(self))


class InvalidRequest(GristmillError, ValueError):
    """Raised when an argument is not what its operation expects; never retried."""

    code = "invalid_request"


class MessageError(GristmillError):
    """Raised when a message is undecodable, too large, of an unknown version, or lacks a blob."""

    code = "message_error"


class ComputeError(GristmillError):
    """Raised when a valid request has no answer: singular, not converged, out of memory."""

    code = "compute_error"


class TransientError(GristmillError):
    """Raised when the surroundings failed and the job may succeed later; the only one retried."""

    code = "transient_error"
    retryable = True


class InternalError(GristmillError):
    """Raised when the fault is ours; its second argument is the traceback as text."""

    code = "internal_error"


class JobCancelled(GristmillError):
    """Raised when the job was cancelled before it ended."""

    code = "job_cancelled"


class DeadlineExceeded(GristmillError):
    """Raised when the job's deadline passed before it ended."""

    code = "deadline_exceeded"


class ResultTimeout(GristmillError, TimeoutError):
    """Raised when no result came within the time that the caller was ready to wait."""

    code = "result_timeout"


class QueueFull(GristmillError):
    """Raised when the broker has no room for the job; nothing was enqueued."""

    code = "queue_full"


class BrokerUnavailable(GristmillError, ConnectionError):
    """Raised when the broker does not answer within the time that a call may take."""

    code = "broker_unavailable"


def _subclasses(error: type[GristmillError]) -> list[type[GristmillError]]:
    return [error, *(found for child in error.__subclasses__() for found in _subclasses(child))]


def _first_sentence(error: type[GristmillError]) -> str:
    return (error.__doc__ or error.__name__).strip().splitlines()[0]


#: Every error by its code.
ERRORS: dict[str, type[GristmillError]] = {
    error.code: error for error in _subclasses(GristmillError)
}
