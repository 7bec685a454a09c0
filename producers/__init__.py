"""The client side: operations to call, handles to wait on. Never loads workers or kernels."""

from contract.errors import (
    BrokerUnavailable,
    ComputeError,
    DeadlineExceeded,
    GristmillError,
    InternalError,
    InvalidRequest,
    JobCancelled,
    MessageError,
    QueueFull,
    ResultTimeout,
    TransientError,
)
from contract.operation import Operation
from producers.asynchronous import AsyncClient, AsyncJob, as_completed
from producers.asynchronous.client import current as current_async
from producers.client import Client, connect, current
from producers.job import Job

Operation.find_submitter = staticmethod(current)
Operation.find_async_submitter = staticmethod(current_async)

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BrokerUnavailable",
    "Client",
    "ComputeError",
    "DeadlineExceeded",
    "GristmillError",
    "InternalError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "MessageError",
    "QueueFull",
    "ResultTimeout",
    "TransientError",
    "as_completed",
    "connect",
    "current",
]
