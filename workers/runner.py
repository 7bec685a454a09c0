"""The one runner behind every task: from a message's fields to a typed result or error."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

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
from workers.twins import TWINS, Abandoned, Doubt, Monitor, Twins


class Watch(Monitor, Protocol):
    """What the runner needs of its surroundings; a Celery task's, or a test's own."""

    def now(self) -> float:
        """Return the broker's time, in seconds since 1970."""

    def __call__(self, progress: float) -> None:
        """Raise when the job should not go on, which is looked at between two steps of it.

        `JobCancelled` or `DeadlineExceeded`; `Abandoned` where the job is another worker's now.
        """


#: What an error of the kernels means to the caller. Order matters: the first match counts.
_MEANING: tuple[tuple[type[BaseException], type[GristmillError]], ...] = (
    (native_errors.InvalidArgument, InvalidRequest),
    (native_errors.OutOfMemory, ComputeError),
    (native_errors.Singular, ComputeError),
    (native_errors.NotConverged, ComputeError),
    (MemoryError, ComputeError),
)

#: From this many bytes of arrays on, a job's first look at what it got may take some milliseconds,
#: and much more of them more than the 50 of a step: then a thread of its own costs nothing.
LARGE_BYTES: Final = 2**18

_payloads: Payloads = InlinePayloads()


def run(
    operation: Operation[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    envelope: Envelope,
    watch: Watch,
    doubt: Doubt | None = None,
    twins: Twins = TWINS,
) -> Result:
    """Run one job and return its result; every error that leaves here is a `GristmillError`.

    A `MemoryError` above all must not: Celery's worker answers it by ending its parent process.
    The exception is `Abandoned`, which is the watch's and ends a job without a word. `doubt` says
    why the job must not run on the C kernels, and `twins` remembers which of them fail.
    """
    try:
        return _run(operation, args, kwargs, envelope, watch, doubt, twins)
    except (GristmillError, Abandoned):
        raise
    except Exception as error:
        for kind, meaning in _MEANING:
            if isinstance(error, kind):
                raise meaning(_said(error)) from None
        raise _internal(operation, error) from None


def _run(
    operation: Operation[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    envelope: Envelope,
    watch: Watch,
    doubt: Doubt | None,
    twins: Twins,
) -> Result:
    waited = _waited(envelope, watch)
    request = operation.build(*args, **_payloads.unpack(kwargs, envelope.references))
    fields, kernel = fields_of(request), _kernel(operation)
    is_large = sum(getattr(value, "nbytes", 0) for value in fields.values()) >= LARGE_BYTES

    def look(progress: float) -> None:
        try:
            watch(progress)
        except (GristmillError, Abandoned):
            raise
        except Exception as error:  # no fault of the kernel, which NumPy could do without
            raise _internal(operation, error) from None

    def work(*warnings: str) -> Result:
        look(0.0)  # a large request takes a while to build, and NumPy may be the second to try
        started = time.perf_counter()
        answer, made = native_c.supervise(lambda: kernel(**fields), look, at_once=is_large)
        seconds = time.perf_counter() - started
        told = {"warnings": (*answer.get("warnings", ()), *warnings)} if warnings else {}
        result: Result = operation.result(
            **{**answer, **told}, **made, kernel_seconds=seconds, queue_seconds=waited
        )
        return result

    native_c.current()  # the first look loads the backend, which is not the kernel's time
    return twins.run(operation.name, work, watch, doubt)


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


def _internal(operation: Operation[Any, Any], error: Exception) -> InternalError:
    said = f"{operation.name}: {type(error).__name__}: {error}"
    return InternalError(said, traceback.format_exc())


def _said(error: BaseException) -> str:
    return str(error) or f"out of memory ({type(error).__name__})"
