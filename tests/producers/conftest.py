"""Clients of a real server that no worker serves."""

import itertools
from collections.abc import Iterator

import pytest
import redis

from gristmill.server import EmbeddedServer
from producers import Client

#: So that no test meets what another left.
_numbers = itertools.count()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Client]:
    """Make a client with a deployment to itself, in which nobody works."""
    client = Client(server.url, prefix=f"client{next(_numbers)}:", timeout=5)
    yield client
    client.close()


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """Talk to the server itself."""
    with redis.Redis.from_url(server.url) as raw:
        yield raw
