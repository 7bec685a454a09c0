"""What the caller of a client is told when the broker fails it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis

from contract import codec
from contract.deployment import Deployment
from contract.errors import BrokerUnavailable, MessageError, QueueFull
from contract.operation import Operation
from producers.sending import NotSent

#: What a refusal to submit adds where it is certain.
_NOTHING: Final = "; nothing was enqueued"


def refusal(deployment: Deployment, error: BaseException) -> BrokerUnavailable | QueueFull:
    """Return what a broker's error is to a caller."""
    place = f"broker {deployment.safe_url}"
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return QueueFull(f"{place}: out of memory ({error})")
    return BrokerUnavailable(f"{place}: {error}")


@contextmanager
def explaining(
    deployment: Deployment, operation: Operation[Any, Any], job: str | list[str]
) -> Iterator[None]:
    """Raise, for what fails in this block, what the caller of a submit is to know."""
    try:
        yield
    except codec.EncodeError as error:
        raise MessageError(f"{operation.name}: {error}") from None
    except NotSent as failure:
        raise _not_sent(deployment, failure, job) from failure.error
    except BrokerUnavailable as error:  # before anything was to be sent
        raise BrokerUnavailable(f"{error}{_NOTHING}") from error.__cause__


def _not_sent(
    deployment: Deployment, failure: NotSent, job: str | list[str]
) -> BrokerUnavailable | QueueFull:
    said = refusal(deployment, failure.error)
    if isinstance(said, QueueFull):
        return said
    if failure.may_have_arrived:
        what = f"the job, as {job}" if isinstance(job, str) else f"the {len(job)} jobs"
        return BrokerUnavailable(f"{said}; it may have accepted {what}", job)
    return BrokerUnavailable(f"{said}{_NOTHING}")
