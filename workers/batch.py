"""A batch: many jobs in one message, run one after another, each with an end of its own."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import states

from contract import batches, codec
from contract.arrays import summary
from contract.envelope import HEADER, Envelope
from contract.errors import DeadlineExceeded, GristmillError, InternalError, JobCancelled
from contract.results import Answer, End
from workers.runner import run
from workers.twins import Doubt
from workers.watch import Watch

#: Seconds between two round trips that store ends and look for cancelled items.
FLUSH_SECONDS: Final = 0.025


def run_batch(
    task: Any, items: Sequence[Any], envelope: Envelope, watch: Watch, doubt: Doubt | None
) -> Answer:
    """Run the items of the batch that `task` got and return how many ended in which way.

    A batch whose process died is split: each of its items that has not ended is sent by itself, so
    that the guilty one is found out and no other is lost.
    """
    ids = batches.item_ids(task.request.id, len(items))
    delivery = watch.delivery
    ended: set[str] = set()
    if delivery is not None and (delivery.lost or delivery.returned):
        ended = task.backend.ended(ids)
    left = [(job_id, item) for job_id, item in zip(ids, items, strict=True) if job_id not in ended]
    batch = _Batch(task, envelope, watch)
    if delivery is not None and delivery.lost:
        for job_id, item in left:
            batch.send_alone(job_id, item)
    else:
        batch.run(left, doubt)
    return Answer({"items": len(items), "ended_before": len(ended), **batch.counts})


class _Batch:
    """The items of one message on their way to their ends."""

    def __init__(self, task: Any, envelope: Envelope, watch: Watch) -> None:
        self.counts: Counter[str] = Counter()
        self._task = task
        self._watch = watch
        self._envelope = Envelope(submitted_at=envelope.submitted_at, deadline=envelope.deadline)
        self._ends: list[End] = []
        self._cancelled: set[str] = set()

    def run(self, items: Sequence[tuple[str, Any]], doubt: Doubt | None) -> None:
        """Run each item; what ends them all ends those that are left."""
        flushed_at = float("-inf")
        try:
            for index, (job_id, item) in enumerate(items):
                if time.monotonic() - flushed_at >= FLUSH_SECONDS:
                    self._flush()
                    self._cancelled = self._watch.cancelled([left for left, _ in items[index:]])
                    flushed_at = time.monotonic()
                self._run(job_id, item, doubt)
        finally:
            self._flush()

    def send_alone(self, job_id: str, item: Any) -> None:
        """Send an item as a message of its own, under its own id."""
        fields = batches.fields_of_item(item)
        self._task.apply_async(
            kwargs=fields,
            task_id=job_id,
            headers={HEADER: self._envelope.to_header()},
            serializer=codec.SERIALIZER,
            argsrepr="()",
            kwargsrepr=summary(fields),
            add_to_parent=False,
        )
        self.counts["sent_alone"] += 1

    def _run(self, job_id: str, item: Any, doubt: Doubt | None) -> None:
        try:
            if job_id in self._cancelled:
                raise JobCancelled(f"job {job_id}: cancelled")
            self._watch.begin(job_id)
            fields: Mapping[str, Any] = batches.fields_of_item(item)
            operation = self._task.operation
            result = run(operation, (), fields, self._envelope, self._watch, doubt)
        except JobCancelled as cancelled:
            self._end(job_id, cancelled, states.REVOKED)
        except DeadlineExceeded:
            raise  # the deadline and the time limits are those of the whole message
        except GristmillError as error:
            if error.retryable:
                self.send_alone(job_id, item)
            else:
                traceback = str(error.args[1]) if isinstance(error, InternalError) else None
                self._end(job_id, error, states.FAILURE, traceback)
        else:
            self._end(job_id, Answer(result.to_fields()), states.SUCCESS)

    def _end(self, job_id: str, result: Any, state: str, traceback: str | None = None) -> None:
        self._ends.append(End(job_id, result, state, traceback))
        self.counts[state.lower()] += 1

    def _flush(self) -> None:
        ends, self._ends = self._ends, []
        if ends:
            self._task.backend.store_ends(ends, self._task.request)
