"""Celery's request, mended where one bad job could end a worker or loop for ever."""

from functools import cached_property
from typing import Any, Final

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import states
from celery.concurrency.base import BasePool
from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger
from celery.worker.request import Request as CeleryRequest

from contract.deployment import Deployment
from contract.errors import ComputeError, GristmillError, InternalError, MessageError
from workers.intake import A_TRIPLE, NOT_DECODED

logger = get_logger(__name__)

#: Deliveries after which a job that keeps killing its worker process is given up.
MAX_DELIVERIES: Final = 3

#: What a child raises before a job begins, where its body is no list of three.
_NO_TRIPLE: Final = (ValueError, TypeError, AttributeError)

#: Seconds that a job's losses, and the word to stop it, are remembered.
_REMEMBERED_SECONDS: Final = 24 * 3600


class Request(CeleryRequest):
    """A request whose failures stay its own, and whose body is decoded only where it must be.

    What is embedded in the body (callbacks, chord) is needed there when a worker process was lost.
    """

    @cached_property
    def _payload(self) -> Any:
        if self._decoded:  # protocol 1, which the intake had to read
            return self.body
        self.message._decoded_cache = None  # NOT_DECODED, by the intake
        try:
            args, kwargs, embed = self.message.decode()
            return list(args), dict(kwargs), dict(embed or {})
        except Exception:
            return NOT_DECODED

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """Record a failure; a MemoryError or a killer job must not reach Celery's own handling."""
        if self._already_revoked:
            # Its process ends because we ended it: no failure, and nothing to run again.
            return self._stay_revoked()
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, MemoryError):
            # Celery re-raises it in the worker's parent process, which ends.
            exc_info = _info(ComputeError(f"{self.name}: out of memory ({error})"))
        elif self._is_lost(error) and self._is_given_up():
            said = f"{self.name}: its worker process died {MAX_DELIVERIES} times ({error})"
            exc_info = _info(InternalError(said, ""))
        elif not (return_ok or isinstance(error, GristmillError)) and isinstance(error, _NO_TRIPLE):
            exc_info = _info(MessageError(f"message: {error}, expected {A_TRIPLE}"))
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Stop a running job: by a signal to its process or, where it has none, by a word to it."""
        if getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job:
            super().terminate(pool, signal)
        else:  # threads; the job looks for the word between its steps and revokes itself
            key = self._deployment.cancel_key(self.id)
            self.task.backend.client.set(key, b"1", ex=_REMEMBERED_SECONDS)

    def _stay_revoked(self) -> None:
        """Mend what the dying process wrote after we had marked its job: progress, say."""
        backend = self.task.backend
        if backend.get_state(self.id) not in states.READY_STATES:
            error = TaskRevokedError("terminated")
            backend.store_result(self.id, error, states.REVOKED, request=self._context)

    @property
    def _deployment(self) -> Deployment:
        options = self.app.conf.result_backend_transport_options
        return Deployment(prefix=options.get("global_keyprefix", ""))

    def _is_lost(self, error: object) -> bool:
        """Tell whether the job's process died by itself: one that we ended is no loss."""
        return isinstance(error, WorkerLostError | SystemExit) and not self._already_cancelled

    def _is_given_up(self) -> bool:
        """Count a lost worker process against the job; True once it has cost enough of them."""
        key = self._deployment.key("losses", self.id)
        try:
            with self.task.backend.client.pipeline() as pipe:
                losses, _ = pipe.incr(key).expire(key, _REMEMBERED_SECONDS).execute()
        except Exception:
            logger.exception("job %s: its lost worker process could not be counted", self.id)
            return False
        return int(losses) >= MAX_DELIVERIES


def _info(error: GristmillError) -> Any:
    try:
        raise error
    except GristmillError:
        return ExceptionInfo()
