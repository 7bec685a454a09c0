"""What travels beside a request: the envelope in its message, and the delivery in its worker."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final

from contract.arrays import describe
from contract.batches import MAX_ITEMS
from contract.errors import DeadlineExceeded, MessageError
from contract.replies import MAX_NAME

#: Version of the wire. A worker runs messages of its own and of older versions.
VERSION: Final = 1

#: Name of the message header that holds the envelope.
HEADER: Final = "gristmill"

#: Name of the header that our transport adds to a message in its worker's memory, never in Redis.
DELIVERY: Final = "gristmill-delivery"

#: No time of ours is later, in seconds; NaN and infinity are not earlier.
_END_OF_TIME: Final = 2.0**53


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The header of one job. A message of a stock client has none and gets a JSON result."""

    version: int = VERSION
    #: When the job was submitted, in seconds since 1970 by the broker's clock.
    submitted_at: float | None = None
    #: When the job's result is of no more use, in seconds since 1970 by the broker's clock.
    deadline: float | None = None
    #: Arrays that travel outside the message: field name to reference.
    references: dict[str, str] = field(default_factory=dict)
    #: Number of requests in the message, each a job of its own; 0 for a message of one job.
    num_items: int = 0
    #: The app's name for this job, under which it is submitted once; None for a job without.
    idempotency_key: str | None = None
    #: How long the name stands for the job after the job's end, in seconds.
    idempotency_seconds: float = 0.0
    #: Name of the list on which the submitter waits for the end; "" where it does not.
    reply_to: str = ""

    @classmethod
    def submitted(
        cls,
        now: float,
        deadline_seconds: float | None,
        references: Mapping[str, str] = MappingProxyType({}),
        *,
        idempotency_key: str | None = None,
        idempotency_seconds: float = 0.0,
        num_items: int = 0,
        reply_to: str = "",
    ) -> "Envelope":
        """Return the envelope of a job submitted `now`; a deadline beyond all times is none."""
        deadline = None if deadline_seconds is None else now + deadline_seconds
        if deadline is not None and deadline >= _END_OF_TIME:
            deadline = None
        return cls(
            submitted_at=now,
            deadline=deadline,
            references=dict(references),
            idempotency_key=idempotency_key,
            idempotency_seconds=idempotency_seconds,
            num_items=num_items,
            reply_to=reply_to,
        )

    def to_header(self) -> dict[str, Any]:
        """Return the envelope as the header's plain value."""
        header = asdict(self)
        for name in ("num_items", "reply_to"):
            if not header[name]:
                del header[name]
        if self.idempotency_key is None:
            del header["idempotency_key"], header["idempotency_seconds"]
        return header

    @classmethod
    def from_header(cls, header: object) -> "Envelope":
        """Return the envelope that a header holds; `MessageError` for what we cannot serve."""
        if not isinstance(header, Mapping):
            raise MessageError(f"{HEADER} header: {type(header).__name__}, expected a map")
        version = header.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
            raise MessageError(f"version: {describe(version)}, expected 1 to {VERSION}")
        return cls(
            version=version,
            submitted_at=_time(header, "submitted_at"),
            deadline=_time(header, "deadline"),
            references=_references(header),
            num_items=_num_items(header),
            idempotency_key=_key(header),
            idempotency_seconds=_time(header, "idempotency_seconds") or 0.0,
            reply_to=_reply_to(header),
        )

    @staticmethod
    def count_items(header: object) -> int:
        """Return how many jobs a message holds beside itself, also where nothing else is right."""
        try:
            return _num_items(header) if isinstance(header, Mapping) else 0
        except MessageError:
            return 0

    def check_deadline(self, now: float) -> None:
        """Raise `DeadlineExceeded` when `now`, by the broker's clock, is past the deadline."""
        if self.deadline is not None and now > self.deadline:
            late = now - self.deadline
            raise DeadlineExceeded(
                f"deadline: passed {late:.3f} s ago, expected a result before it"
            )


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where Redis keeps a message that a worker holds, and what became of it with others before.

    A worker whose lease ran out holds it no longer: its field is gone from the inbox.
    """

    #: Full key of the hash that holds what its worker has not acknowledged.
    inbox: str
    #: The message's field there: its number, a blank and the key of its queue.
    tag: str
    #: Processes that died while they ran it.
    lost: int = 0
    #: Workers whose lease ran out while they held it.
    returned: int = 0

    @property
    def queue(self) -> str:
        """Full key of the queue that the message came from; "" where the tag does not tell."""
        return self.tag.partition(" ")[2]

    def to_header(self) -> dict[str, Any]:
        """Return the delivery as the header's plain value."""
        return asdict(self)

    @classmethod
    def from_header(cls, header: object) -> "Delivery | None":
        """Return the delivery that a header holds; None for what our transport did not write.

        Without one there is nothing to fence: eager tasks, tests, other transports.
        """
        if not isinstance(header, Mapping):
            return None
        inbox, tag = header.get("inbox"), header.get("tag")
        lost, returned = header.get("lost"), header.get("returned")
        if (
            isinstance(inbox, str)
            and isinstance(tag, str)
            and isinstance(lost, int)
            and isinstance(returned, int)
        ):
            return cls(inbox=inbox, tag=tag, lost=max(lost, 0), returned=max(returned, 0))
        return None


def _time(header: Mapping[str, Any], name: str) -> float | None:
    value = header.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) < _END_OF_TIME
    ):
        raise MessageError(f"{name}: {describe(value)}, expected seconds since 1970")
    return float(value)


def _num_items(header: Mapping[str, Any]) -> int:
    value = header.get("num_items", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ITEMS:
        raise MessageError(f"num_items: {describe(value)}, expected 0 to {MAX_ITEMS}")
    return value


def _key(header: Mapping[str, Any]) -> str | None:
    value = header.get("idempotency_key")
    if value is not None and not isinstance(value, str):
        raise MessageError(f"idempotency_key: {describe(value)}, expected text")
    return value


def _reply_to(header: Mapping[str, Any]) -> str:
    value = header.get("reply_to", "")
    if not isinstance(value, str) or len(value) > MAX_NAME:
        was = describe(value)
        raise MessageError(f"reply_to: {was}, expected text of at most {MAX_NAME} characters")
    return value


def _references(header: Mapping[str, Any]) -> dict[str, str]:
    value = header.get("references")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MessageError(f"references: {describe(value)}, expected a map")
    for name, reference in value.items():
        if not (isinstance(name, str) and isinstance(reference, str)):
            was = f"{describe(name)} to {describe(reference)}"
            raise MessageError(f"references: {was}, expected field names to references")
    return dict(value)
