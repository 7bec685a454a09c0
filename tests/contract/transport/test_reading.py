"""Channels that read with acknowledgement: order, room, redelivery, connections that break."""

import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from kombu.asynchronous import Hub
from kombu.entity import Exchange, Queue

from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery
from contract.transport import LeaseLost
from contract.transport.inbox import Inbox
from gristmill.server import EmbeddedServer
from tests.contract.transport.reading import QUEUE, Reader, named, run
from tests.producers.proxy import Proxy


@pytest.fixture
def deployment(server: EmbeddedServer) -> Deployment:
    return Deployment(url=server.url, prefix=f"reading{uuid.uuid4()}:")


@pytest.fixture
def reader(deployment: Deployment) -> Iterator[Reader]:
    reader = Reader(deployment)
    yield reader
    reader.close()


def keep(message: Any) -> None:
    """Hold a message without an answer."""


def test_a_message_says_where_it_is_kept_until_it_is_acknowledged(reader: Reader) -> None:
    reader.handle = keep
    reader.push("7")
    reader.drain(reader.ids)
    (message,) = reader.read
    delivery = Delivery.from_header(message.headers[DELIVERY])
    assert delivery is not None
    raw = reader.raw.hget(delivery.inbox, delivery.tag)
    assert raw is not None
    assert DELIVERY.encode() not in raw  # in this process's memory alone
    assert (delivery.lost, delivery.returned) == (0, 0)
    assert delivery.queue == f"{reader.deployment.prefix}{QUEUE}"
    message.ack()
    reader.drain(lambda: reader.held() == 0)
    assert not message.delivery_info.get("redelivered")


def test_the_same_message_twice_is_two_deliveries(reader: Reader) -> None:
    text = named("7")
    reader.raw.lpush(reader.key, text, text)
    reader.drain(lambda: len(reader.read) == 2)
    reader.drain(lambda: reader.held() == 0)


def test_no_more_is_taken_than_there_is_room_for(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=2)
    reader.handle = keep
    reader.push("1", "2", "3", "4")
    reader.drain(lambda: len(reader.read) == 2)
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.3)
    assert (reader.held(), reader.waiting()) == (2, ["3", "4"])
    reader.read[0].ack()
    reader.drain(lambda: len(reader.read) == 3)
    assert reader.ids() == ["1", "2", "3"]
    reader.close()
    assert reader.held() == 0


def test_a_consumer_without_limit_takes_one_message_at_a_time(reader: Reader) -> None:
    reader.handle = keep
    reader.push("1", "2", "3")
    reader.drain(reader.ids)
    assert (reader.held(), reader.waiting()) == (1, ["2", "3"])


def test_celerys_rule_for_no_prefetching_is_kept(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=8)
    reader.handle = keep
    rule = reader.channel.qos.can_consume
    reader.channel.qos.can_consume = lambda: len(reader.read) < 2 and rule()
    reader.push("1", "2", "3", "4")
    reader.drain(lambda: len(reader.read) == 2)
    with pytest.raises(TimeoutError):
        reader.connection.drain_events(timeout=0.3)
    assert reader.waiting() == ["3", "4"]
    reader.close()


def test_higher_priority_comes_first_and_zero_is_the_highest(reader: Reader) -> None:
    with reader.connection.Producer(routing_key=QUEUE) as producer:
        for priority in (9, 3, 0, 6):
            producer.publish("body", headers={"id": f"{priority}"}, priority=priority)
    reader.drain(lambda: len(reader.read) == 4)
    assert reader.ids() == ["0", "3", "6", "9"]


def test_a_long_queue_does_not_hold_up_a_short_one(deployment: Deployment) -> None:
    reader = Reader(deployment, "long", "short", prefetch=4)
    reader.push(*[f"long{number}" for number in range(100)], queue="long")
    reader.drain(lambda: len(reader.read) >= 10)
    reader.push("short0", "short1", queue="short")
    before = len(reader.read)
    reader.drain(lambda: "short1" in reader.ids())
    assert reader.ids().index("short1") - before <= 12
    reader.close()


def test_a_message_that_is_refused_with_requeue_comes_again_first(reader: Reader) -> None:
    reader.push("1", "2")
    answers = iter([lambda message: message.requeue()])
    reader.handle = lambda message: next(answers, lambda message: message.ack())(message)
    reader.drain(lambda: len(reader.read) == 3)
    assert reader.ids() == ["1", "1", "2"]


def test_a_message_whose_task_asks_for_a_later_run_comes_again_last(reader: Reader) -> None:
    reader.push("1", "2", "3")
    answers = iter([lambda message: message.channel.requeue_behind(message.delivery_tag)] * 2)
    reader.handle = lambda message: next(answers, lambda message: message.ack())(message)
    reader.drain(lambda: len(reader.read) == 5)
    assert reader.ids() == ["1", "2", "3", "1", "2"]
    reader.drain(lambda: reader.held() == 0)
    assert not reader.raw.exists(reader.deployment.counts_key)


def test_a_message_whose_process_died_is_counted_and_says_so(reader: Reader) -> None:
    reader.push("1")
    answers = iter([lambda message: message.channel.requeue_lost(message.delivery_tag)])
    reader.handle = lambda message: next(answers, lambda message: message.ack())(message)
    reader.drain(lambda: len(reader.read) == 2)
    delivery = Delivery.from_header(reader.read[1].headers[DELIVERY])
    assert delivery is not None
    assert (delivery.lost, delivery.returned) == (1, 0)
    assert reader.read[1].delivery_info["redelivered"] is True
    reader.drain(lambda: reader.held() == 0)
    assert not reader.raw.exists(reader.deployment.counts_key)


def test_closing_hands_back_in_order_what_has_no_answer(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=3)
    reader.handle = keep
    reader.push("1", "2", "3", "4", "5")
    reader.drain(lambda: len(reader.read) == 3)
    reader.read[1].ack()
    reader.connection.release()
    assert reader.waiting() == ["1", "3", "4", "5"]
    assert reader.held() == 0
    assert reader.raw.zcard(deployment.leases_key) == 0
    assert not reader.raw.exists(deployment.counts_key)
    reader.close()


def test_a_message_of_a_queue_that_is_no_longer_read_goes_back(deployment: Deployment) -> None:
    reader = Reader(deployment, "one", "two", prefetch=9)
    reader.push("1", queue="one")
    reader.channel.turn()  # asks
    reader.consumer.cancel_by_queue("one")
    reader.push("2", queue="two")
    reader.drain(lambda: "2" in reader.ids())
    assert reader.ids() == ["2"]
    assert reader.waiting("one") == ["1"]
    reader.close()


def test_one_message_can_be_got_with_and_without_acknowledgement(reader: Reader) -> None:
    reader.consumer.cancel()
    assert reader.channel.basic_get(QUEUE) is None
    reader.push("1", "2")
    message = reader.channel.basic_get(QUEUE)
    assert (message.headers["id"], reader.held()) == ("1", 1)
    message.ack()
    message = reader.channel.basic_get(QUEUE, no_ack=True)
    assert message.headers["id"] == "2"
    reader.connection.release()
    assert (reader.held(), reader.waiting()) == (0, [])


def test_consumers_that_do_not_acknowledge_and_fanout_stay_kombus(deployment: Deployment) -> None:
    reader = Reader(deployment)
    news = Queue("news", Exchange("news", type="fanout"), routing_key="")
    heard: list[Any] = []

    def hear(message: Any) -> None:
        heard.append(message)
        message.ack()

    listener = reader.connection.Consumer([news], on_message=hear)
    listener.consume()
    silent = reader.connection.Consumer([Queue("replies")], on_message=heard.append, no_ack=True)
    silent.consume()
    reader.push("1", queue="replies")
    reader.drain(lambda: len(heard) == 1)
    with reader.connection.Producer() as producer:
        producer.publish("body", exchange="news", routing_key="")
    reader.drain(lambda: len(heard) == 2)
    assert all(DELIVERY not in message.headers for message in heard)
    reader.close()


def test_a_connection_that_breaks_loses_and_repeats_nothing(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=3)
    reader.handle = keep
    reader.push("1", "2", "3", "4")
    reader.drain(lambda: len(reader.read) == 3)
    reader.read[0].ack()
    reader.raw.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(redis.ConnectionError):
        reader.drain(lambda: False)
    reader.drain(lambda: len(reader.read) == 4)
    assert reader.ids() == ["1", "2", "3", "4"]
    reader.close()
    assert reader.waiting() == ["2", "3", "4"]


def test_an_answer_that_is_lost_on_the_way_is_asked_for_again(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=3)
    reader.push("1", "2")
    reader.channel.turn()
    while reader.held() < 2:
        pass
    reader.channel.line.drop()  # before it was read
    reader.drain(lambda: len(reader.read) == 2)
    assert reader.ids() == ["1", "2"]
    reader.drain(lambda: reader.held() == 0)
    reader.close()


def asked_late(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an answer be there that is older than the lease."""
    reader.push("1")
    reader.channel.turn()
    while reader.held() < 1:
        pass
    monkeypatch.setattr(reader.channel.line, "_called_at", time.monotonic() - 60)


def test_an_answer_that_comes_after_the_lease_is_believed_if_nobody_took_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(deployment, prefetch=3)
    asked_late(reader, monkeypatch)
    reader.channel.read_inbox()
    reader.drain(reader.ids)
    reader.close()


def test_an_answer_that_others_took_meanwhile_is_not_believed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(deployment, prefetch=3)
    asked_late(reader, monkeypatch)
    reader.raw.delete(deployment.leases_key)
    with pytest.raises(LeaseLost):
        reader.channel.read_inbox()
    assert reader.ids() == []
    assert not reader.channel.deliver()
    reader.close()


def test_an_answer_that_nobody_came_to_read_is_read_late(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, hub = Reader(deployment, prefetch=3), Hub()
    reader.connection.transport.register_with_event_loop(reader.connection.connection, hub)
    asked_late(reader, monkeypatch)
    reader.connection.transport.cycle.beat()  # its own process stood still, not the broker
    assert len(reader.channel.line.arrived) == 1
    run(hub, reader.ids)
    reader.close()
    hub.close()


def test_a_broker_that_does_not_answer_is_left_for_a_new_connection(
    server: EmbeddedServer, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.port) as proxy:
        url = proxy.url(server.password)
        reader = Reader(Deployment(url=url, prefix=deployment.prefix))
        reader.channel.turn()
        reader.drain(lambda: not reader.channel.line._call)
        proxy.silence()
        reader.channel.turn(is_due=True)
        assert not reader.channel.turn()
        monkeypatch.setattr(reader.channel.line, "_called_at", time.monotonic() - 60)
        with pytest.raises(redis.ConnectionError, match="no answer for 2 s"):
            reader.channel.turn()
        with redis.Redis.from_url(deployment.url) as raw:
            raw.lpush(reader.key, named("1"))
        reader.drain(reader.ids)
        reader.close()


def test_who_slept_too_long_is_told_and_begins_anew(deployment: Deployment) -> None:
    reader = Reader(deployment, prefetch=3)
    other = Inbox(redis.Redis.from_url(deployment.url), deployment)
    reader.handle = keep
    reader.push("1")
    reader.drain(reader.ids)
    other.reserve((), 0)
    reader.raw.zadd(deployment.leases_key, {reader.channel.inbox.name: 1})
    other.recover()
    with pytest.raises(LeaseLost):
        reader.drain(lambda: False)
    reader.read[0].ack()
    reader.connection.release()
    assert reader.waiting() == ["1"]
    again = Reader(deployment)
    again.drain(again.ids)
    assert again.read[0].headers[DELIVERY]["returned"] == 1
    again.close()
    reader.close()
    other.close()


def test_a_server_that_forgets_its_scripts_is_told_them_again(reader: Reader) -> None:
    for job_id in ("0", "1", "2"):
        reader.push(job_id)
        reader.drain(partial(reader.has_read, job_id))
        reader.raw.script_flush()


def test_a_broker_that_will_not_be_written_to_is_one_to_come_back_to(deployment) -> None:
    with EmbeddedServer() as server:
        reader = Reader(Deployment(url=server.url))
        reader.push("1")
        reader.raw.config_set("min-replicas-to-write", 1)
        with pytest.raises(redis.ConnectionError, match="NOREPLICAS"):
            reader.drain(lambda: False)
        reader.raw.config_set("min-replicas-to-write", 0)
        reader.drain(reader.ids)
        reader.close()


@pytest.mark.parametrize("kind", ["user of few rights", "socket"])
def test_every_way_to_a_broker_will_do(kind: str) -> None:
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as raw:
        rights = ("~own:*", "&*", "+@all", "-@admin", "-@dangerous")
        raw.execute_command("ACL", "SETUSER", "worker", "on", ">secret", *rights)
        url = f"redis://worker:secret@127.0.0.1:{server.port}"
        if kind == "socket":
            url = f"unix://worker:secret@{server.socket_path}"
        reader = Reader(Deployment(url=url, prefix="own:"), prefetch=2)
        reader.push("1", "2", "3")
        reader.drain(lambda: len(reader.read) == 3)
        reader.drain(lambda: reader.held() == 0)
        reader.close()


def test_in_an_event_loop_entries_come_by_the_bell_and_acks_leave_soon(deployment) -> None:
    reader, hub = Reader(deployment, prefetch=4), Hub()
    reader.connection.transport.register_with_event_loop(reader.connection.connection, hub)
    asked: list[int] = []
    ask = reader.channel.line._ask

    def count(wanted: int) -> None:
        asked.append(wanted)
        ask(wanted)

    reader.channel.line._ask = count
    run(hub, lambda: asked)
    for job_id in map(str, range(20)):
        reader.push(job_id)
        # In less than it takes from one look to the next.
        run(hub, partial(reader.has_read, job_id), seconds=0.8)
    run(hub, lambda: reader.held() == 0)
    assert len(asked) < 60
    reader.close()
    hub.close()


def test_an_acknowledgement_by_another_thread_wakes_the_event_loop(deployment: Deployment) -> None:
    reader, hub = Reader(deployment, prefetch=1), Hub()
    reader.connection.transport.register_with_event_loop(reader.connection.connection, hub)

    def later(message: Any) -> None:
        threading.Timer(0.01, message.ack).start()

    reader.handle = later
    reader.push(*map(str, range(10)))
    loop = hub.create_loop()
    hub.timer.clear()  # nothing wakes the loop but the acknowledgements
    limit = time.monotonic() + 5
    while len(reader.read) < 10:
        assert time.monotonic() < limit
        next(loop)
    reader.close()
    hub.close()
