"""Publishing from within a job: it waits for its broker, and sends once what follows the job.

A user's task, a retry or the body of a chord that finds the broker full or away waits for it, as
the storing of a result does. What Celery sends once a task has returned, its callbacks and the next
link of its chain, and its errbacks once it has failed, it would send again with the next delivery
of a job that did not get to its end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final

import redis
from celery._state import get_current_worker_task
from kombu.log import get_logger

from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery
from contract.outages import is_passing
from contract.patience import insist
from contract.result_store import HAS_ENDED, Script

logger = get_logger(__name__)

#: Seconds for which it is known what a job has sent of its success, and of its failure: one that
#: was lost in between comes again within seconds. Storing an end forgets what was sent before.
_SUCCESS_SECONDS: Final = 24 * 3600
_FAILURE_SECONDS: Final = 3600

#: Options of a call that ask for Celery's own way to publish, with its own errors.
_OWN_WAY: Final = ("retry", "retry_policy")

#: KEYS: queue, what the job has sent, its result, its inbox. ARGV: the entry; its field of what is
#: sent; for how many seconds that is kept; 1 where it follows from the job's success; the job's
#: field of the inbox, "" for none.
#:
#: Nothing follows from a success whose worker's lease has ended, or whose job has ended before.
_SEND_ONCE: Final = (
    "#!lua\n"
    + HAS_ENDED
    + """
local queue, sent, result, inbox = unpack(KEYS)
if ARGV[4] == '1' then
  if ARGV[5] ~= '' and redis.call('HEXISTS', inbox, ARGV[5]) == 0 then return 'fenced' end
  if has_ended(result) then return 'ended' end
end
if redis.call('HEXISTS', sent, ARGV[2]) == 1 then return 'sent' end
redis.call('LPUSH', queue, ARGV[1])
redis.call('HSET', sent, ARGV[2], '1')
redis.call('EXPIRE', sent, ARGV[3])
return 'put'
"""
)


@dataclass(frozen=True)
class Sequel:
    """A message that follows from the end of a job, by its number among those: it is sent once."""

    job_id: str
    number: str
    #: Whether it follows from the job's success, which is stored after it; failures are before.
    is_of_success: bool = True
    #: Where Redis keeps the job's message; None where nobody could lose it.
    delivery: Delivery | None = None

    def put(
        self, client: "redis.Redis", deployment: Deployment, queue_key: str, entry: str
    ) -> None:
        """Put an entry into a queue, unless this was done before or is another worker's to do."""
        tag, inbox = (self.delivery.tag, self.delivery.inbox) if self.delivery else ("", queue_key)
        keys = [
            queue_key,
            deployment.sent_key(self.job_id),
            deployment.result_key(self.job_id),
            inbox,
        ]
        field = f"{self.number} {queue_key}"
        life = _SUCCESS_SECONDS if self.is_of_success else _FAILURE_SECONDS
        answer: bytes = Script(client, _SEND_ONCE)(
            keys, [entry, field, life, int(self.is_of_success), tag]
        )
        if answer != b"put":
            said = "job %s: what follows from it was not sent again: %s"
            logger.info(said, self.job_id, answer.decode())


def sequel() -> Sequel | None:
    """Return what is being sent, where it follows from the end of a job."""
    return _sequel.get()


@contextmanager
def of_success() -> Iterator[None]:
    """Send what is sent in this block as what follows from the success of the current job."""
    task: Any = get_current_worker_task()
    if task is None or _is_over.get():
        yield
        return
    token, over = _next.set(partial(_of_success, task)), _is_over.set(True)
    try:
        yield
    finally:
        _is_over.reset(over)
        _next.reset(token)


@contextmanager
def of_failure(job_id: str) -> Iterator[None]:
    """Send what is sent in this block as what follows from the failure of a job."""
    numbers = count()
    token = _next.set(lambda: Sequel(job_id, f"failure.{next(numbers)}", is_of_success=False))
    try:
        yield
    finally:
        _next.reset(token)


@contextmanager
def after_the_end() -> Iterator[None]:
    """Send what is sent in this block, such as a chord's body, by itself."""
    token = _is_over.set(True)
    try:
        yield
    finally:
        _is_over.reset(token)


def count_sequels(request: Any) -> int:
    """Return how many messages were sent as what follows from the success of a request's job."""
    return getattr(request, "gristmill_sequels", 0)


def _of_success(task: Any) -> Sequel:
    request = task.request
    number = count_sequels(request)
    request.gristmill_sequels = number + 1
    delivery = Delivery.from_header(request.get(DELIVERY)) if task.acks_late else None
    return Sequel(request.id, f"{request.retries}.{number}", delivery=delivery)


class PatientProducer:
    """A kombu producer whose `publish` waits for its broker."""

    def __init__(self, producer: Any, name: str) -> None:
        """Publish through `producer`; `name` stands in the log."""
        self._producer = producer
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, *args: Any, **options: Any) -> Any:
        """Publish as often as it takes, until the worker stops."""
        publish = partial(self._publish, *args, **{**options, "retry": False})
        return insist(publish, self._name, is_job_over=_is_over.get())

    def _publish(self, *args: Any, **options: Any) -> Any:
        connection = self._producer.connection
        # One round over all brokers: without a bound kombu would go on connecting for ever.
        connection.ensure_connection(max_retries=max(1, len(connection.alt)), interval_start=0)
        try:
            return self._producer.publish(*args, **options)
        except redis.exceptions.OutOfMemoryError:
            raise
        except Exception as error:
            if is_passing(error):
                connection.collect()
                connection.maybe_switch_next()
                self._producer.revive(connection)
            raise


def patiently(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return Celery's sender of task messages, patient where it is called within a job."""

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        task, following = get_current_worker_task(), _next.get()
        token = _sequel.set(following() if following else None)
        try:
            if task is None or any(options.get(option) is not None for option in _OWN_WAY):
                return send(producer, name, message, **options)
            patient = PatientProducer(producer, f"job {task.request.id}: its message to {name}")
            return send(patient, name, message, **{**options, "retry": False})
        finally:
            _sequel.reset(token)

    return send_task_message


#: What is being sent, where it follows from a job's end, and what makes the next of these.
_sequel: ContextVar[Sequel | None] = ContextVar("gristmill_sequel", default=None)
_next: ContextVar[Callable[[], Sequel] | None] = ContextVar("gristmill_sequels", default=None)

#: Whether the job that sends something is over but for that.
_is_over: ContextVar[bool] = ContextVar("gristmill_is_over", default=False)
