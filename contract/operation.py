"""An operation, declared once: its name on the wire, its request and its result."""

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import (
    Any,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)

import numpy as np
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from contract.arrays import describe, to_json
from contract.errors import InvalidRequest, MessageError
from contract.schema import schema_of

P = ParamSpec("P")
R = TypeVar("R", bound="Result")
R_co = TypeVar("R_co", bound="Result", covariant=True)
T = TypeVar("T")

#: What `Operation.submit` takes beside the request's fields, and no request has for a field.
OPTIONS: Final = ("deadline_seconds", "idempotency_key", "idempotency_seconds")

#: Longest name of an unknown argument that an error repeats as it is, in characters.
_LONGEST_NAME = 80


@dataclass_transform(frozen_default=True)
def request(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a request: frozen, checked at birth, no field unknown.

    A text is no number, however it reads, and neither is True: arrays refuse both as well.
    """
    config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", strict=True)
    return cast(type[T], dataclass(frozen=True, config=config)(cls))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def result(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a result: frozen, checked at birth.

    Unknown fields are dropped, so that an older client reads the results of a newer worker.
    """
    config = ConfigDict(arbitrary_types_allowed=True, extra="ignore")
    return cast(type[T], dataclass(frozen=True, kw_only=True, config=config)(cls))


@result
class Result:
    """What every operation answers beside its own fields: how the answer was made."""

    #: The twin that computed: "compiled" or "fallback".
    backend: str
    #: The instruction set that the kernel used: "portable", "avx2", "avx512", "neon" or "none".
    simd: str
    #: Number of threads that the kernel used.
    threads: int
    #: Time in the kernel facade, in seconds.
    kernel_seconds: float
    #: Time from submission to the start of the job by the broker's clock, in seconds; None where
    #: the message does not tell when it was submitted.
    queue_seconds: float | None
    #: What the caller should know about the answer, in full sentences.
    warnings: tuple[str, ...] = ()

    def to_fields(self) -> dict[str, Any]:
        """Return the fields by name as they are, ready for our codec."""
        return fields_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON: arrays as lists, NaN and infinities as words."""
        return {name: to_json(value) for name, value in fields_of(self).items()}


class Submitter(Protocol):
    """Carries requests to workers; `producers.Client` and `gristmill.testing` are two."""

    def submit(
        self,
        operation: "Operation[Any, R]",
        request: Any,
        *,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        idempotency_seconds: float = ...,
    ) -> "Job[R]":
        """Send a checked request on its way and return its handle."""

    def submit_many(
        self,
        operation: "Operation[Any, R]",
        requests: Sequence[Any],
        *,
        deadline_seconds: float | None = None,
    ) -> "Sequence[Job[R]]":
        """Send checked requests on their way together and return their handles in order."""


class Job(Protocol[R_co]):
    """The handle of one submitted job."""

    @property
    def id(self) -> str:
        """The job's id, the same as its Celery task id."""

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the job's end; return its result or raise its error."""

    def status(self) -> str:
        """Return "queued", "running", "succeeded", "failed" or "cancelled"."""

    def progress(self) -> float:
        """Return the part of the work that is done, in [0, 1]."""

    def remaining_seconds(self) -> float | None:
        """Return the seconds that the work is expected to last still; None where nobody knows."""

    def cancel(self) -> None:
        """Ask for the job's end; a running kernel stops at its next step."""


class AsyncSubmitter(Protocol):
    """Carries requests to workers from an event loop; `producers.AsyncClient` is one."""

    async def submit(
        self,
        operation: "Operation[Any, R]",
        request: Any,
        *,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        idempotency_seconds: float = ...,
    ) -> "AsyncJob[R]":
        """Send a checked request on its way and return its handle."""

    async def submit_many(
        self,
        operation: "Operation[Any, R]",
        requests: Sequence[Any],
        *,
        deadline_seconds: float | None = None,
    ) -> "Sequence[AsyncJob[R]]":
        """Send checked requests on their way together and return their handles in order."""


class AsyncJob(Awaitable[R_co], Protocol[R_co]):
    """The handle of one submitted job in an event loop; awaiting it gives its result."""

    @property
    def id(self) -> str:
        """The job's id, the same as its Celery task id."""

    async def result(self, timeout: float | None = None, *, cancels: bool | None = None) -> R_co:
        """Wait for the job's end; return its result or raise its error."""

    async def status(self) -> str:
        """Return "queued", "running", "succeeded", "failed" or "cancelled"."""

    async def progress(self) -> float:
        """Return the part of the work that is done, in [0, 1]."""

    async def remaining_seconds(self) -> float | None:
        """Return the seconds that the work is expected to last still; None where nobody knows."""

    async def cancel(self) -> None:
        """Ask for the job's end; a running kernel stops at its next step."""


def _no_submitter() -> Any:
    raise RuntimeError(
        "no client: import producers (or gristmill.testing) before calling operations"
    )


class Operation(Generic[P, R]):
    """One operation: everything that travels or is generated about it derives from here."""

    #: Finds the submitter that calls go through; `producers` sets it when imported.
    find_submitter: Callable[[], Submitter] = staticmethod(_no_submitter)
    #: The same for event loops.
    find_async_submitter: Callable[[], AsyncSubmitter] = staticmethod(_no_submitter)

    def __init__(self, name: str, request: Callable[P, Any], result: type[R]) -> None:
        """Declare the operation `<family>.<verb phrase>`."""
        self.name = name
        self.request = request
        self._request: Any = (
            request  # the same, for calls whose arguments are only known at run time
        )
        self.result = result
        self.__doc__ = request.__doc__
        self.__signature__ = _signature(request, result)

    def __repr__(self) -> str:
        """Return a text that names the operation."""
        return f"Operation({self.name!r})"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Submit the request, wait for its result and return it."""
        return self.submit(*args, **kwargs).result()

    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @overload
    def submit(
        self,
        /,
        *args: Any,
        idempotency_key: str,
        idempotency_seconds: float = ...,
        deadline_seconds: float | None = None,
        **kwargs: Any,
    ) -> Job[R]: ...

    @overload
    def submit(self, /, *args: Any, deadline_seconds: float, **kwargs: Any) -> Job[R]: ...

    def submit(self, /, *args: Any, **kwargs: Any) -> Job[R]:
        """Submit the request and return the job's handle at once.

        Beside the request's fields: with `deadline_seconds` a worker that gets the job later than
        that ends it with `DeadlineExceeded`; under an `idempotency_key` the same request is
        submitted once, and submitting it again returns the same job, until `idempotency_seconds`
        after its end (an hour unless told).
        """
        options = _take_options(kwargs)
        request = self.build(*args, **kwargs)
        return Operation.find_submitter().submit(self, request, **options)

    def submit_many(
        self, requests: Iterable[Any], *, deadline_seconds: float | None = None
    ) -> Sequence[Job[R]]:
        """Submit many requests, hundreds to a message, and return their handles in order.

        Each item is a request, a map of its arguments by name, or its first argument alone. It is a
        job like any other, with its own result, error and cancel. All are checked before the first
        is sent: `InvalidRequest` names the item. `deadline_seconds` is as for `submit`, for all.
        """
        built = [self._build_item(index, item) for index, item in enumerate(requests)]
        submitter = Operation.find_submitter()
        return submitter.submit_many(self, built, deadline_seconds=deadline_seconds)

    @overload
    async def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncJob[R]: ...

    @overload
    async def submit_async(
        self,
        /,
        *args: Any,
        idempotency_key: str,
        idempotency_seconds: float = ...,
        deadline_seconds: float | None = None,
        **kwargs: Any,
    ) -> AsyncJob[R]: ...

    @overload
    async def submit_async(
        self, /, *args: Any, deadline_seconds: float, **kwargs: Any
    ) -> AsyncJob[R]: ...

    async def submit_async(self, /, *args: Any, **kwargs: Any) -> AsyncJob[R]:
        """Submit the request from an event loop, with the options of `submit`.

        It goes through the client of the innermost `async with producers.AsyncClient()`.
        """
        options = _take_options(kwargs)
        request = self.build(*args, **kwargs)
        return await Operation.find_async_submitter().submit(self, request, **options)

    async def submit_many_async(
        self, requests: Iterable[Any], *, deadline_seconds: float | None = None
    ) -> Sequence[AsyncJob[R]]:
        """Submit many requests from an event loop; see `submit_many`."""
        built = [self._build_item(index, item) for index, item in enumerate(requests)]
        submitter = Operation.find_async_submitter()
        return await submitter.submit_many(self, built, deadline_seconds=deadline_seconds)

    @property
    def family(self) -> str:
        """The word before the dot: module, queue and task prefix."""
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """The word after the dot: the function's name."""
        return self.name.partition(".")[2]

    def build(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return a checked request, or raise `InvalidRequest` naming the first wrong argument."""
        names = self.request_fields
        if len(args) > len(names):
            was = f"{len(args)} positional arguments"
            raise InvalidRequest(f"{self.verb}: {was}, expected at most {len(names)}")
        for name in names[: len(args)]:
            if name in kwargs:
                raise InvalidRequest(f"{name}: given by position and by name, expected once")
        for name in kwargs:
            if name not in names:
                expected = f"one of {', '.join(names)}"
                said = name if name.isprintable() and len(name) <= _LONGEST_NAME else describe(name)
                raise InvalidRequest(f"{said}: unknown argument, expected {expected}")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        try:
            return self._request(**{name: _plain(value) for name, value in given.items()})
        except ValidationError as error:
            raise InvalidRequest(_explain(error.errors(include_url=False)[0])) from None

    def _build_item(self, index: int, item: Any) -> Any:
        if type(item) is self._request:
            return item
        try:
            return self.build(**item) if isinstance(item, Mapping) else self.build(item)
        except InvalidRequest as error:
            raise InvalidRequest(f"requests[{index}].{error}") from None
        except TypeError:  # a key that is no text
            was = "a map with keys that are no text"
            raise InvalidRequest(f"requests[{index}]: {was}, expected argument names") from None

    def read_result(self, fields: Mapping[str, Any]) -> R:
        """Return the result that arrived as `fields`; `MessageError` when it is none of ours."""
        try:
            return self.result(**fields)
        except (ValidationError, TypeError) as error:
            raise MessageError(f"{self.name}: unreadable result ({error})") from None

    @cached_property
    def request_fields(self) -> tuple[str, ...]:
        """Names of the request's fields in order."""
        return tuple(field.name for field in dataclasses.fields(self._request))

    def json_schema(self) -> dict[str, Any]:
        """Return {"operation", "request", "result"}: the JSON schemas of both sides."""
        return {
            "operation": self.name,
            "request": schema_of(self._request),
            "result": schema_of(self.result),
        }


def _take_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a submit out of its arguments."""
    options: dict[str, Any] = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
    if "idempotency_seconds" in options and "idempotency_key" not in options:
        was = describe(options["idempotency_seconds"])
        raise InvalidRequest(f"idempotency_seconds: {was}, expected beside an idempotency_key")
    return options


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a request or result by name, without copying."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _signature(request: Callable[..., Any], result: type) -> inspect.Signature:
    """Return the request's signature, as `help` and shells show it: without its long types."""
    signature = inspect.signature(request)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=result)


def _plain(value: Any) -> Any:
    """Return the Python number or text that a NumPy scalar stands for; times are no numbers."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, np.generic):
        return value
    return str(value) if value.dtype.kind in "mM" else value.item()


def _explain(error: ErrorDetails) -> str:
    """Say an error in our words: `argument: what it is, expected what it should be`."""
    context = error.get("ctx", {})
    argument = context.get("argument") or ".".join(map(str, error["loc"])) or "request"
    match error["type"]:
        case "refused":
            return f"{argument}: {context['was']}, expected {context['expected']}"
        case "missing" | "missing_argument":
            return f"{argument}: missing, expected a value"
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{argument}: {describe(error['input'])}, expected {message}"
