"""What is fuzzed: everything that reads what came over the wire, and what it may answer.

A target takes bytes and returns, or raises one of its `ALLOWED` errors; any other error, and any
broken promise, is a finding.
"""

import functools
import json
import math
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np

import native_c
from contract import codec
from contract.envelope import Envelope
from contract.errors import GristmillError, InternalError, JobCancelled
from contract.families import operations
from contract.operation import fields_of
from contract.results import error_from_meta, read_meta
from native_c import extension
from native_c.errors import ExtensionMissing
from tests.determinism import PROMISES, Within, assert_agree
from tests.fuzz import reading
from workers import runner

#: Errors that are answers; `InternalError` is one of them, and means a bug.
ALLOWED: Final = GristmillError

#: Jobs of the fuzzer may take so long; a request can ask for years of work.
JOB_SECONDS: Final = 0.3

OPERATIONS: Final = sorted(operations().items())


class BrokenPromiseError(AssertionError):
    """Raised when an answer is none that is documented."""


def fuzz_codec(data: bytes) -> None:
    """Decode; what is understood is what the page of the wire says, and survives a round trip."""
    expected, reason = _reading_of(data)
    try:
        value = codec.decode(data, codec.CONTROL)
    except ALLOWED as error:
        # A dimension of 2**63 beside one of zero makes no element, and yet no array of NumPy's.
        if not reason and "one that NumPy holds" not in str(error):
            raise BrokenPromiseError(f"{expected!r} is refused: {error}") from None
        return
    if reason or not reading.agrees(expected, value):
        raise BrokenPromiseError(f"{value!r} was understood, not {expected!r} ({reason})")
    if not reading.agrees(expected, codec.decode(codec.encode(value))):
        raise BrokenPromiseError(f"{value!r} does not survive a round trip")


def _reading_of(data: bytes) -> tuple[Any, str]:
    """Return what the page of the wire makes of a message, or why it is none."""
    try:
        return reading.read(data), ""
    except reading.UnreadableError as error:
        return None, str(error) or "unreadable"


def fuzz_envelope(data: bytes) -> None:
    """Read a header; what was understood is what it says, and the same when written and read."""
    header = codec.decode(data, codec.CONTROL)
    envelope = Envelope.from_header(header)
    if Envelope.from_header(envelope.to_header()) != envelope:
        raise BrokenPromiseError(f"{envelope!r} does not survive a round trip")
    times = [header.get("submitted_at"), header.get("deadline")]
    kinds = [type(time) for time in times if time is not None]
    if type(header["version"]) is not int or not set(kinds) <= {int, float}:
        raise BrokenPromiseError(f"{header!r} was understood")
    if [envelope.submitted_at, envelope.deadline] != times or any(
        time is not None and not math.isfinite(time) for time in times
    ):
        raise BrokenPromiseError(f"{header!r} became {envelope!r}")
    references = header.get("references") or {}
    if envelope.references != references or any(
        type(text) is not str for pair in references.items() for text in pair
    ):
        raise BrokenPromiseError(f"{references!r} became {envelope.references!r}")
    envelope.check_deadline(1e9)


def fuzz_request(data: bytes) -> None:
    """Do what a worker's child does with the body of a message: decode, check, compute."""
    if not data:
        return
    _, operation = OPERATIONS[data[0] % len(OPERATIONS)]
    body = codec.decode(data[1:], codec.INLINE)
    if isinstance(body, list) and len(body) == 3:
        args, kwargs, _ = body
        if isinstance(args, list) and isinstance(kwargs, dict):
            _run(operation, args, kwargs)


def fuzz_json(data: bytes) -> None:
    """Do the same with the body of a stock client, in JSON."""
    if not data:
        return
    _, operation = OPERATIONS[data[0] % len(OPERATIONS)]
    try:
        kwargs = json.loads(data[1:])
    except (ValueError, RecursionError):
        return
    if isinstance(kwargs, dict):
        _run(operation, [], kwargs)


def fuzz_result(data: bytes) -> None:
    """Do what a client does with what it finds under its job's key."""
    meta = read_meta(data)
    if not isinstance(meta.get("status"), str):
        raise BrokenPromiseError(f"{meta!r} has no status")
    error = error_from_meta(meta)
    if not isinstance(error, GristmillError):
        raise BrokenPromiseError(f"{error!r} is none of our errors")
    _check_words(meta, error)
    if isinstance(meta["result"], dict) and all(isinstance(key, str) for key in meta["result"]):
        for _, operation in OPERATIONS:
            try:
                operation.read_result(meta["result"])
            except ALLOWED:
                continue


def _check_words(meta: dict[str, Any], error: GristmillError) -> None:
    """Hold that what a failed job said, as one text, reaches its caller whole."""
    stored = meta["result"] if isinstance(meta["result"], dict) else {}
    said = stored.get("exc_message")
    if meta["status"] != "REVOKED" and isinstance(said, str) and said not in str(error):
        raise BrokenPromiseError(f"{said!r} became {str(error)!r}")


class _Limit:
    """Ends a job after JOB_SECONDS, as a cancel would."""

    def __init__(self) -> None:
        self._end = time.monotonic() + JOB_SECONDS

    def now(self) -> float:
        return 1e9

    def __call__(self, progress: float) -> None:
        if not 0 <= progress <= 1:
            raise BrokenPromiseError(f"progress {progress}")
        if time.monotonic() > self._end:
            raise JobCancelled("the fuzzer has seen enough")

    def count_fallback(self, operation: str, reason: str) -> None:
        if reason != "unavailable":  # a kernel failed, and NumPy's answer would hide it
            raise BrokenPromiseError(f"the C kernel of {operation} is not used: {reason}")

    def note_breaker(self, operation: str, state: str, seconds: float) -> None:
        """Take no note: what opens one is a finding."""


def _run(operation: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Run a job on both twins: what one refuses, the other does, and their answers agree."""
    first, *others = (_answer(operation, args, kwargs, backend) for backend in _backends())
    for other in others:
        _compare(operation, args, kwargs, first, other)
    if isinstance(first, GristmillError):
        raise first


@functools.cache
def _backends() -> tuple[str, ...]:
    """Return the twins that there are; without its extension the compiled one is not."""
    try:
        extension.load()
    except ExtensionMissing:
        return ("fallback",)
    return ("compiled", "fallback")


def _answer(operation: Any, args: list[Any], kwargs: dict[str, Any], backend: str) -> Any:
    """Return a job's result, which must be able to travel, or the error that refuses it."""
    try:
        with native_c.use_backend(backend):
            result = runner.run(operation, args, kwargs, Envelope(), _Limit())
    except ALLOWED as error:
        return error
    operation.read_result(codec.decode(codec.encode(result.to_fields())))
    json.dumps(result.to_dict())
    return result


def _compare(
    operation: Any, args: list[Any], kwargs: dict[str, Any], first: Any, other: Any
) -> None:
    if any(isinstance(answer, JobCancelled) for answer in (first, other)):
        return  # one had time enough, the other had not
    if isinstance(first, Exception) or isinstance(other, Exception):
        if (type(first), str(first)) != (type(other), str(other)):
            raise BrokenPromiseError(f"the twins answer {first!r} and {other!r}")
        return
    agreement: dict[str, Within] = {}
    for promise in PROMISES:  # which of an operation's rows a request is of, only the page knows
        if promise.operation == operation.name:
            for field, within in promise.backends.items():
                known = agreement.setdefault(field, within)
                agreement[field] = max(known, within, key=lambda allowed: allowed.absolute)
    request = fields_of(operation.build(*args, **kwargs))
    with np.errstate(all="ignore"):
        assert_agree(fields_of(first), fields_of(other), agreement, request)


def is_finding(error: BaseException) -> bool:
    """Whether what a target raised is none of the answers that it may give."""
    return isinstance(error, InternalError) or not isinstance(error, ALLOWED)


def seeds(target: str) -> list[bytes]:
    """Return good inputs of a target, from which its fuzzing begins."""
    if target == "envelope":
        header = Envelope(submitted_at=1e9, deadline=2e9, references={"values": "a"}).to_header()
        return [codec.encode(header), codec.encode({"version": 1})]
    if target == "codec":
        arrays = [np.eye(2).astype(name) for name in ("f8", "i4", "u1", "?")]
        plain: Any = {"a": [None, True, -5, 2**63, 1.5, "text", b"bytes", [[]], {}]}
        empty = [np.empty((0, 3)), np.empty((2, 0, 5), bool)]
        values: Any = (plain, arrays, empty, np.array(2.0), {"k": arrays[0], "l": {"m": []}})
        return [codec.encode(value) for value in values]
    if target == "result":
        failed = {
            "exc_type": "InvalidRequest",
            "exc_message": ["a"],
            "exc_module": "contract.errors",
        }
        said = failed | {"exc_message": "many words"}
        metas = [{"status": "FAILURE", "result": failed, "traceback": "t"}, {"status": "REVOKED"}]
        metas += [{"status": "FAILURE", "result": said}]
        metas += [{"status": "SUCCESS", "result": fields} for fields in _results()]
        return [codec.encode(meta) for meta in metas] + [json.dumps(metas[0]).encode()]
    requests = [
        (number, arguments) for number in range(len(OPERATIONS)) for arguments in _requests(number)
    ]
    if target == "json":
        return [bytes([number]) + _as_json(arguments) for number, arguments in requests]
    return [bytes([number]) + codec.encode([[], given, {}]) for number, given in requests]


def _requests(number: int) -> list[dict[str, Any]]:
    """Return small requests of an operation, those of the start-up self-test, as arrays."""
    _, operation = OPERATIONS[number]
    cases = import_module(f"native_c.{operation.family}").SELF_TEST
    return [
        {
            name: np.array(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        for facade, given in cases
        if facade.__name__ == operation.verb
    ]


def _results() -> list[dict[str, Any]]:
    found = []
    for number, (_, operation) in enumerate(OPERATIONS):
        for arguments in _requests(number)[:1]:
            result = runner.run(operation, [], arguments, Envelope(), _Limit())
            found.append(result.to_fields())
    return found


def _as_json(arguments: dict[str, Any]) -> bytes:
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    return json.dumps(plain).encode()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "codec": fuzz_codec,
    "envelope": fuzz_envelope,
    "request": fuzz_request,
    "json": fuzz_json,
    "result": fuzz_result,
}
