"""A worker's app on a real server, without a worker process."""

import itertools
from collections.abc import Iterator

import pytest
from celery import Celery

from contract.deployment import Deployment
from contract.families import operation
from contract.results import SCHEME
from contract.transport import Amqp
from gristmill.server import EmbeddedServer
from workers.task import OperationTask

#: So that no test meets what another left.
_numbers = itertools.count()


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[Celery]:
    """Make an app as the workers' own, in a deployment of its own."""
    deployment = Deployment(url=server.url, prefix=f"worker{next(_numbers)}:")
    app = Celery("tests", amqp=Amqp, task_cls="workers.task:Task", set_as_current=False)
    app.config_from_object("celeryconfig")
    app.conf.update(
        broker_url=deployment.broker_url,
        result_backend=f"{SCHEME}+{deployment.backend_url}",
        result_backend_transport_options=deployment.transport_options,
    )
    app.conf.broker_transport_options.update(deployment.transport_options)
    yield app
    app.backend.client.close()
    app.close()


@pytest.fixture
def task(app: Celery) -> OperationTask:
    """Give the task of an operation that needs next to no time."""
    task = app.register_task(OperationTask(operation("mcts.ucb1_selection")))
    assert isinstance(task, OperationTask)
    return task
