"""Makes dead letters of messages that no worker can run, and says when a job has killed enough."""

import base64
import json
from typing import Any, Final

import redis
from celery.utils.log import get_logger

from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery
from contract.outages import is_passing

logger = get_logger(__name__)

#: Processes that a job may cost. It ran on the C kernels first and on NumPy after that: with the
#: second process the job itself is what kills.
MAX_LOST: Final = 2

#: Workers that a job may have been returned from. That is weak evidence: whatever kills a worker
#: returns all that it held.
MAX_RETURNED: Final = 10


def deployment_of(app: Any) -> Deployment:
    """Return the deployment of a worker's app, without its address."""
    options = app.conf.result_backend_transport_options
    return Deployment(prefix=options.get("global_keyprefix", ""))


def delivery_of(message: Any) -> Delivery | None:
    """Return where Redis keeps a message; None where another transport brought it."""
    return Delivery.from_header(message.headers.get(DELIVERY))


def verdict(delivery: Delivery | None) -> str:
    """Return why a job is not to be run again; "" while it may be."""
    if delivery is not None and delivery.lost >= MAX_LOST:
        return f"its process died {delivery.lost} times"
    if delivery is not None and delivery.returned >= MAX_RETURNED:
        return f"{delivery.returned} workers were gone before it ended"
    return ""


def bury(app: Any, message: Any, reason: str, kind: str) -> None:
    """Make a dead letter of a message, which its caller acknowledges afterwards.

    `kind`: as in the `dead_letter` events. Raises redis-py's errors where the broker may take it
    later: the message is to come again. Any other error costs the letter, not the worker.
    """
    letters = DeadLetters(app.backend.client, deployment_of(app))
    delivery = delivery_of(message)
    about = message.headers
    told = {"job": _text(about.get("id")), "task": _text(about.get("task"))}
    try:
        if delivery is not None:
            letters.bury(delivery, reason, kind=kind, **told)
        else:
            queue = _text((message.delivery_info or {}).get("routing_key"))
            letters.add(_rebuilt(message), reason, kind=kind, queue=queue, **told)
    except (redis.RedisError, OSError) as error:
        if is_passing(error):
            raise
        logger.error("job %s left no dead letter: %s", told["job"], error)


def _rebuilt(message: Any) -> bytes:
    """Return an entry as kombu would write it again, for transports that do not keep its bytes."""
    body, properties = message.body, dict(message.properties or {})
    if isinstance(body, bytes):
        body, properties["body_encoding"] = base64.b64encode(body).decode(), "base64"
    entry = {
        "body": body,
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": message.headers,
        "properties": properties,
    }
    return json.dumps(entry, default=repr).encode()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
