"""The workers' settings, as those see them who read them beside Celery."""

from kombu.entity import Queue

import celeryconfig
from contract.families import FAMILIES


def test_monitors_find_a_queue_for_each_family_and_the_default_one() -> None:
    # Flower reads the names of the queues from the settings while no worker answers.
    assert all(type(queue) is Queue for queue in celeryconfig.task_queues)
    names = [queue.name for queue in celeryconfig.task_queues]
    assert names == [*FAMILIES, celeryconfig.task_default_queue]
    assert all(queue.routing_key == queue.exchange.name for queue in celeryconfig.task_queues)
