"""A stand: a worker, a client of it and what a scenario asks of both; stock, or ours."""

import uuid
from dataclasses import dataclass
from typing import Any, Final, cast

import redis
from celery import Celery
from celery.canvas import Signature
from celery.exceptions import TimeoutError as StillWaiting
from celery.result import AsyncResult, GroupResult

from contract.deployment import Deployment
from producers.process import celery_app
from tests.integration.worker import Worker, wait_until

#: Celery's own, ours, and ours with a client that has never heard of us.
STANDS: Final = ("stock", "ours", "ours-by-a-stock-client")

#: What a worker of a stand is started as.
APPS: Final = {
    "stock": ("tests.compat.stock_app",),
    "ours": ("workers", "-I", "tests.compat.tasks"),
}

#: Options and environment of a worker that scales itself and tells no events until it is asked to.
SCALED: Final[tuple[tuple[str, ...], dict[str, Any]]] = (
    ("--autoscale=3,1",),
    {"AUTOSCALE_KEEPALIVE": "1", "CELERY_WORKER_SEND_TASK_EVENTS": "false"},
)

#: Seconds after which a scenario is stuck.
PATIENCE: Final = 20.0


@dataclass(frozen=True)
class Stand:
    """What a scenario is run on. All keys lie under `prefix`, so that stands share a server."""

    name: str
    worker: Worker
    client: Celery
    redis: redis.Redis
    prefix: str

    @property
    def is_ours(self) -> bool:
        return self.name != "stock"

    def task(self, name: str, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a user's task, or of an operation of ours by its full name."""
        full = name if "." in name else f"compat.{name}"
        return self.client.signature(full, args, kwargs)

    def key(self) -> str:
        """Return a name for a list of notes that nobody else has."""
        return f"{self.prefix}notes:{uuid.uuid4()}"

    def notes(self, key: str) -> list[str]:
        return [bytes(word).decode() for word in cast(list[bytes], self.redis.lrange(key, 0, -1))]

    def wait_for_notes(self, key: str, *words: str, seconds: float = PATIENCE) -> None:
        """Wait until exactly these words are noted."""
        wait_until(
            lambda: self.notes(key) == list(words),
            seconds,
            lambda: f"{words}, saw {self.notes(key)}\n{self.worker.log()[-3000:]}",
        )

    def inspect(self, what: str, *args: Any) -> Any:
        """Return what the stand's worker answers."""
        # The limit ends the wait with the one answer there will be.
        replies = getattr(self.client.control.inspect(timeout=10.0, limit=1), what)(*args)
        assert replies, f"inspect {what}: no answer\n{self.worker.log()[-3000:]}"
        (reply,) = replies.values()
        return reply

    def tell(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Give the worker a command and return what it answers."""
        options = {"reply": True, "timeout": 10.0, "limit": 1}
        replies = getattr(self.client.control, command)(*args, **options, **kwargs)
        assert replies, f"control {command}: no answer\n{self.worker.log()[-3000:]}"
        (reply,) = replies[0].values()
        return reply

    def on(self, *, stock: Any, ours: Any, because: str) -> Any:
        """Return what is expected here, where ours differs on purpose; docs/celery.md says why."""
        assert because
        return ours if self.is_ours else stock


def outcome(result: AsyncResult, seconds: float = PATIENCE) -> tuple[str, Any]:
    """Return how a task ended: its state, and its answer or what was raised."""
    try:
        answer = result.get(timeout=seconds, propagate=False)
    except StillWaiting:
        return result.state, "still waiting"
    if isinstance(answer, BaseException):
        return result.state, f"{type(answer).__name__}: {answer}"
    return result.state, answer


def outcomes(group: GroupResult) -> list[tuple[str, Any]]:
    """Return how the members of a group ended, in order."""
    return [outcome(member) for member in group.results]


def client_of(name: str, url: str, prefix: str) -> Celery:
    """Return the client of a stand: stock, or the one below our producers."""
    if name == "ours":
        return celery_app(Deployment(url=url, prefix=prefix))
    client = Celery(broker=url, backend=url, set_as_current=False)
    options = {"global_keyprefix": prefix} if prefix else {}
    client.conf.update(broker_transport_options=options, result_backend_transport_options=options)
    return client


def worker_of(
    name: str, url: str, log: Any, *options: str, prefix: str, **variables: str
) -> Worker:
    """Return the worker of a stand, not yet started."""
    app, *include = APPS[name.partition("-")[0]]
    return Worker(url, log, *include, *options, prefix=prefix, app=app, **variables)
