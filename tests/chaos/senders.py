"""How jobs are sent: through our client, and as any app of Celery's sends them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final

from celery import Celery
from celery.canvas import chain
from kombu.exceptions import OperationalError

from contract.arrays import to_json
from contract.deployment import Deployment
from contract.errors import BrokerUnavailable, QueueFull, ResultTimeout
from producers import Client
from producers.process import celery_app
from tests.chaos import stock
from tests.chaos.jobs import Batch, Chain, Single

#: Queue of the suite's own tasks.
QUEUE: Final = "celery"

#: What a submit raises when the broker did not take the job.
REFUSALS: Final = (BrokerUnavailable, QueueFull, OperationalError, OSError)

#: What sends a waiting caller away without the end of its job.
SENT_AWAY: Final = (BrokerUnavailable, ResultTimeout)


class Sender(ABC):
    """Sends what a mix draws to one kind of worker."""

    app: Celery

    def send(self, drawn: Single | Batch | Chain) -> list[str]:
        """Send it and return the ids of all its jobs."""
        match drawn:
            case Single():
                return [self.submit(drawn)]
            case Batch():
                return self.submit_many(drawn)
        links = chain(
            self.app.signature("chaos.series", (drawn.seed, drawn.size), queue=QUEUE),
            self.app.signature("analytics.basic_statistics", queue="analytics"),
            self.app.signature("chaos.mean", queue=QUEUE),
        )
        return list(_ids(links.apply_async()))

    @abstractmethod
    def submit(self, single: Single) -> str:
        """Send one job and return its id."""

    @abstractmethod
    def submit_many(self, batch: Batch) -> list[str]:
        """Send jobs together, where there is a way, and return their ids."""

    def waiter(self, single: Single, job: str) -> Callable[[], object] | None:
        """Return what waits for a job's result; None where callers are not watched."""
        return None


class OurSender(Sender):
    """An app of ours: `producers.Client`."""

    def __init__(self, deployment: Deployment) -> None:
        self.client = Client(deployment.url, prefix=deployment.prefix)
        self.app = celery_app(deployment)

    def close(self) -> None:
        """Give back the connections."""
        self.client.close()
        self.app.close()

    def submit(self, single: Single) -> str:
        return self.client.submit(single.operation, single.operation.build(**single.fields)).id

    def submit_many(self, batch: Batch) -> list[str]:
        requests = [batch.operation.build(**fields) for fields in batch.items]
        return [job.id for job in self.client.submit_many(batch.operation, requests)]

    def waiter(self, single: Single, job: str) -> Callable[[], object] | None:
        return self.client.job(single.operation, job).result


class StockSender(Sender):
    """An app that uses Celery and its Redis transport as they come."""

    def __init__(self, deployment: Deployment) -> None:
        self.app = stock.make_app(deployment.url)

    def submit(self, single: Single) -> str:
        plain = {name: to_json(value) for name, value in single.fields.items()}
        name, queue = single.operation.name, single.operation.family
        return str(self.app.send_task(name, kwargs=plain, queue=queue).id)

    def submit_many(self, batch: Batch) -> list[str]:
        return [self.submit(Single(batch.operation, fields)) for fields in batch.items]


def _ids(result: Any) -> Iterator[str]:
    while result is not None:
        yield result.id
        result = result.parent
