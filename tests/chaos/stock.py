"""The peer: the same jobs as plain Celery tasks on Celery's own Redis transport.

Its settings are those that Celery's documentation gives for tasks that must not get lost.
`celery -A tests.chaos.stock worker`. They are not shared: no other app of the process knows them.
"""

from importlib import import_module
from typing import Any, Final

import numpy as np
from celery import Celery

import native_c
from contract.arrays import to_json
from contract.deployment import Deployment
from contract.families import FAMILIES, operations
from contract.operation import Operation, fields_of

#: What a reader should know of its configuration. The visibility timeout is far below the default
#: of an hour, and the sweep far more frequent: a fair chance to be quick.
SETTINGS: Final[dict[str, Any]] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 2,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        "visibility_timeout": 10,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}


def make_app(url: str) -> Celery:
    """Return a Celery app as its tutorial makes one."""
    made = Celery("stock", broker=url, backend=url, set_as_current=False)
    made.conf.update(SETTINGS)
    return made


def queues() -> str:
    """Return the queues that a worker serves, for its command line."""
    return ",".join((*FAMILIES, "celery"))


app = make_app(Deployment.from_environment().url)


def _register(operation: Operation[Any, Any]) -> None:
    facade = getattr(import_module(f"native_c.{operation.family}"), operation.verb)

    @app.task(name=operation.name, shared=False)
    def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        answer = native_c.run(facade(**fields_of(operation.build(*args, **kwargs))))
        return {name: to_json(value) for name, value in answer.items()}


for _operation in operations().values():
    _register(_operation)


@app.task(name="chaos.series", shared=False)
def series(seed: int, size: int) -> list[float]:
    """Return numbers for the next task of a chain."""
    return np.random.default_rng(seed).normal(size=size).tolist()


@app.task(name="chaos.mean", shared=False)
def mean(statistics: dict[str, Any]) -> float:
    """Take what an operation returned, as the last task of a chain."""
    return float(statistics["mean"])
