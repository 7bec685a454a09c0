"""What is fuzzed: everything that reads what came over the wire, and what it may answer.

A target takes bytes and returns, or raises one of its `ALLOWED` errors; any other error, and any
broken promise, is a finding.
"""

import json
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np

from contract import codec
from contract.envelope import Envelope
from contract.errors import GristmillError, InternalError, JobCancelled
from contract.families import operations
from contract.results import error_from_meta, read_meta
from tests.determinism import bits_of
from workers import runner

#: Errors that are answers; `InternalError` is one of them, and means a bug.
ALLOWED: Final = GristmillError

#: Jobs of the fuzzer may take so long; a request can ask for years of work.
JOB_SECONDS: Final = 0.3

OPERATIONS: Final = sorted(operations().items())


class BrokenPromiseError(AssertionError):
    """Raised when an answer is none that is documented."""


def fuzz_codec(data: bytes) -> None:
    """Decode; what was understood must survive a round trip, bit for bit."""
    value = codec.decode(data, codec.CONTROL)
    again = codec.decode(codec.encode(value))
    if not _same(value, again):
        raise BrokenPromiseError(f"{value!r} came back as {again!r}")


def fuzz_envelope(data: bytes) -> None:
    """Read a header; what was understood must be the same when it is written and read again."""
    envelope = Envelope.from_header(codec.decode(data, codec.CONTROL))
    again = Envelope.from_header(envelope.to_header())
    if again != envelope:
        raise BrokenPromiseError(f"{envelope!r} came back as {again!r}")
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
    error = error_from_meta(meta)
    if not isinstance(error, GristmillError):
        raise BrokenPromiseError(f"{error!r} is none of our errors")
    if isinstance(meta["result"], dict) and all(isinstance(key, str) for key in meta["result"]):
        for _, operation in OPERATIONS:
            try:
                operation.read_result(meta["result"])
            except ALLOWED:
                continue


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


def _run(operation: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    result = runner.run(operation, args, kwargs, Envelope(), _Limit())
    operation.read_result(codec.decode(codec.encode(result.to_fields())))
    json.dumps(result.to_dict())


def _same(left: Any, right: Any) -> bool:
    """Whether two decoded values are the same; arrays, floats and their NaN by their bits."""
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and list(left) == list(right)
            and all(_same(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, np.ndarray | float):
        return type(left) is type(right) and bits_of(left) == bits_of(right)
    return type(left) is type(right) and bool(left == right)


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
        return [codec.encode(value) for value in (plain, arrays, np.array(2.0), {"k": arrays[0]})]
    if target == "result":
        failed = {
            "exc_type": "InvalidRequest",
            "exc_message": ["a"],
            "exc_module": "contract.errors",
        }
        metas = [{"status": "FAILURE", "result": failed, "traceback": "t"}, {"status": "REVOKED"}]
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
