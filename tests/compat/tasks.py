"""Tasks of a user's own, the same on both stands, written as a user's package would write them."""

import time
from typing import Any

from celery import Task, chord, group, shared_task, signature
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded


@shared_task(name="compat.add")
def add(left: float, right: float) -> float:
    return left + right


@shared_task(name="compat.total")
def total(numbers: list[float]) -> float:
    return sum(numbers)


@shared_task(name="compat.mean_of")
def mean_of(result: dict[str, Any]) -> float:
    """Take what an operation answers, as the next task of a chain."""
    return result["mean"]


@shared_task(name="compat.say")
def say(*words: Any) -> list[Any]:
    """Return the arguments, to see what arrives."""
    return list(words)


@shared_task(name="compat.fail")
def fail(message: str = "no luck") -> None:
    raise ValueError(message)


@shared_task(name="compat.note", bind=True)
def note(self: Task, key: str, word: Any) -> Any:
    """Add a word to a list in Redis, so that a test sees what ran and in which order."""
    self.backend.client.rpush(key, word)
    return word


@shared_task(name="compat.note_last", bind=True)
def note_last(self: Task, word: Any, key: str) -> Any:
    """Do the same with what the task before it answered."""
    self.backend.client.rpush(key, word)
    return word


@shared_task(name="compat.note_error")
def note_error(request: Any, error: BaseException, traceback: Any, key: str) -> None:
    """Note which task failed and how: an errback of three arguments runs where the task failed."""
    note_error.backend.client.rpush(key, f"{request.task}: {type(error).__name__}: {error}")


@shared_task(name="compat.note_id", bind=True)
def note_id(self: Task, task_id: str, key: str) -> None:
    """Note the id of the task that failed: an errback of one argument is a task of its own."""
    self.backend.client.rpush(key, task_id)


@shared_task(name="compat.slow", bind=True)
def slow(self: Task, seconds: float, key: str) -> str:
    """Sleep in short pieces, as a task that lasts, and note its start and its end."""
    self.backend.client.rpush(key, "begun")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
    self.backend.client.rpush(key, "ended")
    return "slept"


@shared_task(name="compat.patient", bind=True)
def patient(self: Task, seconds: float, key: str) -> str:
    """Sleep until a soft limit wakes it, and clean up."""
    self.backend.client.rpush(key, "begun")
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "slept"


@shared_task(name="compat.silent", ignore_result=True, bind=True)
def silent(self: Task, key: str) -> str:
    self.backend.client.rpush(key, "ran")
    return "unheard"


@shared_task(
    name="compat.flaky",
    bind=True,
    autoretry_for=(ConnectionError,),
    max_retries=3,
    default_retry_delay=0.05,
)
def flaky(self: Task, key: str, failures: int) -> int:
    """Fail the first times, and return how many retries it took."""
    if self.backend.client.rpush(key, self.request.retries) <= failures:
        raise ConnectionError("not yet")
    return self.request.retries


@shared_task(name="compat.again", bind=True, max_retries=2)
def again(self: Task, key: str, delay: float, reason: str | None) -> None:
    """Ask to be run again for ever, for a reason or for none."""
    self.backend.client.rpush(key, self.request.retries)
    raise self.retry(countdown=delay, exc=ValueError(reason) if reason else None)


@shared_task(name="compat.refuse", bind=True)
def refuse(self: Task, key: str, requeue: bool) -> str:
    """Reject its message; with `requeue`, the first time only."""
    if self.backend.client.rpush(key, "seen") > 1:
        return "accepted"
    raise Reject("not for me", requeue=requeue)


@shared_task(name="compat.ignored", bind=True)
def ignored(self: Task, state: str) -> None:
    """Say its own state and end without another."""
    self.update_state(state=state, meta={"by": "itself"})
    raise Ignore


@shared_task(name="compat.tell", bind=True)
def tell(self: Task, steps: int, pause: float) -> str:
    """Report progress of its own."""
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"step": step, "of": steps})
        time.sleep(pause)
    return "told"


@shared_task(name="compat.who", bind=True)
def who(self: Task, *_: Any) -> dict[str, Any]:
    """Return what a task can know of itself and of how it came."""
    request = self.request
    return {
        "id": request.id,
        "root": request.root_id,
        "parent": request.parent_id,
        "group": request.group,
        "retries": request.retries,
        "priority": request.delivery_info.get("priority"),
        "routing_key": request.delivery_info.get("routing_key"),
        "redelivered": request.delivery_info.get("redelivered"),
        "is_eager": request.is_eager,
        "called_directly": request.called_directly,
        "timelimit": list(request.timelimit or (None, None)),
        "reply_to": bool(request.reply_to),
        "correlation_id": request.correlation_id,
        "own": (request.headers or {}).get("own"),
        "shadow": request.shadow,
        "ignore_result": request.ignore_result,
    }


@shared_task(name="compat.fan_out", bind=True)
def fan_out(self: Task, count: int) -> str:
    """Start a group from within a task and return its id."""
    members = group(add.si(k, k) for k in range(count))
    started = members.apply_async()
    started.save(backend=self.backend)
    return started.id


@shared_task(name="compat.become", bind=True)
def become(self: Task, form: str) -> None:
    """Be replaced by a canvas."""
    adds = [add.si(k, 1) for k in range(3)]
    forms = {
        "task": add.si(20, 3),
        "chain": add.si(1, 2) | add.s(3),
        "group": group(adds),
        "chord": chord(adds, total.s()),
    }
    raise self.replace(forms[form])


@shared_task(name="compat.call", bind=True)
def call(self: Task, name: str, *args: Any) -> str:
    """Enqueue a task by its name and return its id."""
    return signature(name, args).apply_async().id
