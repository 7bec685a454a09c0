"""Which transport a connection uses, what monitors see of it, and what it takes from kombu."""

from collections import Counter
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.amqp import AMQP
from celery.backends.redis import RedisBackend
from celery.exceptions import ImproperlyConfigured
from kombu.asynchronous import Hub
from kombu.connection import Connection as StockConnection
from kombu.transport import redis as stock
from kombu.transport import virtual

from contract.deployment import Deployment
from contract.transport import (
    Amqp,
    Channel,
    Connection,
    Transport,
    queue,
    require,
    require_same_server,
)
from contract.transport.channel import Message, QoS
from contract.transport.poller import Poller
from gristmill.server import EmbeddedServer
from tests.contract.transport.reading import Reader, run


@pytest.mark.parametrize("url", ["redis://h/1", "rediss://h/1", "unix:///run/r.sock"])
def test_our_transport_is_the_one_that_is_used(url: str) -> None:
    deployment = Deployment(url=url)
    app = Celery(amqp=Amqp, set_as_current=False, broker=deployment.broker_url)
    connection = app.connection_for_write()
    assert type(connection) is Connection
    assert type(connection.transport) is Transport
    assert connection.transport.Channel is Channel
    assert issubclass(Transport, stock.Transport)
    again = connection.clone()  # as pools and failover make them
    assert type(again.transport) is Transport


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:7/1", "redis://:**@h:7/1"),
        ("rediss://:pw@h:7/1", "rediss://:**@h:7/1"),
        ("unix://:pw@/run/r.sock?db=1", "redis+socket://:**@/run/r.sock"),
    ],
)
def test_monitors_see_the_redis_that_it_is(url: str, shown: str) -> None:
    assert Connection(Deployment(url=url).broker_url).as_uri() == shown


def test_queues_say_what_flower_reads() -> None:
    made = queue("mcts")
    assert (made.name, made.exchange.name, made.routing_key) == ("mcts", "mcts", "mcts")


def test_another_transport_is_refused() -> None:
    require(Connection(Deployment(url="redis://h/1").broker_url))
    with pytest.raises(ImproperlyConfigured, match="expected gristmill://"):
        require(Connection("redis://h/1"))


def test_failover_to_another_broker_stays_with_our_transport() -> None:
    with EmbeddedServer() as first, EmbeddedServer() as second:
        deployments = [Deployment(url=server.url) for server in (first, second)]
        connection = Connection(";".join(each.broker_url for each in deployments))
        connection.ensure_connection(max_retries=5)
        require(connection)
        assert connection.port == first.port
        first.kill()
        connection.collect()
        connection.ensure_connection(max_retries=5)
        require(connection)
        assert connection.port == second.port
        reader = Reader(deployments[1], connection=connection)
        reader.push("1")
        reader.drain(reader.ids)
        assert type(reader.channel) is Channel
        reader.close()


#: Methods that we give other bodies than kombu's: ours, and the class of kombu's that has it.
OVERRIDDEN: list[tuple[type, type, str]] = [
    *((Poller, stock.MultiChannelPoller, name) for name in (
        "on_poll_start", "on_readable", "handle_event", "get",
    )),
    *((Channel, stock.Channel, name) for name in (
        "basic_consume", "_basic_cancel", "basic_get", "decode_body", "close",
    )),
    *((QoS, virtual.QoS, name) for name in (
        "append", "ack", "reject", "restore_unacked", "restore_unacked_once",
    )),
    (Message, virtual.Message, "__init__"),
    (Transport, stock.Transport, "register_with_event_loop"),
    *((Connection, StockConnection, name) for name in (
        "as_uri", "ensure_connection", "_do_close_transport",
    )),
]  # fmt: skip

#: What we use of kombu's and Celery's that is not documented: of the class, and of its instances.
USED: list[tuple[type, str]] = [
    (stock.MultiChannelPoller, "_register"),
    (stock.Channel, "_connparams"),
    (stock.Channel, "_q_for_pri"),
    (stock.Channel, "_put"),
    (stock.Channel, "_get_message_priority"),
    (stock.Channel, "prepare_message"),
    (AMQP, "_create_task_sender"),
    (AMQP, "_retry_publish"),
    (RedisBackend, "_chord_cleanup_script"),
    (RedisBackend, "_call_task_errbacks"),
    (RedisBackend, "on_chord_part_return"),
    (RedisBackend, "ensure"),
    (stock.Channel, "active_queues"),
    (stock.Channel, "from_transport_options"),
    (virtual.Transport, "_deliver"),
    (virtual.QoS, "can_consume_max_estimate"),
    (virtual.QoS, "_flush"),
]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for _, owner, name in OVERRIDDEN] + USED)
def test_kombu_still_has_what_we_build_on(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_instances_of_kombus_still_have_what_we_build_on(server: EmbeddedServer) -> None:
    reader = Reader(Deployment(url=server.url, prefix="instances:"))
    poller = reader.channel.connection.cycle
    assert {"_channels", "_fd_to_chan", "_chan_to_sock"} <= set(vars(poller))
    assert {"_active_queues", "handlers"} <= set(vars(reader.channel))
    assert {"_delivered", "_dirty", "_on_collect"} <= set(vars(reader.channel.qos))
    assert isinstance(reader.channel._fanout_queues, dict)
    assert isinstance(reader.channel.connection._callbacks, dict)
    reader.close()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of each method that we override."""
    calls: Counter[str] = Counter()

    def counted(owner: type, name: str) -> None:
        method = vars(owner)[name]

        def count(*args: Any, **kwargs: Any) -> Any:
            calls[f"{owner.__name__}.{name}"] += 1
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, count)

    for owner, _, name in OVERRIDDEN:
        counted(owner, name)
    return calls


def test_kombu_still_calls_each_method_that_we_override(server, called: Counter[str]) -> None:
    deployment = Deployment(url=server.url, prefix="called:")
    reader = Reader(deployment)
    reader.push("1", "2", "3")
    reader.handle = lambda message: message.reject()
    reader.drain(reader.ids)
    reader.connection.as_uri()
    reader.consumer.cancel()
    assert reader.channel.basic_get("entries") is not None
    reader.consumer.recover(requeue=True)
    reader.close()
    reader = Reader(deployment)
    reader.connection.ensure_connection()
    hub = Hub()
    reader.connection.transport.register_with_event_loop(reader.connection.connection, hub)
    run(hub, lambda: len(reader.read) == 2)
    reader.close()
    hub.close()
    assert {f"{owner.__name__}.{name}" for owner, _, name in OVERRIDDEN} - set(called) == set()


def test_results_must_lie_where_the_queues_are(server: EmbeddedServer) -> None:
    deployment = Deployment(url=server.url, prefix="place:")
    app = Celery(amqp=Amqp, set_as_current=False, broker=deployment.broker_url)
    app.conf.broker_transport_options = deployment.transport_options
    with (
        EmbeddedServer() as second,
        app.connection_for_write() as connection,
        redis.Redis.from_url(server.url) as results,
    ):
        results.config_set("maxmemory", "1")  # a worker that starts now could free some
        try:
            require_same_server(connection, results)
        finally:
            results.config_set("maxmemory", "0")
        assert results.keys("place:gristmill:here:*") == []
        expected = "another Redis or database than the broker's, expected the same"
        others = [f"{server.url.removesuffix('/0')}/1", second.url]
        for url in others:
            with (
                redis.Redis.from_url(url) as other,
                pytest.raises(ImproperlyConfigured, match=expected),
            ):
                require_same_server(connection, other)
    app.close()
