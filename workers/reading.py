"""Reads the bodies of job messages, in the child that runs the job, and says what is wrong."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from billiard.einfo import ExceptionInfo
from celery.canvas import Signature
from celery.exceptions import Reject
from kombu.serialization import loads

from contract import codec
from contract.arrays import describe
from contract.errors import ComputeError, GristmillError, InternalError, MessageError
from contract.patience import handing_back

#: Content types that jobs may have.
CONTENT_TYPES: Final = (codec.CONTENT_TYPE, codec.BATCH_CONTENT_TYPE, "application/json")

#: What the body of a message must be.
A_TRIPLE: Final = "a list of arguments, a map of fields and a map of what is embedded"

#: Arguments, fields and embedded signatures of a message whose body the parent leaves alone.
NOT_DECODED: Final[tuple[Any, ...]] = ((), {}, {})

#: What may be embedded: whom Celery calls afterwards. It copies what it finds there over the
#: request, so that anything else could pass for a header.
_EMBEDDED: Final = ("callbacks", "errbacks", "chain", "chord")

#: Deepest nesting of signatures.
_MAX_DEPTH: Final = 16


class NotRun(Exception):
    """Raised where a job could not even begin; its argument is the error that its caller gets."""


class ReadingPool:
    """A pool that reads a job's body before Celery runs the job."""

    def __init__(self, pool: Any) -> None:
        """Run what comes in `pool`."""
        self._pool = pool

    def apply_async(self, run: Callable[..., Any], args: tuple[Any, ...], **options: Any) -> Any:
        """Run a job in the pool, as Celery asks for."""
        return self._pool.apply_async(read_and_run, (run, *args), **options)


def read_and_run(
    run: Callable[..., Any],
    task: str,
    job_id: str,
    request: dict[str, Any],
    body: Any,
    content_type: Any,
    content_encoding: Any,
) -> Any:
    """Read a job's body and `run` the job; what fails by that is a failed job in every pool.

    Celery's own would raise here: a pool of threads swallows that, and a solo worker ends by it.
    """
    try:
        if content_type:
            body = read(body, content_type, content_encoding)
        with handing_back():
            return run(task, job_id, request, body, None, None)
    except Reject:  # the worker stops, and the broker takes nothing: it goes back to its queue
        return 1, ExceptionInfo(), 0.0
    except Exception as error:
        try:
            raise NotRun(_meaning(task, error))
        except NotRun:
            return 1, ExceptionInfo(), 0.0


def read(
    body: Any, content_type: Any, content_encoding: Any
) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Return the arguments, fields and embedded signatures that a body holds.

    Raises `MessageError` for a body that holds anything else.
    """
    try:
        found = loads(body, content_type, content_encoding, accept=CONTENT_TYPES)
    except MemoryError:
        raise
    except Exception as error:  # kombu's decoders raise anything
        raise MessageError(f"message: {error}, expected {A_TRIPLE}") from None
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise MessageError(f"message: {describe(found)}, expected {A_TRIPLE}")
    args, fields, embed = found
    if not isinstance(args, list | tuple):
        raise MessageError(f"message: arguments {describe(args)}, expected a list")
    if not isinstance(fields, dict):
        raise MessageError(f"message: fields {describe(fields)}, expected a map")
    if "self" in fields:  # Celery calls a task with it
        raise MessageError("message: field 'self', expected another name")
    return list(args), fields, read_embed(embed)


def read_embed(embed: Any) -> dict[str, Any]:
    """Return the signatures that are embedded in a message, or raise `MessageError`."""
    if embed is None:
        return {}
    if not isinstance(embed, dict):
        raise MessageError(f"message: embedded {describe(embed)}, expected a map")
    found = {name: embed[name] for name in _EMBEDDED if name in embed}
    for name, value in found.items():
        if value is None:
            continue
        signatures = [value] if name == "chord" else value
        if not isinstance(signatures, list | tuple):
            raise MessageError(f"{name}: {describe(value)}, expected a list of signatures")
        for signature in signatures:
            _check_signature(name, signature)
    return found


def _check_signature(name: str, signature: Any) -> None:
    """Refuse what Celery cannot call; it would learn so only once the job has run."""
    if not _is_signature(signature, _MAX_DEPTH):
        raise MessageError(f"{name}: {describe(signature)}, expected a signature of a task")
    try:
        Signature.from_dict(signature)
    except Exception as error:  # of parts that only some kinds of signature have
        raise MessageError(f"{name}: {error!r}, expected a signature of a task") from None


def _is_signature(value: Any, depth: int) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("task"), str) or depth == 0:
        return False
    fields = value.get("kwargs") or {}
    if not isinstance(value.get("args") or (), list | tuple) or not isinstance(fields, dict):
        return False
    if not isinstance(value.get("options") or {}, dict):
        return False
    return not value.get("subtask_type") or all(
        _is_signature(part, depth - 1) for part in _parts(value["task"], fields)
    )


def _parts(kind: str, fields: Mapping[str, Any]) -> list[Any]:
    """Return the signatures that a chain, group, chord or map of signatures is made of."""
    parts: list[Any] = []
    for name in ("tasks", "header", "body"):
        value = fields.get(name)
        if isinstance(value, list | tuple):
            parts += value
        elif value is not None:
            parts.append(value)
    return parts if kind.startswith("celery.") else []


def _meaning(task: str, error: Exception) -> GristmillError:
    if isinstance(error, GristmillError):
        return error
    if isinstance(error, MemoryError):
        return ComputeError(f"{task}: out of memory ({error})")
    said = f"{task}: {type(error).__name__}: {error}"
    return InternalError(said, traceback.format_exc())
