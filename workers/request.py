"""Celery's request, mended where one bad job could end a worker, loop, or end in silence."""

import re
from functools import cached_property
from typing import Any, Final

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import states
from celery.concurrency.base import BasePool
from celery.exceptions import Reject, TaskRevokedError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request as CeleryRequest

from contract.errors import ComputeError, GristmillError, InternalError, MessageError
from contract.events import Events
from contract.outages import is_passing
from workers.burial import MAX_LOST, bury, delivery_of, deployment_of
from workers.reading import NOT_DECODED, NotRun, read
from workers.watch import REVOKED_EVENT

logger = get_logger(__name__)

#: Seconds that a job's losses, and the word to stop it, are remembered.
_REMEMBERED_SECONDS: Final = 24 * 3600

#: How billiard names the signal that a process died of.
_SIGNAL: Final = re.compile(r"\((SIG\w+)\)")


class HandedBack(Exception):
    """Raised where a job is about to begin whose message this worker has given away."""


class Request(CeleryRequest):
    """A request whose failures stay its own, and whose body is decoded only where it must be.

    What is embedded in the body (callbacks, chord) is needed there when a worker process was lost.
    """

    #: What `acknowledge` does while the end of the job is being stored: nothing but this note.
    _is_held = _wants_ack = False
    #: Whether the job's process died, so that its return to the queue counts against it.
    _is_loss = False
    #: Whether its task has asked for another run. That is to come after what waits: in front of it,
    #: a few such tasks that wait for a later one would keep it from ever running.
    _is_postponed = False

    @cached_property
    def _payload(self) -> Any:
        if self._decoded:  # protocol 1, which the intake had to read
            return self.body
        try:
            return read(self.body, self.content_type, self.content_encoding)
        except Exception:
            return NOT_DECODED

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        """Note that the job runs: a worker that has to reconnect goes on with it.

        Raises `HandedBack` where it must not, which ends it: in a pool of threads this is called
        by the thread that is about to run it.
        """
        begin = getattr(self.message, "begin", None)  # other transports' messages have none
        if begin is not None and not begin():
            raise HandedBack(f"job {self.id} went back to its queue before it began")
        return super().on_accepted(pid, time_accepted)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """Record a failure; a MemoryError or a killer job must not reach Celery's own handling."""
        if self._already_revoked:
            # Its process ends because we ended it: no failure, and nothing to run again.
            return self._stay_revoked()
        error = _error_of(exc_info)
        if isinstance(error, NotRun):
            # Raised beside the job, so nobody has stored it.
            error, return_ok = error.args[0], False
            exc_info = _info(error)
        kind = _kind_of(error)
        if isinstance(error, MemoryError):
            # Celery re-raises it in the worker's parent process, which ends.
            exc_info = _info(ComputeError(f"{self.name}: out of memory ({error})"))
        elif self._is_lost(error):
            self._is_loss = True
            self._count("worker_lost", signal=_signal_of(error))
            if self._is_given_up() and not self._success_was_stored():
                self._count("poison", reason="lost")
                exc_info = _info(self._given_up(error))
                kind = "poison"
        elif isinstance(error, Reject):
            # Where the worker stops, it is handed back like any other.
            self._is_postponed = not _is_stopping()
        self._end(exc_info, send_failed_event, return_ok, kind)
        return None

    def _end(self, exc_info: Any, send_failed_event: bool, return_ok: bool, kind: str) -> None:
        """Store a failure, then keep the message of a job that none can run, then acknowledge.

        In this order, so that an end of this process in between leaves the message to be delivered
        again. Celery's would acknowledge first, and then nobody would ever store the failure.
        """
        self._is_held = True
        try:
            self._store_end(exc_info, send_failed_event, return_ok)
            if kind:
                bury(self.app, self.message, str(_error_of(exc_info)), kind)
        except Exception:
            logger.exception("job %s: its end waits for the broker, and it comes again", self.id)
            self._is_held = self._is_loss = False
            self.reject(requeue=True)
        self._is_held = False
        if self._wants_ack:
            self.acknowledge()

    def _success_was_stored(self) -> Any:
        """Return the meta of a job that succeeded before its process died, or what is false.

        The process may have died before it told the chord, and the message goes no further.
        """
        meta = super()._success_was_stored()
        if meta:
            self.task.backend.finish(self._context)
        return meta

    def _store_end(self, exc_info: Any, send_failed_event: bool, return_ok: bool) -> None:
        """Let Celery record a failure; raise where the broker may take it later."""
        try:
            super().on_failure(exc_info, send_failed_event, return_ok)
        except Exception as error:
            if is_passing(error) or is_passing(error.__cause__):
                raise
            # Such as an errback that cannot be called, which would fail each time.
            logger.exception("job %s: not all that follows from its failure was done", self.id)
            self.acknowledge()

    def acknowledge(self) -> None:
        """Acknowledge the message, once the job's end is stored."""
        if self._is_held:
            self._wants_ack = True
        else:
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Put the message back to its queue, or make a dead letter of it."""
        if self.acknowledged:
            return
        if not requeue:
            bury(self.app, self.message, "rejected by its task or its settings", "malformed")
        elif self._is_loss:
            self._return("requeue_lost")
        elif self._is_postponed:
            self._return("requeue_behind")
        super().reject(requeue)

    def _return(self, how: str) -> None:
        """Put the message back in a way that our transport has; others know one alone."""
        requeue = getattr(self.message.channel, how, None)
        if requeue is not None and self._delivery is not None:
            try:
                requeue(self._delivery.tag)
            except self._connection_errors as error:
                logger.error("job %s went back as any other (%s): %s", self.id, how, error)

    def send_event(self, kind: str, **fields: Any) -> None:
        """Tell the monitors; that a job is revoked must count for more than its progress."""
        more = REVOKED_EVENT if kind == "task-revoked" else {}
        super().send_event(kind, **{**fields, **more})

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Stop a running job: by a signal to its process or, where it has none, by a word to it."""
        if getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job:
            super().terminate(pool, signal)
        else:  # threads; the job looks for the word between its steps and revokes itself
            key = deployment_of(self.app).cancel_key(self.id)
            self.task.backend.client.set(key, b"1", ex=_REMEMBERED_SECONDS)

    def _stay_revoked(self) -> None:
        """Mend what the dying process wrote after we had marked its job: progress, say."""
        backend = self.task.backend
        if backend.get_state(self.id) not in states.READY_STATES:
            error = TaskRevokedError("terminated")
            backend.store_result(self.id, error, states.REVOKED, request=self._context)

    @cached_property
    def _delivery(self) -> Any:
        return delivery_of(self.message)

    def _count(self, event: str, **labels: str) -> None:
        Events(self.task.backend.client, deployment_of(self.app)).count(event, **labels)

    def _is_lost(self, error: object) -> bool:
        """Tell whether the job's process died by itself, and the job is to run again for that."""
        is_death = isinstance(error, WorkerLostError | SystemExit) and not self._already_cancelled
        runs_again = self.task.acks_late and self.task.reject_on_worker_lost
        return bool(is_death and runs_again and not self.task.retry_on_worker_lost)

    def _is_given_up(self) -> bool:
        """Count a lost process against the job; True once it has cost enough of them."""
        if self._delivery is not None:  # where the message goes back, it is counted with it
            return bool(self._delivery.lost + 1 >= MAX_LOST)
        key = deployment_of(self.app).key("losses", self.id)
        try:
            with self.task.backend.client.pipeline() as pipe:
                losses, _ = pipe.incr(key).expire(key, _REMEMBERED_SECONDS).execute()
        except Exception:
            logger.exception("job %s: its lost worker process could not be counted", self.id)
            return False
        return int(losses) >= MAX_LOST

    def _given_up(self, error: object) -> InternalError:
        how = str(error).partition(": ")[2].partition(" Job:")[0].rstrip(".") or repr(error)
        said = f"its process died {MAX_LOST} times, the last one of {how}"
        return InternalError(f"{self.name}: given up, {said}, expected it to end", "")


def _error_of(exc_info: Any) -> Any:
    return getattr(exc_info.exception, "exc", exc_info.exception)


def _kind_of(error: object) -> str:
    """Return what a dead letter for an error counts as; "" for an error that needs none."""
    if not isinstance(error, MessageError):
        return ""
    return "version" if str(error).startswith("version:") else "malformed"


def _is_stopping() -> bool:
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)  # 0 is an exit status


def _signal_of(error: object) -> str:
    """Return the name of the signal that a process died of; "" where it exited."""
    found = _SIGNAL.search(str(error))
    return found[1] if found else ""


def _info(error: GristmillError) -> Any:
    try:
        raise error from None
    except GristmillError:
        return ExceptionInfo()
