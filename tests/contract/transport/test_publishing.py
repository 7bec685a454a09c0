"""What follows from a job's success is sent once, by the worker that holds it."""

import json
from collections.abc import Iterator
from typing import cast

import pytest
import redis
from celery import Celery

from contract.deployment import Deployment
from contract.envelope import DELIVERY, Delivery
from contract.outages import is_passing
from contract.result_store import Entry, ResultStore
from contract.transport import Amqp
from contract.transport.publishing import Sequel
from gristmill.server import EmbeddedServer

DEPLOYMENT = Deployment(prefix="sequels:")


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as raw:
        yield raw
        raw.config_set("maxmemory", "0")
        for key in raw.scan_iter("sequels:*"):
            raw.delete(key)


@pytest.fixture
def delivery(raw: redis.Redis) -> Delivery:
    """Hold a job, as a worker does."""
    delivery = Delivery(inbox=DEPLOYMENT.inbox_key("w"), tag="1 sequels:celery")
    raw.hset(delivery.inbox, delivery.tag, b"its message")
    return delivery


def put(raw: redis.Redis, number: str = "0.0", delivery: Delivery | None = None) -> list[bytes]:
    """Send `number` of what follows job "a", and return what is in the queue then."""
    Sequel("a", number, delivery=delivery).put(raw, DEPLOYMENT, "sequels:next", number)
    return cast(list[bytes], raw.lrange("sequels:next", 0, -1))


def end(raw: redis.Redis) -> None:
    meta = json.dumps({"status": "SUCCESS", "result": 1})
    ResultStore(raw, DEPLOYMENT).store(
        Entry(job_id="a", state="SUCCESS", meta=meta, life_seconds=100)
    )


def test_each_is_sent_once_however_often_it_is_told(raw, delivery) -> None:
    assert put(raw, "0.0", delivery) == [b"0.0"]
    assert put(raw, "0.0", delivery) == [b"0.0"]
    assert put(raw, "0.1", delivery) == [b"0.1", b"0.0"]
    # A try of the job that came to nothing sent nothing: the next one's are others.
    assert put(raw, "1.0", delivery) == [b"1.0", b"0.1", b"0.0"]


def test_what_was_sent_is_known_until_the_end_is_stored(raw, delivery) -> None:
    put(raw, "0.0", delivery)
    assert 0 < raw.ttl(DEPLOYMENT.sent_key("a")) <= 24 * 3600
    end(raw)
    assert raw.exists(DEPLOYMENT.sent_key("a")) == 0


def test_the_echo_of_a_job_that_has_ended_sends_nothing(raw, delivery) -> None:
    end(raw)
    assert put(raw, "0.0", delivery) == []


def test_a_worker_whose_lease_ran_out_sends_nothing(raw, delivery) -> None:
    raw.delete(delivery.inbox)
    assert put(raw, "0.0", delivery) == []
    assert put(raw, "0.0") == [b"0.0"]  # acknowledged before it ran, which nobody can lose


def test_what_follows_a_failure_is_sent_once_after_it(raw) -> None:
    end(raw)
    errback = Sequel("a", "failure.0", is_of_success=False)
    for _ in range(2):
        errback.put(raw, DEPLOYMENT, "sequels:next", "errback")
    assert raw.lrange("sequels:next", 0, -1) == [b"errback"]


def test_a_full_broker_is_one_to_come_back_to(raw, delivery) -> None:
    raw.config_set("maxmemory", "1")
    for _ in range(2):  # with the script whole, and by its digest
        with pytest.raises(redis.exceptions.OutOfMemoryError) as refusal:
            put(raw, "0.0", delivery)
        assert is_passing(refusal.value)
    raw.config_set("maxmemory", "0")
    assert put(raw, "0.0", delivery) == [b"0.0"]


def test_where_a_message_was_delivered_is_not_sent_on_with_it(server, raw, delivery) -> None:
    deployment = Deployment(url=server.url, prefix="sequels:")
    app = Celery(amqp=Amqp, set_as_current=False, broker=deployment.broker_url)
    app.conf.broker_transport_options = deployment.transport_options
    # As a retry does, with all headers that its request came with.
    app.send_task("task", headers={DELIVERY: delivery.to_header(), "own": 1}, queue="next")
    app.close()
    headers = json.loads(raw.rpop("sequels:next"))["headers"]
    assert DELIVERY not in headers
    assert headers["own"] == 1


def test_a_queue_of_another_type_leaves_no_trace(raw, delivery) -> None:
    raw.set("sequels:next", "text")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        Sequel("a", "0.0", delivery=delivery).put(raw, DEPLOYMENT, "sequels:next", "entry")
    raw.delete("sequels:next")
    assert put(raw, "0.0", delivery) == [b"0.0"]
