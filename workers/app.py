"""The Celery app of the workers: one task for each declared operation, all with the same runner."""

from typing import Any

from celery import Celery

from contract.families import operations
from contract.transport import Amqp
from workers import lifecycle
from workers.task import OperationTask


class App(Celery):
    """A Celery app that another process finds by import.

    Celery would build a bare copy in a child that was spawned, without our tasks.
    """

    def __reduce__(self) -> Any:
        """Pickle as the place where the app is."""
        return _here, ()


def _here() -> "App":
    return app


app = App("gristmill", amqp=Amqp, task_cls="workers.task:Task", set_as_current=False)
app.config_from_object("celeryconfig")

for _operation in operations().values():
    app.register_task(OperationTask(_operation))

lifecycle.connect()
