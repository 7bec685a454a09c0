"""Counts of what is rare and matters: fallbacks, deaths, dead letters; one Redis hash of them."""

import logging
import re
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from contract.deployment import Deployment
from contract.families import operations

logger = logging.getLogger(__name__)

#: The value of a label whose own is none of its legal ones: a label of any text would let whoever
#: sends messages grow the hash, and every monitor's memory, without bounds.
OTHER: Final = "other"

_OPERATIONS: Final = frozenset(operations())
_SIGNALS: Final = frozenset(known.name for known in signal.Signals)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One kind of event: what it means, and its labels with their legal values."""

    meaning: str
    labels: Mapping[str, Collection[str]]


#: Every event by its name; `gristmill metrics` shows each as `gristmill_<name>_total`.
EVENTS: Final[Mapping[str, Event]] = {
    "fallback": Event(
        meaning="Jobs that ran on NumPy though the C kernels were wanted.",
        labels={
            "operation": _OPERATIONS,
            # The kernel failed in this job; it had failed too often; the job cost a child or its
            # workers before; the extension is missing or unsound.
            "reason": ("error", "breaker", "lost", "returned", "unavailable"),
        },
    ),
    "breaker": Event(
        meaning="Changes of the circuit breakers of C kernels.",
        labels={"operation": _OPERATIONS, "state": ("open", "half_open", "closed")},
    ),
    "worker_lost": Event(
        meaning="Processes of pools that died while they ran a job.", labels={"signal": _SIGNALS}
    ),
    "redelivered": Event(
        meaning="Messages delivered again, after their process died or their worker's lease ended.",
        labels={"reason": ("lost", "returned")},
    ),
    "poison": Event(
        meaning="Jobs given up because they cost too many processes or workers.",
        labels={"reason": ("lost", "returned")},
    ),
    "dead_letter": Event(
        meaning="Entries of queues that no worker could run.",
        labels={
            "reason": ("no_message", "malformed", "unknown_task", "too_large", "poison", "version")
        },
    ),
    "decode_error": Event(
        meaning="Jobs whose body could not be read.",
        labels={"reason": ("content_type", "compression", "body", "headers", "too_large")},
    ),
    "fenced": Event(
        meaning="What workers did for jobs that were no longer theirs, and that was refused.",
        labels={"what": ("result", "progress", "acknowledgement", "run")},
    ),
}

#: Seconds after its end in which a breaker of a process that died is dropped, by the next one.
_FORGOTTEN_SECONDS: Final = 3600.0

_FIELD = re.compile(r"(\w+)\{((?:\w+=\"[^\"]*\",?)*)\}")
_LABEL = re.compile(r"(\w+)=\"([^\"]*)\"")


class Events:
    """The counts of a deployment: workers add to them, monitors read them."""

    def __init__(self, client: "redis.Redis", deployment: Deployment) -> None:
        """Count on the Redis that `client` talks to; it has no key prefix of its own."""
        self._client = client
        self._key, self._breakers = deployment.events_key, deployment.breakers_key

    def count(self, event: str, **labels: str) -> None:
        """Count an event; one that the broker does not take is lost, and nothing fails by it."""
        field = field_of(event, **labels)
        try:
            self._client.hincrby(self._key, field, 1)
        except (redis.RedisError, OSError) as error:
            logger.debug("event %s was not counted: %s", field, error)

    def mark_breaker(self, operation: str, process: str, until: float | None) -> None:
        """Note that a process leaves a C kernel alone `until` a time by the broker's clock.

        None: no longer. A process that dies is forgotten at that time.
        """
        member = f"{operation} {process}"
        try:
            with self._client.pipeline(transaction=False) as pipe:
                if until is None:
                    pipe.zrem(self._breakers, member)
                else:
                    pipe.zadd(self._breakers, {member: until})
                    pipe.zremrangebyscore(self._breakers, "-inf", until - _FORGOTTEN_SECONDS)
                pipe.execute()
        except (redis.RedisError, OSError) as error:
            logger.debug("breaker of %s was not marked: %s", member, error)

    def open_breakers(self, now: float) -> dict[str, int]:
        """Return how many processes leave each operation's C kernel alone at `now`."""
        found: Any = self._client.zrangebyscore(self._breakers, f"({now}", "+inf")
        return dict(Counter(_text(member).partition(" ")[0] for member in found))

    def read(self) -> dict[str, dict[tuple[str, ...], int]]:
        """Return the counts by event and by the values of its labels, in the order of `EVENTS`.

        What other versions counted, and this one does not know, is left out.
        """
        found: dict[str, dict[tuple[str, ...], int]] = {event: {} for event in EVENTS}
        stored: Any = self._client.hgetall(self._key)
        for field, count in stored.items():
            event, values = _read_field(_text(field))
            if event:
                found[event][values] = found[event].get(values, 0) + int(count)
        return found


def field_of(event: str, **labels: str) -> str:
    """Return the field that counts an event: `fallback{operation="...",reason="error"}`.

    For scripts that count in the same step as they act. Raises `KeyError` for an event or labels
    that `EVENTS` does not have: a slip of the programmer's, not of a message.
    """
    known = EVENTS[event].labels
    if labels.keys() != known.keys():
        raise KeyError(f"{event}: labels {', '.join(labels)}, expected {', '.join(known)}")
    told = (
        f'{name}="{labels[name] if labels[name] in legal else OTHER}"'
        for name, legal in known.items()
    )
    return f"{event}{{{','.join(told)}}}"


def _read_field(field: str) -> tuple[str, tuple[str, ...]]:
    found = _FIELD.fullmatch(field)
    event = found[1] if found else ""
    labels = dict(_LABEL.findall(found[2])) if found else {}
    if event not in EVENTS or labels.keys() != EVENTS[event].labels.keys():
        return "", ()
    return event, tuple(labels[name] for name in EVENTS[event].labels)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
