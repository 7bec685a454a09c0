"""What an entry of a queue must be to be handled at all, and what is told of it on delivery."""

from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from contract.arrays import describe
from contract.envelope import DELIVERY, Delivery


class NoMessage(ValueError):
    """Raised when an entry of a queue is not a message."""


def read(raw: bytes) -> dict[str, Any]:
    """Return the message that an entry of a queue holds; raises `NoMessage` for any other bytes."""
    try:
        message = loads(bytes_to_str(raw))
    except Exception as error:
        # No JSON, no text, nested beyond any use, or a type that kombu makes of marked maps.
        raise NoMessage(f"{error}"[:200]) from None
    fault = _fault(message)
    if fault:
        raise NoMessage(fault)
    found: dict[str, Any] = message
    return found


def mark(message: dict[str, Any], delivery: Delivery) -> None:
    """Tell a message, in memory alone, where it is kept and what befell it before."""
    message.setdefault("headers", {})[DELIVERY] = delivery.to_header()
    properties = message["properties"]
    properties["delivery_tag"] = delivery.tag  # the sender's may come twice
    if delivery.lost or delivery.returned:
        properties["delivery_info"]["redelivered"] = True


def _fault(message: Any) -> str:
    """Return what a message lacks to be handled at all; "" when it lacks nothing."""
    if not isinstance(message, dict):
        return f"{type(message).__name__}, expected a map"
    properties = message.get("properties")
    if not isinstance(properties, dict) or not _is_name(properties.get("delivery_tag")):
        return "no delivery tag, expected properties with one"
    route = properties.get("delivery_info")
    names = ("exchange", "routing_key")
    if not isinstance(route, dict) or not all(isinstance(route.get(name), str) for name in names):
        return "no delivery info, expected exchange and routing key"
    headers = message.get("headers", {})
    if not isinstance(headers, dict):
        return "headers that are no map"
    # Celery takes both for granted once it sees a task.
    if "task" in headers and not (_is_name(headers["task"]) and _is_name(headers.get("id"))):
        was = f"task {describe(headers['task'])} with id {describe(headers.get('id'))}"
        return f"{was}, expected both as text"
    return ""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
