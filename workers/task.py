"""The Celery tasks: a thin shell around the runner, the same for every operation."""

import contextlib
from typing import Any, Final

import celery
from celery.exceptions import Ignore
from celery.utils.log import get_logger

from contract import codec
from contract.batches import items_of
from contract.envelope import DELIVERY, HEADER, Delivery, Envelope
from contract.errors import GristmillError, JobCancelled, TransientError
from contract.operation import Operation
from contract.results import Answer
from workers.batch import run_batch
from workers.runner import run
from workers.twins import Abandoned, Doubt
from workers.watch import REVOKED_EVENT, Watch

logger = get_logger(__name__)

#: Processes that a job may cost before it is kept from the C kernels: one is proof enough. And
#: workers: a host that goes down takes innocent jobs with it, but hardly the same one so often.
LOST: Final = 1
RETURNED: Final = 3


class Task(celery.Task):
    """The base of every task in these workers, a user's own included."""

    Request = "workers.request:Request"
    Strategy = "workers.intake:strategy"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Leave a job alone that ended in an earlier delivery, but for what that left untold."""
        if _is_redelivered(self.request) and self.backend.finish(self.request):
            raise Ignore(f"job {task_id}: ended in an earlier delivery")


class OperationTask(Task):
    """Runs one operation; its arguments are the request's fields, by name or by position."""

    abstract = True
    throws = (GristmillError,)  # an answer to the caller, not a fault to fill the log with
    typing = False  # the request checks its fields, and names them better
    serializer = codec.SERIALIZER  # for retries, which send the arrays again
    autoretry_for = (TransientError,)
    retry_backoff = True
    retry_backoff_max = 60
    retry_jitter = True
    max_retries = 3
    #: Its time limits are looked at between its steps (limits.py).
    keeps_time = True

    def __init__(self, operation: Operation[Any, Any]) -> None:
        """Make the task of an operation, under the operation's name."""
        self.operation = operation
        self.name = operation.name
        self.__doc__ = operation.__doc__

    def run(self, /, *args: Any, **kwargs: Any) -> Answer:
        """Run the operation and return its result's fields, JSON-ready where the job is JSON."""
        header = self.request.get(HEADER)
        watch = Watch(self)
        try:
            envelope = Envelope() if header is None else Envelope.from_header(header)
            watch.deadline = envelope.deadline
            with contextlib.suppress(TransientError):  # a look that cannot be had stops no job
                watch.check()
            doubt = _doubt(watch.delivery)
            if envelope.num_items:
                items = items_of(args, kwargs, envelope.num_items)
                return run_batch(self, items, envelope, watch, doubt)
            result = run(self.operation, args, kwargs, envelope, watch, doubt)
        except JobCancelled as cancelled:
            self._revoke(str(cancelled))
            raise Ignore from None
        except Abandoned as abandoned:
            logger.warning("%s: ended without a result, which is another worker's", abandoned)
            raise Ignore from None
        return Answer(result.to_dict() if header is None else result.to_fields())

    def _revoke(self, reason: str) -> None:
        self.backend.mark_as_revoked(self.request.id, reason, request=self.request)
        fields = {"terminated": True, "signum": None, "expired": False, **REVOKED_EVENT}
        self.send_event("task-revoked", **fields)


def _is_redelivered(request: Any) -> bool:
    delivery = Delivery.from_header(request.get(DELIVERY))
    if delivery is not None and delivery.lost + delivery.returned:
        return True
    return bool((request.delivery_info or {}).get("redelivered"))


def _doubt(delivery: Delivery | None) -> Doubt | None:
    """Return why a job that may have killed who ran it before is to run on NumPy."""
    if delivery is None:
        return None
    if delivery.lost >= LOST:
        was = f"A process died while it ran this job (times: {delivery.lost})"
        return Doubt("lost", f"{was}: this answer is NumPy's.")
    if delivery.returned >= RETURNED:
        was = f"Workers were lost while they held this job (times: {delivery.returned})"
        return Doubt("returned", f"{was}: this answer is NumPy's.")
    return None
