"""The life of a worker: how many kernel threads each child may use, and the line that says so."""

import logging
import os
import traceback
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.utils.log import get_logger

import native_c
from contract.deployment import PREFIX_VARIABLE, Deployment
from contract.errors import InternalError
from contract.families import operations

logger = get_logger(__name__)

_THREADS_VARIABLE = "NATIVE_C_THREADS"


def connect() -> None:
    """Attach to Celery's signals."""
    signals.celeryd_after_setup.connect(share_cores, weak=False)
    signals.celeryd_after_setup.connect(load_kernels, weak=False)
    signals.celeryd_after_setup.connect(choose_renewal, weak=False)
    signals.worker_ready.connect(tell, weak=False)
    signals.task_internal_error.connect(fail, weak=False)


def share_cores(instance: Any, **_: Any) -> None:
    """Divide the cores among the pool's processes, unless the environment says how many to use.

    The environment, because children inherit it whether they are forked or spawned.
    """
    processes = 1
    if "prefork" in str(getattr(instance.pool_cls, "__module__", instance.pool_cls)):
        largest, _least = getattr(instance, "autoscale", None) or (instance.concurrency, 0)
        processes = max(1, largest or 1)
    os.environ.setdefault(_THREADS_VARIABLE, str(max(1, _num_cores() // processes)))


def choose_renewal(instance: Any, **_: Any) -> None:
    """Renew the lease by a thread where a job blocks the event loop, which else does it.

    Not in the other pools: a worker whose parent process is stuck shall lose its lease.
    """
    if "solo" in str(getattr(instance.pool_cls, "__module__", instance.pool_cls)):
        instance.app.conf.broker_transport_options["renew_in_thread"] = True


def _num_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def load_kernels(**_: Any) -> None:
    """Load the kernels before the pool starts; end the worker where they cannot be as asked for."""
    try:
        native_c.current()
    except native_c.errors.NativeError as error:
        # A worker without kernels would take jobs only to fail them.
        raise SystemExit(f"gristmill: {error}") from None


def fail(sender: Any, task_id: str, request: Any, exception: BaseException, **_: Any) -> None:
    """End a job in whose surroundings Celery failed, its callbacks, say; Celery tells nobody."""
    said = f"{sender.name}: {type(exception).__name__}: {exception}"
    fault = InternalError(said, "".join(traceback.format_exception(exception)))
    sender.backend.mark_as_failure(task_id, fault, request=Context(request))


def tell(**_: Any) -> None:
    """Log what this worker computes with and whom it serves, at Celery's default log level too."""
    made = native_c.info()
    deployment = Deployment.from_environment()
    prefix = os.environ.get(PREFIX_VARIABLE, "")  # as it was given
    logger.log(
        logging.INFO if logger.isEnabledFor(logging.INFO) else logging.WARNING,
        "gristmill: backend %s, simd %s, %s a process, %d operations, broker %s%s%s",
        made["backend"],
        made["simd"],
        f"{made['threads']} kernel thread{'s' * (made['threads'] != 1)}",
        len(operations()),
        deployment.safe_url,
        f", prefix {prefix}" if prefix else "",
        f" ({made['fallback_reason']})" if made["fallback_reason"] else "",
    )
