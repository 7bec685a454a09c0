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
from producers.client import Client, connect, current
from producers.job import Job

Operation.find_submitter = staticmethod(current)

__all__ = [
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
    "connect",
    "current",
]
