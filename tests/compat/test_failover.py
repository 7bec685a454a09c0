"""Failover: a list of broker addresses, of which the first stops to answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from contract.deployment import Deployment
from contract.transport import SCHEME, Amqp
from gristmill.server import EmbeddedServer
from tests.chaos.proxy import Network, Proxy
from tests.compat.stand import STANDS, Stand, outcome, worker_of

pytestmark = [pytest.mark.integration, pytest.mark.compat]

#: What a worker calls the transport that it has.
SCHEMES = {"stock": "redis", "ours": SCHEME}


@pytest.fixture
def first(server: EmbeddedServer) -> Iterator[Proxy]:
    """Give the server a second address, which the test takes away."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def second(server: EmbeddedServer) -> Iterator[Proxy]:
    """Give it a third."""
    with Proxy(server.port) as proxy:
        yield proxy


def addresses(name: str, server: EmbeddedServer, *ports: int) -> list[str]:
    """Return a server's addresses as Celery's `broker_url` has them on a stand."""
    urls = [server.url.replace(f":{server.port}/", f":{port}/") for port in ports]
    return urls if name == "stock" else [Deployment(url=url).broker_url for url in urls]


def client(name: str, urls: list[str], results: str, prefix: str) -> Celery:
    extra = {"amqp": Amqp} if name == "ours" else {}
    app = Celery(broker=";".join(urls), backend=results, set_as_current=False, **extra)
    options = {"global_keyprefix": prefix}
    app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
    return app


@pytest.mark.parametrize("name", STANDS[:2])
def test_worker_and_client_go_over_to_the_next_address(
    name: str, first: Proxy, second: Proxy, server: EmbeddedServer, tmp_path: Path
) -> None:
    prefix, ports = f"failover-{name}:", (first.port, second.port, server.port)
    urls = addresses(name, server, *ports)
    options = {"prefix": prefix, "CELERY_BROKER_URL": ";".join(urls)}
    with (
        worker_of(name, server.url, tmp_path / "log", "--concurrency=1", **options) as worker,
        client(name, urls, server.url, prefix) as app,
        client(name, urls[2:], server.url, prefix) as watcher,
        redis.Redis.from_url(server.url) as raw,
    ):
        stand = Stand(name, worker, app, raw, prefix)
        seen = Stand(name, worker, watcher, raw, prefix)
        assert seen.inspect("stats")["broker"]["port"] == first.port
        first.set(Network.DOWN)
        assert outcome(stand.task("add", 2, 2).apply_async(), 40) == ("SUCCESS", 4)
        broker = seen.inspect("stats")["broker"]
        assert (broker["port"], broker["transport"]) == (second.port, SCHEMES[name])

        if not stand.is_ours:
            # A stock worker that runs a task when its connection breaks may end: kombu looks in
            # what is closed for where to give messages back. It is a race, with no outcome.
            return
        key = stand.key()
        running = stand.task("slow", 1.0, key).apply_async()
        stand.wait_for_notes(key, "begun")
        second.set(Network.DOWN)
        assert outcome(running) == ("SUCCESS", "slept")
        assert outcome(stand.task("add", 3, 3).apply_async(), 40) == ("SUCCESS", 6)
        broker = seen.inspect("stats")["broker"]
        assert (broker["port"], broker["transport"]) == (server.port, SCHEMES[name])
        assert stand.notes(key) == ["begun", "ended"]


def test_a_connection_of_ours_stays_ours_when_it_switches(
    first: Proxy, server: EmbeddedServer
) -> None:
    urls = addresses("ours", server, first.port, server.port)
    with (
        client("ours", urls, server.url, "switch:") as app,
        app.connection_for_write() as connection,
    ):
        connection.connect()
        kinds = [(type(connection.transport).__module__, connection.port)]
        first.set(Network.DOWN)
        connection.close()
        connection.ensure_connection(max_retries=3, interval_start=0)
        kinds.append((type(connection.transport).__module__, connection.port))
    ours = "contract.transport"
    assert kinds == [(ours, first.port), (ours, server.port)]
