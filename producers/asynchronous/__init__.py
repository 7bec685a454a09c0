"""The client for asyncio: thousands of jobs awaited on one connection, and no thread for any."""

from producers.asynchronous.client import AsyncClient
from producers.asynchronous.job import AsyncJob, as_completed

__all__ = ["AsyncClient", "AsyncJob", "as_completed"]
