"""The stock stand's app: Celery's own transport, backend, consumer and request, settings like ours.

Only what a stock Celery lacks is left out. Our operations are plain tasks here, under their names.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from celery import Celery
from celery.app.defaults import SETTING_KEYS

import celeryconfig
import native_c
from contract.deployment import Deployment
from contract.families import operations
from contract.operation import Operation, fields_of

#: Our settings, less those that name a class of ours.
_settings = {
    name: value
    for name, value in vars(celeryconfig).items()
    if name in SETTING_KEYS and not str(value).startswith(("workers.", "contract."))
}

app = Celery("stock", set_as_current=False)
app.conf.update(_settings)
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL") or Deployment.from_environment().url,
    result_backend=Deployment.from_environment().url,
    include=["tests.compat.tasks"],
)


def _plain(operation: Operation[Any, Any]) -> Callable[..., dict[str, Any]]:
    facade = getattr(import_module(f"native_c.{operation.family}"), operation.verb)

    def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        answer = native_c.run(facade(**fields_of(operation.build(*args, **kwargs))))
        made = native_c.made()
        return operation.result(**answer, **made, kernel_seconds=0, queue_seconds=None).to_dict()

    return run


for _operation in operations().values():
    app.task(_plain(_operation), name=_operation.name)

assert "workers" not in sys.modules, "stock Celery with our worker's signals"
