"""The result path: Celery's Redis backend, with arrays in results and a wake-up for each waiter."""

from collections import UserDict
from functools import partial
from typing import Any, Final

import numpy as np
import redis
from celery import states
from celery.backends.redis import RedisBackend
from kombu.exceptions import DecodeError
from kombu.serialization import dumps, loads
from kombu.utils.encoding import bytes_to_str

from contract import codec
from contract.arrays import describe, summary, to_json
from contract.deployment import Deployment
from contract.errors import ERRORS, GristmillError, InternalError, JobCancelled, MessageError
from contract.operation import Result

#: How Celery's settings name this backend in front of a Redis URL.
SCHEME: Final = "contract.results:Backend"

#: Seconds that a wake-up waits for a waiter; a waiter that comes later finds the result itself.
WAKE_SECONDS: Final = 60

#: States without which somebody waits in vain; progress that is not told is told again.
_NEEDED: Final = states.READY_STATES | {states.RETRY}

#: Fields that every result has.
_MADE: Final = tuple(Result.__dataclass_fields__)

_JSON_STARTS = (b"{", b"[")


class Answer(UserDict[str, Any]):
    """The fields of a result as a task returns them.

    Not a dict, so that Celery's logs and events show its line and not its arrays. It turns into
    lists where JSON carries it, to the next task of a chain for example.
    """

    def __repr__(self) -> str:
        """Return types, shapes and sizes, for operators: the answer, then how it was made."""
        made = {name: self[name] for name in _MADE if name in self}
        return f"({summary({**{k: v for k, v in self.items() if k not in made}, **made})})"

    def __json__(self) -> dict[str, Any]:
        """Return the form that kombu's JSON carries."""
        return {name: to_json(value) for name, value in self.items()}


class Backend(RedisBackend):
    """Celery's Redis result backend, which stock clients read as ever.

    A result that holds arrays is stored in our codec, any other as JSON. Submitting subscribes to
    nothing: whoever waits looks for the result and then sleeps on a list that the worker fills.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the backend as Celery does."""
        super().__init__(*args, **kwargs)
        options = self.app.conf.result_backend_transport_options
        self._deployment = Deployment(prefix=options.get("global_keyprefix", ""))
        # A full broker is waited for as one that is away.
        errors: tuple[Any, ...] = self.connection_errors  # type: ignore[has-type]
        self.connection_errors = (*errors, redis.exceptions.OutOfMemoryError)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Subscribe to nothing: `AsyncResult.get` subscribes by itself when somebody waits."""

    def prepare_value(self, result: Any) -> Any:
        """Return a task's return value in the form that is stored."""
        return dict(result) if isinstance(result, Answer) else super().prepare_value(result)

    def _encode(self, data: Any) -> tuple[str, str, Any]:
        """Encode by what `data` holds, so that a JSON job's result is JSON for any client."""
        serializer = codec.SERIALIZER if _holds_arrays(data) else "json"
        encoded: tuple[str, str, Any] = dumps(data, serializer=serializer)
        if len(encoded[2]) > codec.INLINE.max_bytes:  # said by the codec of its own form
            was, limit = f"{len(encoded[2])} bytes of JSON", codec.INLINE.max_bytes
            raise codec.EncodeError(f"result: {was}, expected at most {limit}")
        return encoded

    def decode(self, payload: Any) -> Any:
        """Decode what `_encode` made."""
        return None if payload is None else _decode(payload)

    def _store_result(
        self, task_id: Any, result: Any, state: str, *details: Any, **options: Any
    ) -> Any:
        """Store a state; a needed one for some 20 s where the broker is away or full.

        Celery tries again to write, but not to look first whether the job has succeeded already.
        """
        store = partial(super()._store_result, task_id, result, state, *details, **options)
        return self.ensure(store, ()) if state in _NEEDED else store()

    def _set_with_state(self, key: Any, value: Any, state: str) -> None:
        """Store a task's meta, tell who listens and, at its end, wake who waits for it."""
        # All or nothing in one round trip: a result without its wake-up would be found late.
        lifetime = self.failure_expires if state == states.FAILURE else None
        with self.client.pipeline() as pipe:
            pipe.set(key, value, ex=(self.expires if lifetime is None else lifetime) or None)
            pipe.publish(key, value)
            if state in states.READY_STATES:
                wake = self._deployment.wake_key(self._strip_prefix(bytes_to_str(key)))
                pipe.lpush(wake, b"1")
                pipe.expire(wake, WAKE_SECONDS)
            pipe.execute()


def read_meta(payload: bytes | str | None) -> dict[str, Any]:
    """Return the meta that a result's key holds; its status is PENDING where there is none.

    Raises `MessageError` for what is no meta: a result is input like any other.
    """
    if payload is None:
        return {"status": states.PENDING, "result": None}
    try:
        meta = _decode(payload)
    except DecodeError as error:
        raise MessageError(f"result: undecodable ({error}), expected JSON or msgpack") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
        raise MessageError(f"result: {describe(meta)}, expected a map with a status")
    return {"result": None, **meta}


def error_from_meta(meta: dict[str, Any]) -> GristmillError:
    """Return the error that a failed job's raw meta tells of.

    A foreign exception is an `InternalError`, and its class is never imported: a result is input
    like any other.
    """
    if meta.get("status") == states.REVOKED:
        return JobCancelled(f"job {meta.get('task_id', '')}: cancelled")
    stored = meta.get("result")
    if not isinstance(stored, dict):
        return InternalError(f"job failed: {stored!r}", str(meta.get("traceback") or ""))
    name, arguments = str(stored.get("exc_type", "")), stored.get("exc_message") or ()
    arguments = arguments if isinstance(arguments, list | tuple) else (arguments,)
    if stored.get("exc_module") == "contract.errors" and name in _OURS:
        return _OURS[name](*arguments)
    said = ", ".join(map(str, arguments))
    kind = _FOREIGN.get(name, InternalError)
    details = (str(meta.get("traceback") or ""),) if kind is InternalError else ()
    return kind(f"{name}: {said}", *details)


def _decode(payload: bytes | str) -> Any:
    # The first byte tells JSON from msgpack, where both of these are small numbers.
    if isinstance(payload, str) or payload[:1] in _JSON_STARTS:
        return loads(payload, content_type="application/json", content_encoding="utf-8")
    return codec.decode(payload)


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_arrays, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_arrays, value))
    return isinstance(value, np.ndarray | np.generic | bytes)


_OURS = {error.__name__: error for error in ERRORS.values()}

#: What Celery's and kombu's own exceptions mean to a caller; any other is our bug or a user's task.
_FOREIGN: Final[dict[str, type[GristmillError]]] = {
    "DecodeError": ERRORS["message_error"],
    "EncodeError": ERRORS["message_error"],
    "ContentDisallowed": ERRORS["message_error"],
    "NotRegistered": ERRORS["message_error"],
    "InvalidTaskError": ERRORS["message_error"],
    "TimeLimitExceeded": ERRORS["deadline_exceeded"],
    "SoftTimeLimitExceeded": ERRORS["deadline_exceeded"],
    "TaskRevokedError": ERRORS["job_cancelled"],
}
