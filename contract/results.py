"""The result path: Celery's Redis backend, with arrays in results and a reply to who waits."""

import contextlib
import sys
from collections import UserDict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
import redis
from celery import states
from celery._state import get_current_worker_task
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError
from kombu.exceptions import DecodeError
from kombu.log import get_logger
from kombu.serialization import dumps, loads
from kombu.utils.encoding import bytes_to_str

from contract import codec
from contract.arrays import describe, summary, to_json
from contract.batches import item_ids
from contract.connections import Pool
from contract.deployment import Deployment
from contract.envelope import DELIVERY, HEADER, Delivery, Envelope
from contract.errors import (
    ERRORS,
    DeadlineExceeded,
    GristmillError,
    InternalError,
    JobCancelled,
    MessageError,
)
from contract.idempotency import MAX_SECONDS
from contract.operation import Result
from contract.patience import HandBack, insist
from contract.result_store import Entry, Outcome, ResultStore, Script
from contract.transport.publishing import after_the_end, count_sequels, of_failure

logger = get_logger(__name__)

T = TypeVar("T")

#: How Celery's settings name this backend in front of a Redis URL.
SCHEME: Final = "contract.results:Backend"

#: Seconds for which a worker's parent tries to store an end; a job's own process has all the time.
PARENT_SECONDS: Final = 2.0

#: Seconds after which a job without a result, which has ended, is acknowledged for certain.
_ACKNOWLEDGED_SECONDS: Final = 60

#: Gives the right to send a chord's body back. KEYS: the claim. ARGV: the token of whoever has it.
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

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


class End(NamedTuple):
    """How one item of a batch ended."""

    job_id: str
    #: A task's return value, or the exception that it raised.
    result: Any
    state: str
    traceback: str | None = None


class Backend(RedisBackend):
    """Celery's Redis result backend, which stock clients read as ever.

    A result that holds arrays is stored in our codec, any other as JSON. Submitting subscribes to
    nothing: a client waits for all its jobs on one list, where workers tell it of their ends.
    """

    #: A compressed result would hide its state, which stands in its first bytes.
    supports_result_compression = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the backend as Celery does."""
        super().__init__(*args, **kwargs)
        options = self.app.conf.result_backend_transport_options
        self._deployment = Deployment(prefix=options.get("global_keyprefix", ""))
        # A full broker is waited for as one that is away.
        errors: tuple[Any, ...] = self.connection_errors  # type: ignore[has-type]
        self.connection_errors = (*errors, redis.exceptions.OutOfMemoryError)

    def _get_pool(self, **parameters: Any) -> "redis.ConnectionPool":
        return Pool(**parameters)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Subscribe to nothing: `AsyncResult.get` subscribes by itself when somebody waits."""

    def prepare_value(self, result: Any) -> Any:
        """Return a task's return value in the form that is stored."""
        return dict(result) if isinstance(result, Answer) else super().prepare_value(result)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """End a job with its result and, where the end counts, do what follows from it."""
        is_kept = store_result and not getattr(request, "ignore_result", False)
        if not is_kept or self._end(task_id, result, state, None, request):
            mark = super().mark_as_done  # which tells the chord
            self._insist(partial(mark, task_id, result, request, False, state), task_id, state)
        if not is_kept and count_sequels(request):  # an end that is stored forgets them by itself
            key = self._deployment.sent_key(task_id)
            forget = partial(self.client.expire, key, _ACKNOWLEDGED_SECONDS)
            self._insist(forget, task_id, state)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """End a job with an error and, where the end counts, do what follows from it."""
        if not store_result or self._end(task_id, exc, state, traceback, request):
            # Only where a chain's next jobs are to fail too is it stored again, to no effect.
            again = store_result and bool(getattr(request, "chain", None))
            mark = super().mark_as_failure
            follow = partial(mark, task_id, exc, traceback, request, again, call_errbacks, state)
            self._insist(follow, task_id, state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """End a job as cancelled and, where the end counts, do what follows from it.

        The revoke command ends a job that waits before its message is here, so that chord and chain
        are told when it comes: by this again, with the request.
        """
        error = TaskRevokedError(reason)
        if not store_result or self._end(task_id, error, state, None, request):
            follow = partial(self._follow_revoked, task_id, reason, request, state)
            self._insist(follow, task_id, state)
        elif request is not None and self.get_state(task_id) == state:
            self.finish(request)

    def _follow_revoked(self, task_id: str, reason: str, request: Any, state: str) -> None:
        """Tell a cancelled job's chord, and end what follows it in a chain, for it will never run.

        Celery leaves whoever waits for the end of such a chain waiting. Errbacks are for failures.
        """
        super().mark_as_revoked(task_id, reason, request, False, state)
        self._fail_chain(
            getattr(request, "chain", None), TaskRevokedError(reason), None, True, state
        )

    def on_chord_part_return(self, *args: Any, **kwargs: Any) -> Any:
        """Tell a job's chord of its end, and send the body where it was the last."""
        with after_the_end():
            return super().on_chord_part_return(*args, **kwargs)

    def _call_task_errbacks(self, request: Any, *args: Any) -> None:
        with of_failure(request.id), after_the_end():
            super()._call_task_errbacks(request, *args)

    def finish(self, request: Any) -> bool:
        """Do again what follows from a job's end, where it has ended; say whether it has.

        A worker that died between the two left a chord, a chain or errbacks without their word.
        Each of them counts a job once, however often it is told, and errbacks are sent once.
        """
        return self._insist(partial(self._finish, request), request.id, "at its end")

    def _finish(self, request: Any) -> bool:
        meta = self._get_task_meta_for(request.id)
        state, result = meta["status"], meta["result"]
        if state == states.SUCCESS:
            super().mark_as_done(request.id, result, request, store_result=False)
        elif state == states.FAILURE:
            super().mark_as_failure(request.id, result, meta.get("traceback"), request)
        elif state == states.REVOKED:
            self._follow_revoked(request.id, str(result), request, state)
        return state in states.READY_STATES

    def _end(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> bool:
        """Store a job's end; say whether it stands, and not another worker's or an earlier one."""
        encoded = self.encode_result(result, state)
        if state != states.SUCCESS:
            self._end_items(task_id, result, state, traceback, request)
        outcome = self._put(task_id, encoded, state, traceback, request)
        if outcome is not Outcome.STORED:
            logger.info("job %s: its state %s was refused: %s", task_id, state, outcome.name)
        if outcome is Outcome.ENDED and state != states.REVOKED and request is not None:
            self.finish(request)  # it may have been handed back before all was told
        return outcome is Outcome.STORED

    def _store_result(
        self,
        task_id: Any,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        """Store a state where it counts, without a look before."""
        if state != states.RETRY:
            self._put(task_id, result, state, traceback, request)
            return result
        # The job that tries again is on its way already: this state is for those who watch.
        try:
            self._put(task_id, result, state, traceback, request)
        except (redis.RedisError, OSError) as error:
            logger.warning("job %s: its state RETRY was not stored: %s", task_id, error)
        return result

    def store_ends(self, ends: Sequence[End], request: Any) -> None:
        """Store how items of the batch that `request` is of have ended; each first end stands."""
        entries = [
            self._entry(
                end.job_id,
                self.encode_result(end.result, end.state),
                end.state,
                end.traceback,
                request,
            )
            for end in ends
        ]
        self._insist(partial(self._store.store_many, entries), request.id, f"{len(ends)} ends")

    def ended(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of these jobs have ended."""
        metas = self.client.mget([self.get_key_for_task(job_id) for job_id in job_ids])
        return {
            job_id
            for job_id, meta in zip(job_ids, metas, strict=True)
            if read_meta(meta)["status"] in states.READY_STATES
        }

    def _end_items(
        self, batch_id: str, result: Any, state: str, traceback: Any, request: Any
    ) -> None:
        """End with a batch the items that have not ended by themselves: each has a caller."""
        num_items = Envelope.count_items(getattr(request, HEADER, None))
        if num_items:
            ends = [End(item, result, state, traceback) for item in item_ids(batch_id, num_items)]
            self.store_ends(ends, request)

    def _put(self, task_id: Any, result: Any, state: str, traceback: Any, request: Any) -> Outcome:
        entry = self._entry(bytes_to_str(task_id), result, state, traceback, request)
        store = partial(self._store.store, entry)
        return self._insist(store, entry.job_id, state) if state in states.READY_STATES else store()

    def _entry(self, job_id: str, result: Any, state: str, traceback: Any, request: Any) -> Entry:
        meta = self._get_result_meta(result, state, traceback, request)
        # The script reads the state where it stands first.
        meta = {"status": state, **meta, "task_id": job_id}
        envelope = _envelope(request)
        once_key, once_seconds = self._once(request, envelope)
        return Entry(
            job_id=job_id,
            state=state,
            meta=self.encode(meta),
            life_seconds=self.failure_expires if state == states.FAILURE else self.expires,
            delivery=Delivery.from_header(getattr(request, DELIVERY, None)),
            once_key=once_key,
            once_seconds=once_seconds,
            # Nobody has a handle of a batch's own message.
            reply_to="" if envelope.num_items and job_id == request.id else envelope.reply_to,
        )

    def _once(self, request: Any, envelope: Envelope) -> tuple[str, float]:
        """Return the key that the job's idempotency key has, and how long it lives from the end."""
        operation = getattr(request, "task", None)
        if not (envelope.idempotency_key and isinstance(operation, str)):
            return "", 0.0
        key = self._deployment.once_key(operation, envelope.idempotency_key)
        return key, min(envelope.idempotency_seconds, MAX_SECONDS)

    def _insist(self, act: Callable[[], T], job_id: str, state: str) -> T:
        """Do what a job's end needs, as often as the broker must be asked.

        Whoever ran the job holds one result and could do nothing else anyway: it waits, until the
        worker stops and the job goes back to its queue. A worker's parent, which renews leases and
        serves all its children, soon leaves it to the next delivery of the message.
        """
        return insist(
            act,
            f"job {job_id}: its state {state}",
            mend=self._drop_idle,
            most_seconds=PARENT_SECONDS if get_current_worker_task() is None else float("inf"),
        )

    def ensure(self, fun: Callable[..., T], args: Sequence[Any], **policy: Any) -> T:
        """Do what a job needs to store beside results, such as a chord's size; see `_insist`."""
        if get_current_worker_task() is None:
            return cast(T, super().ensure(fun, args, **policy))
        what = "what a job stores beside its result"
        return insist(partial(fun, *args), what, mend=self._drop_idle, is_job_over=False)

    @cached_property
    def _chord_cleanup_script(self) -> Callable[..., Any]:
        """Forget a chord whose body was sent; where that is for the next delivery, let it be.

        Celery's own forgets it whatever became of the body.
        """
        clean = super()._chord_cleanup_script
        release = Script(self.client, _RELEASE)

        def clean_unless_handed_back(keys: list[str], args: list[Any], client: Any) -> Any:
            if not isinstance(sys.exception(), HandBack):
                return clean(keys=keys, args=args, client=client)
            with contextlib.suppress(redis.RedisError, OSError):  # it expires by itself
                release(keys[:1], args[:1])
            return 1

        return clean_unless_handed_back

    def _drop_idle(self) -> None:
        """Drop what is open: it leads to the same broker, which may not be there any more."""
        self.client.connection_pool.disconnect(inuse_connections=False)

    @cached_property
    def _store(self) -> ResultStore:
        return ResultStore(self.client, self._deployment)

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

    def _set(self, key: Any, value: Any, expires: float | None = None) -> None:
        """Store a group and tell who listens, as Celery does with a command that is going."""
        with self.client.pipeline() as pipe:
            pipe.set(key, value, ex=(self.expires if expires is None else expires) or None)
            pipe.publish(key, value)
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
    if name in _LIMITS:
        passed = f"{said} s passed" if said else "passed"
        return DeadlineExceeded(f"{_LIMITS[name]}: {passed}, expected an end before it")
    kind = _FOREIGN.get(name, InternalError)
    details = (str(meta.get("traceback") or ""),) if kind is InternalError else ()
    return kind(f"{name}: {said}", *details)


def _envelope(request: Any) -> Envelope:
    """Return the envelope of a job's message; an empty one where there is none that can be read."""
    try:
        return Envelope.from_header(getattr(request, HEADER, None))
    except MessageError:
        return Envelope()


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
    "TaskRevokedError": ERRORS["job_cancelled"],
}

#: What ended a job that took too long, by Celery's exception; its argument is the limit in seconds.
_LIMITS: Final = {"TimeLimitExceeded": "time_limit", "SoftTimeLimitExceeded": "soft_time_limit"}
