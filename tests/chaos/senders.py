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
from contract.operation import Operation
from producers import Client
from producers.process import celery_app
from tests.chaos import stock

#: Queue of the suite's own tasks.
QUEUE: Final = "celery"

#: What a submit raises when the broker did not take the job.
REFUSALS: Final = (BrokerUnavailable, QueueFull, OperationalError, OSError)

#: What sends a waiting caller away without the end of its job.
SENT_AWAY: Final = (BrokerUnavailable, ResultTimeout)


class Sender(ABC):
    """Sends jobs to one kind of worker."""

    app: Celery

    @abstractmethod
    def submit(self, operation: Operation[Any, Any], fields: dict[str, Any]) -> str:
        """Send one job and return its id."""

    def chain(self, seed: int, size: int) -> list[str]:
        """Send a chain of three and return the ids of its links."""
        links = chain(
            self.app.signature("chaos.series", (seed, size), queue=QUEUE),
            self.app.signature("analytics.basic_statistics", queue="analytics"),
            self.app.signature("chaos.mean", queue=QUEUE),
        )
        return list(_ids(links.apply_async()))

    def waiter(self, operation: Operation[Any, Any], job: str) -> Callable[[], object] | None:
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

    def submit(self, operation: Operation[Any, Any], fields: dict[str, Any]) -> str:
        return self.client.submit(operation, operation.build(**fields)).id

    def waiter(self, operation: Operation[Any, Any], job: str) -> Callable[[], object] | None:
        return self.client.job(operation, job).result


class StockSender(Sender):
    """An app that uses Celery and its Redis transport as they come."""

    def __init__(self, deployment: Deployment) -> None:
        self.app = stock.make_app(deployment.url)

    def submit(self, operation: Operation[Any, Any], fields: dict[str, Any]) -> str:
        plain = {name: to_json(value) for name, value in fields.items()}
        sent = self.app.send_task(
            operation.name, kwargs=plain, queue=operation.family, ignore_result=False
        )
        return str(sent.id)


def _ids(result: Any) -> Iterator[str]:
    while result is not None:
        yield result.id
        result = result.parent
