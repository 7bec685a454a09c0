"""The one runner behind every task: from a message's fields to a typed result or error."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

import native_c
from contract.envelope import Envelope
from contract.errors import (
    ComputeError,
    GristmillError,
    InternalError,
    InvalidRequest,
    TransientError,
)
from contract.operation import Operation, Result, fields_of
from contract.payloads import InlinePayloads, Payloads
from native_c import errors as native_errors


class Watch(Protocol):
    """What the runner needs of its surroundings; a Celery task's, or a test's own."""

    def now(self) -> float:
        """Return the broker's time, in seconds since 1970."""

    def __call__(self, progress: float) -> None:
        """Raise `JobCancelled` or `DeadlineExceeded` when the job should not go on."""


#: What an error of the kernels means to the caller. Order matters: the first match counts.
_MEANING: tuple[tuple[type[BaseException], type[GristmillError]], ...] = (
    (native_errors.InvalidArgument, InvalidRequest),
    (native_errors.OutOfMemory, ComputeError),
    (native_errors.Singular, ComputeError),
    (native_errors.NotConverged, ComputeError),
    (MemoryError, ComputeError),
)

_payloads: Payloads = InlinePayloads()


def run(
    operation: Operation[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    envelope: Envelope,
    watch: Watch,
) -> Result:
    """Run one job and return its result; every error that leaves here is a `GristmillError`.

    A `MemoryError` above all must not: Celery's worker answers it by ending its parent process.
    """
    try:
        return _run(operation, args, kwargs, envelope, watch)
    except GristmillError:
        raise
    except Exception as error:
        for kind, meaning in _MEANING:
            if isinstance(error, kind):
                raise meaning(_said(error)) from None
        said = f"{operation.name}: {type(error).__name__}: {error}"
        raise InternalError(said, traceback.format_exc()) from None


def _run(
    operation: Operation[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    envelope: Envelope,
    watch: Watch,
) -> Result:
    waited = _waited(envelope, watch)
    request = operation.build(*args, **_payloads.unpack(kwargs, envelope.references))
    kernel = _kernel(operation)
    native_c.current()  # the first look loads the backend, which is not the kernel's time
    started = time.perf_counter()
    answer = native_c.run(kernel(**fields_of(request)), watch)
    seconds = time.perf_counter() - started
    made = native_c.made()
    result: Result = operation.result(
        **answer, **made, kernel_seconds=seconds, queue_seconds=waited
    )
    return result


def _waited(envelope: Envelope, watch: Watch) -> float | None:
    """Return the seconds since submission; None where nobody can tell."""
    if envelope.submitted_at is None:
        return None
    try:
        return max(0.0, watch.now() - envelope.submitted_at)
    except TransientError:  # the broker is away, and its clock with it
        return None


def _kernel(operation: Operation[Any, Any]) -> Callable[..., Any]:
    facade: Callable[..., Any] = getattr(
        import_module(f"native_c.{operation.family}"), operation.verb
    )
    return facade


def _said(error: BaseException) -> str:
    return str(error) or f"out of memory ({type(error).__name__})"
