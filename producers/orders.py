"""Orders: checked requests on their way into a queue, whichever client carries them."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, Self, TypeVar

from contract import batches, codec
from contract.arrays import summary
from contract.envelope import HEADER, Envelope
from contract.errors import MessageError
from contract.idempotency import Once
from contract.operation import Operation, Result, fields_of
from contract.payloads import InlinePayloads
from producers.job import check_seconds

R = TypeVar("R", bound=Result)

#: Returns the entry of a queue that asks for a task: its name, the queue, the message's fields.
Draft = Callable[..., str]

_payloads: Final = InlinePayloads()


@dataclass(frozen=True)
class Order(Generic[R]):
    """One request on its way."""

    operation: Operation[Any, R]
    job_id: str
    fields: Mapping[str, Any]
    references: Mapping[str, str]
    deadline_seconds: float | None
    once: Once | None

    @classmethod
    def of(
        cls,
        operation: Operation[Any, R],
        request: Any,
        deadline_seconds: float | None,
        idempotency_key: str | None,
        idempotency_seconds: float,
    ) -> Self:
        """Take an order for a checked request; raises `InvalidRequest` or `MessageError`."""
        check_seconds("deadline_seconds", deadline_seconds)
        every_field = fields_of(request)
        fields, references = _payloads.pack(every_field)
        once = None
        if idempotency_key is not None:
            with_name = (every_field, idempotency_key, idempotency_seconds)
            try:
                once = Once.of(*with_name)
            except codec.EncodeError as error:
                raise MessageError(f"{operation.name}: {error}") from None
        return cls(operation, str(uuid.uuid4()), fields, references, deadline_seconds, once)

    def entry(self, draft: Draft, now: float, reply_to: str) -> str:
        """Return the queue's entry, written `now` by the broker's clock."""
        envelope = Envelope.submitted(
            now,
            self.deadline_seconds,
            self.references,
            idempotency_key=self.once.key if self.once else None,
            idempotency_seconds=self.once.seconds if self.once else 0.0,
            reply_to=reply_to,
        )
        return draft(
            self.operation.name,
            self.operation.family,
            kwargs=self.fields,
            task_id=self.job_id,
            serializer=codec.SERIALIZER,
            headers={HEADER: envelope.to_header()},
            argsrepr="()",
            kwargsrepr=summary(self.fields),
        )


@dataclass(frozen=True)
class ManyOrders(Generic[R]):
    """Many requests of one operation on their way in few messages."""

    operation: Operation[Any, R]
    #: The id and the items of each message.
    messages: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    deadline_seconds: float | None

    @classmethod
    def of(
        cls,
        operation: Operation[Any, R],
        requests: Sequence[Any],
        deadline_seconds: float | None,
    ) -> Self:
        """Take orders for checked requests; raises `InvalidRequest`."""
        check_seconds("deadline_seconds", deadline_seconds)
        items = [_payloads.pack(fields_of(request))[0] for request in requests]
        messages = [(str(uuid.uuid4()), part) for part in batches.parts(items)]
        return cls(operation, messages, deadline_seconds)

    @cached_property
    def job_ids(self) -> list[str]:
        """The ids of the jobs in order."""
        return [name for key, part in self.messages for name in batches.item_ids(key, len(part))]

    def entries(self, draft: Draft, now: float, reply_to: str) -> list[str]:
        """Return the queue's entries, written `now` by the broker's clock."""
        return [self._entry(draft, now, reply_to, *message) for message in self.messages]

    def _entry(
        self,
        draft: Draft,
        now: float,
        reply_to: str,
        batch_id: str,
        items: Sequence[Mapping[str, Any]],
    ) -> str:
        envelope = Envelope.submitted(
            now, self.deadline_seconds, num_items=len(items), reply_to=reply_to
        )
        return draft(
            self.operation.name,
            self.operation.family,
            kwargs={batches.ITEMS: items},
            task_id=batch_id,
            serializer=codec.BATCH_SERIALIZER,
            headers={HEADER: envelope.to_header()},
            argsrepr="()",
            kwargsrepr=f"{len(items)} jobs, the first of {summary(items[0])}",
        )
