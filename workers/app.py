"""The Celery app of the workers: one task for each declared operation, all with the same runner."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import Celery

import contract
from contract.families import operations
from contract.transport import Amqp
from workers import lifecycle, stopping
from workers.task import OperationTask


class App(Celery):
    """A Celery app that another process finds by import.

    Celery would build a bare copy in a child that was spawned, without our tasks.
    """

    def __reduce__(self) -> Any:
        """Pickle as the place where the app is, and what it imported (`-I` on the command line)."""
        return _here, (tuple(self.conf.include),)


def _settings() -> ModuleType:
    """Return our celeryconfig.py, also where the working directory has one of its own."""
    path = Path(contract.__file__).parents[1] / "celeryconfig.py"
    found = spec_from_file_location("celeryconfig", path)
    if found is None or found.loader is None or not path.exists():
        raise ImportError(f"celeryconfig: not found at {path}, expected beside the packages")
    settings = module_from_spec(found)
    found.loader.exec_module(settings)
    return settings


def _here(include: tuple[str, ...]) -> "App":
    app.conf.include = include
    return app


app = App("gristmill", amqp=Amqp, task_cls="workers.task:Task", set_as_current=False)
app.config_from_object(_settings())

for _operation in operations().values():
    app.register_task(OperationTask(_operation))

lifecycle.connect()
stopping.connect()
