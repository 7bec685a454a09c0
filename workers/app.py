"""The Celery app of the workers: one task for each declared operation, all with the same runner."""

from celery import Celery

from contract.families import operations
from contract.transport import Amqp
from workers import lifecycle
from workers.task import OperationTask

app = Celery("gristmill", amqp=Amqp, task_cls="workers.task:Task", set_as_current=False)
app.config_from_object("celeryconfig")

for _operation in operations().values():
    app.register_task(OperationTask(_operation))

lifecycle.connect()
