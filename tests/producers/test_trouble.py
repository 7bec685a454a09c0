"""Trouble with the broker: who waits goes on waiting, who submits is told what became of it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import redis

from contract.errors import BrokerUnavailable, JobCancelled, ResultTimeout
from contract.results import Answer
from gristmill.server import EmbeddedServer, free_port
from producers import Client, Job, analytics, mcts, sending
from producers import process as process_module
from producers.process import Process
from tests.producers.proxy import Proxy

OPERATION = mcts.ucb1_selection
STATISTICS = analytics.basic_statistics
REQUEST = OPERATION.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])
ANSWER = {
    "backend": "fallback",
    "simd": "none",
    "threads": 1,
    "kernel_seconds": 0.25,
    "queue_seconds": 0.5,
    "scores": np.array([[1.0, np.inf]]),
    "chosen": np.array([1]),
}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """Give a server that the test may harm."""
    with EmbeddedServer(append_only=True, settings={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Take a second of silence for the five that a client has."""
    monkeypatch.setattr(process_module, "CONNECT_SECONDS", 1.0)


@pytest.fixture
def road(server: EmbeddedServer) -> Iterator[tuple[Proxy, Client]]:
    """Give a client that reaches the server through a network of its own."""
    with Proxy(server.port) as proxy, Client(proxy.url(server.password)) as client:
        yield proxy, client


def finish(server: EmbeddedServer, job: Job) -> None:
    """End a job as its worker would, wherever that is."""
    with Client(server.url) as worker:
        worker._here().app.backend.store_result(job.id, Answer(ANSWER), "SUCCESS")


def waiting(job: Job, timeout: float = 30) -> tuple[Any, ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(1)
    found = pool.submit(job.result, timeout=timeout)
    time.sleep(0.3)
    return found, pool


def test_who_waits_outlives_a_restart_of_the_broker(server: EmbeddedServer) -> None:
    with Client(server.url) as client:
        job = client.submit(OPERATION, REQUEST)
        found, pool = waiting(job)
        server.kill()
        time.sleep(1.5)
        assert not found.done()
        server.start()
        finish(server, job)
        assert found.result(10).chosen.tolist() == [1]
        pool.shutdown()


def test_who_waits_outlives_a_cut_of_the_network(server, road) -> None:
    proxy, client = road
    job = client.submit(OPERATION, REQUEST)
    found, pool = waiting(job)
    proxy.cut()
    finish(server, job)
    time.sleep(1.0)
    assert not found.done()
    proxy.mend()
    assert found.result(10).chosen.tolist() == [1]
    pool.shutdown()


def test_who_waits_on_a_connection_that_leads_nowhere_notices(server, road) -> None:
    proxy, client = road
    jobs = [client.submit(OPERATION, REQUEST) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(job.result, timeout=30) for job in jobs]
        time.sleep(0.5)
        proxy.silence()
        for job in jobs:
            finish(server, job)
        silent_at = time.monotonic()
        for one in found:
            assert one.result(20).chosen.tolist() == [1]
    # A nap and an answer at most, and the answer of a connection that another left behind.
    assert time.monotonic() - silent_at < 8


def test_who_waits_outlives_a_broker_that_pauses(server: EmbeddedServer) -> None:
    with Client(server.url) as client, redis.Redis.from_url(server.url) as raw:
        job = client.submit(OPERATION, REQUEST)
        found, pool = waiting(job)
        raw.client_pause(2500)
        time.sleep(2.0)
        assert not found.done()
        raw.client_unpause()
        finish(server, job)
        assert found.result(10).chosen.tolist() == [1]
        pool.shutdown()


def test_who_waits_outlives_having_its_connections_killed(server: EmbeddedServer) -> None:
    with Client(server.url) as client, redis.Redis.from_url(server.url) as raw:
        job = client.submit(OPERATION, REQUEST)
        found, pool = waiting(job)
        for _ in range(5):
            raw.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.2)
        assert not found.done()
        finish(server, job)
        assert found.result(10).chosen.tolist() == [1]
        pool.shutdown()


def test_who_waits_follows_a_failover(server: EmbeddedServer, road) -> None:
    proxy, client = road
    settings = {"masterauth": server.password, "replicaof": f"127.0.0.1 {server.port}"}
    job = client.submit(OPERATION, REQUEST)
    with (
        EmbeddedServer(settings=settings) as standby,
        redis.Redis.from_url(server.url) as old,
        redis.Redis.from_url(standby.url) as new,
    ):
        deadline = time.monotonic() + 20
        while not new.exists("mcts") and time.monotonic() < deadline:
            time.sleep(0.05)
        # The same password, as a deployment has on all of its servers.
        new.config_set("requirepass", server.password)
        found, pool = waiting(job)
        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", str(standby.port))  # what is open there can read and not write
        proxy.lead_to(standby.port)
        standby.password = server.password
        job_after = client.submit(OPERATION, REQUEST)
        finish(standby, job)
        assert found.result(15).chosen.tolist() == [1]
        assert new.llen("mcts") == 2
        assert job_after.status() == "queued"
        pool.shutdown()


def test_when_the_time_is_up_the_broker_is_told_to_be_away(server: EmbeddedServer) -> None:
    with Client(server.url) as client:
        job = client.submit(OPERATION, REQUEST)
        server.kill()
        started = time.monotonic()
        expected = rf"^job {job.id}: not known \(broker redis://\*\*\*@.*\) after 1.5 s, expected"
        with pytest.raises(ResultTimeout, match=expected):
            job.result(timeout=1.5)
        assert 1.4 < time.monotonic() - started < 3
        with pytest.raises(BrokerUnavailable):
            job.status()
        with pytest.raises(ResultTimeout):
            job.result(timeout=0)


def test_what_waiting_does_not_mend_is_told_at_once(server: EmbeddedServer) -> None:
    with Client(f"redis://:wr0ng@127.0.0.1:{server.port}/0") as client:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            client.job(OPERATION, "some").result(timeout=20)
        assert time.monotonic() - started < 5


def test_an_error_of_the_job_is_no_trouble_of_ours(server: EmbeddedServer) -> None:
    with Client(server.url) as client:
        job = client.submit(OPERATION, REQUEST)
        client._here().app.backend.mark_as_failure(job.id, BrokerUnavailable("the worker's"))
        with pytest.raises(BrokerUnavailable, match=r"^the worker's$"):
            job.result(timeout=20)
        revoked = client.submit(OPERATION, REQUEST)
        client._here().app.backend.mark_as_revoked(revoked.id)
        with pytest.raises(JobCancelled):
            revoked.result(timeout=20)


# --- Submitting ---


def test_who_submits_to_nobody_knows_that_nothing_was_enqueued() -> None:
    with (
        Client(f"redis://127.0.0.1:{free_port()}") as client,
        pytest.raises(BrokerUnavailable, match=r"; nothing was enqueued$") as caught,
    ):
        client.submit(OPERATION, REQUEST)
    assert len(caught.value.args) == 1


def test_who_submits_into_silence_knows_that_the_job_may_run(server, road) -> None:
    proxy, client = road
    client.submit(OPERATION, REQUEST)
    proxy.is_cut = True  # nobody new is let in
    original = client._here()._sender._try

    def silent(act: Any, until: float) -> Any:
        # Between the last look at the connection and the sending, so that nothing notices.
        def acting(line: Any) -> Any:
            proxy.silence()
            return act(line)

        return original(acting, until)

    client._here()._sender._try = silent
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="; it may have accepted the job, as ") as caught:
        client.submit(OPERATION, REQUEST)
    assert time.monotonic() - started < 2.5
    assert caught.value.args[0].endswith(caught.value.args[1])


def test_a_submit_on_connections_that_lead_nowhere_finds_a_new_one(server, road, monkeypatch):
    monkeypatch.setattr(sending, "PROBE_SECONDS", 0.3)
    proxy, client = road
    client.submit(OPERATION, REQUEST)
    pool = client._here().redis.connection_pool
    for connection in pool._available_connections:
        connection.next_health_check = 0  # as after ten idle seconds
    proxy.silence()
    client.submit(OPERATION, REQUEST)
    with redis.Redis.from_url(server.url) as raw:
        assert raw.llen("mcts") == 2


def test_a_submit_after_a_restart_goes_through(server: EmbeddedServer) -> None:
    with Client(server.url) as client, redis.Redis.from_url(server.url) as raw:
        client.submit(OPERATION, REQUEST)
        server.kill()
        server.start()
        client.submit(OPERATION, REQUEST)
        assert raw.llen("mcts") == 2


def test_a_submit_to_a_broker_that_pauses_ends_in_time(server: EmbeddedServer) -> None:
    with Client(server.url) as client, redis.Redis.from_url(server.url) as raw:
        client.submit(OPERATION, REQUEST)
        client._here()._clock._measured_at = float("-inf")  # as after a minute
        raw.client_pause(4000)
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            client.submit(OPERATION, REQUEST)
        assert time.monotonic() - started < 2.5
        raw.client_unpause()


def test_a_large_message_gets_the_time_that_it_takes(server: EmbeddedServer, monkeypatch) -> None:
    monkeypatch.setattr(sending, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(Process, "until", staticmethod(time.monotonic))  # no time but for its size
    values = np.zeros(3_000_000)
    with Client(server.url) as client, redis.Redis.from_url(server.url) as raw:
        client.job(OPERATION, "some").status()
        client._here()._clock.now()
        client.submit(STATISTICS, STATISTICS.build(values))
        client.submit(STATISTICS, STATISTICS.build(values), idempotency_key="large")
        assert raw.llen("analytics") == 2


def test_threads_that_submit_into_silence_all_end_in_time(road, monkeypatch) -> None:
    proxy, client = road
    client.submit(OPERATION, REQUEST)
    proxy.is_cut = True
    proxy.silence()
    ended: list[float] = []

    def submit() -> None:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            client.submit(OPERATION, REQUEST)
        ended.append(time.monotonic() - started)

    threads = [threading.Thread(target=submit) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 50
    assert max(ended) < 5
