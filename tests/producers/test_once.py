"""Idempotency keys: one job under one key, whoever submits it, and however often."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery.app.task import Context
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contract.envelope import HEADER
from contract.errors import BrokerUnavailable, InvalidRequest, QueueFull
from contract.idempotency import MAX_BYTES
from gristmill.server import EmbeddedServer
from gristmill.testing import in_process
from producers import Client, analytics, mcts
from tests.integration.worker import wait_until

OPERATION = mcts.ucb1_selection
FIELDS: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
OTHER = {**FIELDS, "exploration": 2.0}


def queued(raw: redis.Redis, client: Client, queue: str = "mcts") -> list[dict[str, Any]]:
    """Return the messages of a queue, last first."""
    found: Any = raw.lrange(f"{client.deployment.prefix}{queue}", 0, -1)
    return [json.loads(entry) for entry in found]


def keys(raw: redis.Redis, client: Client) -> dict[str, Any]:
    """Return what stands under each idempotency key of a deployment."""
    start = f"{client.deployment.prefix}gristmill:once:"
    found: Any = raw.keys(f"{start}*")
    return {key.decode().removeprefix(start): raw.get(key) for key in found}


def end(client: Client, message: dict[str, Any], state: str = "SUCCESS") -> None:
    """End a job as its worker would."""
    request = Context({**message["headers"], "id": message["headers"]["id"]})
    client._here().app.backend.store_result(request.id, {}, state, request=request)


@pytest.fixture(autouse=True)
def current(client: Client):
    with client:
        yield


def test_the_same_key_is_the_same_job(client: Client, raw) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key="order 7")
    again = OPERATION.submit(**FIELDS, idempotency_key="order 7")
    assert again.id == first.id
    (message,) = queued(raw, client)
    assert message["headers"]["id"] == first.id
    assert message["headers"][HEADER]["idempotency_key"] == "order 7"
    assert message["headers"][HEADER]["idempotency_seconds"] == 3600


def test_requests_are_the_same_whatever_they_were_made_from(client: Client, raw) -> None:
    first = OPERATION.submit([[1, 2]], [[0.5, 1.0]], [3], idempotency_key="k")
    assert OPERATION.submit(((1, 2),), ((0.5, 1),), (3.0,), idempotency_key="k").id == first.id
    assert OPERATION.submit(**FIELDS, deadline_seconds=5, idempotency_key="k").id == first.id


def test_another_key_and_no_key_are_other_jobs(client: Client, raw) -> None:
    ids = {
        OPERATION.submit(**FIELDS, idempotency_key="a").id,
        OPERATION.submit(**FIELDS, idempotency_key="b").id,
        OPERATION.submit(**FIELDS).id,
        OPERATION.submit(**FIELDS).id,
    }
    assert len(ids) == 4
    assert len(queued(raw, client)) == 4


def test_another_operations_key_is_another_key(client: Client, raw) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key="k")
    assert analytics.basic_statistics.submit([1.0, 2.0], idempotency_key="k").id != first.id


def test_another_deployments_key_is_another_key(client: Client, server) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key="k")
    with Client(server.url, prefix="another:"):
        assert OPERATION.submit(**FIELDS, idempotency_key="k").id != first.id


def test_a_key_of_another_request_is_refused(client: Client, raw) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key="order 7")
    expected = rf"^idempotency_key: 'order 7' stands for job {first.id} with another request, exp"
    with pytest.raises(InvalidRequest, match=expected):
        OPERATION.submit(**OTHER, idempotency_key="order 7")
    assert len(queued(raw, client)) == 1


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_key_stands_for_its_job_for_a_while_after_the_end(client, raw, state) -> None:
    job = OPERATION.submit(**FIELDS, idempotency_key="k", idempotency_seconds=100)
    key = client.deployment.once_key(OPERATION.name, "k")
    assert raw.ttl(key) > 29 * 24 * 3600
    end(client, queued(raw, client)[0], state)
    assert 90 < raw.ttl(key) <= 100
    again = OPERATION.submit(**FIELDS, idempotency_key="k")
    assert again.id == job.id
    assert again.status() != "queued"


def test_a_key_that_ends_with_its_job_may_be_used_anew(client: Client, raw) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key="k", idempotency_seconds=0)
    end(client, queued(raw, client)[0])
    time.sleep(0.02)
    assert OPERATION.submit(**OTHER, idempotency_key="k").id != first.id


@pytest.mark.parametrize(
    "key", ["", 7, None.__class__, b"k", "x" * (MAX_BYTES + 1), "\u00e9" * MAX_BYTES, "\ud800"]
)
def test_a_key_that_is_none_is_refused(client: Client, raw, key: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^idempotency_key: .*, expected text of 1 to 256 by"):
        OPERATION.submit(**FIELDS, idempotency_key=key)
    assert queued(raw, client) == []


@pytest.mark.parametrize("seconds", [-1, "60", None, float("nan"), float("inf"), 10**9])
def test_seconds_that_are_none_are_refused(client: Client, raw, seconds: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^idempotency_seconds: .*, expected seconds, 0 to 2"):
        OPERATION.submit(**FIELDS, idempotency_key="k", idempotency_seconds=seconds)


@pytest.mark.parametrize("key", [" ", "a b", "a:b:c", "é 漢", "\n", "*", "x" * MAX_BYTES])
def test_any_text_may_be_a_key(client: Client, raw, key: str) -> None:
    first = OPERATION.submit(**FIELDS, idempotency_key=key)
    assert OPERATION.submit(**FIELDS, idempotency_key=key).id == first.id
    assert len(queued(raw, client)) == 1


# --- Against a model ---


class Once(RuleBasedStateMachine):
    """Any submits and ends against a dictionary of what each key stands for."""

    server: EmbeddedServer

    @initialize()
    def begin(self) -> None:
        self.client = Client(self.server.url, prefix="once-model:")
        self.raw = redis.Redis.from_url(self.server.url)
        for key in self.raw.keys("once-model:*"):
            self.raw.delete(key)
        self.named: dict[tuple[str, str], tuple[str, int]] = {}
        self.waiting: list[str] = []

    @rule(key=st.sampled_from("ab"), number=st.integers(1, 2), name=st.sampled_from(["u", "s"]))
    def submit(self, key: str, number: int, name: str) -> None:
        operation: Any = mcts.ucb1_selection if name == "u" else analytics.basic_statistics
        fields = {**FIELDS, "exploration": number} if name == "u" else {"values": [number]}
        stands = self.named.get((name, key))
        with self.client:
            if stands is not None and stands[1] != number:
                with pytest.raises(InvalidRequest, match=stands[0]):
                    operation.submit(**fields, idempotency_key=key, idempotency_seconds=0)
                return
            job = operation.submit(**fields, idempotency_key=key, idempotency_seconds=0)
        if stands is None:
            self.named[name, key] = job.id, number
            self.waiting.append(job.id)
        assert job.id == self.named[name, key][0]

    @rule(state=st.sampled_from(["SUCCESS", "FAILURE", "REVOKED"]), queue=st.booleans())
    def run_one(self, state: str, queue: bool) -> None:
        entry: Any = self.raw.rpop(f"once-model:{'mcts' if queue else 'analytics'}")
        if entry:
            message = json.loads(entry)
            end(self.client, message, state)
            time.sleep(0.003)
            self.waiting.remove(message["headers"]["id"])
            self.named = {k: v for k, v in self.named.items() if v[0] in self.waiting}

    @invariant()
    def each_key_has_a_job_and_each_job_a_key(self) -> None:
        if hasattr(self, "raw"):
            standing = {value.split()[0].decode() for value in keys(self.raw, self.client).values()}
            waiting = [
                message["headers"]["id"]
                for queue in ("mcts", "analytics")
                for message in queued(self.raw, self.client, queue)
            ]
            assert sorted(waiting) == sorted(self.waiting)
            assert standing == set(waiting)

    def teardown(self) -> None:
        if hasattr(self, "raw"):
            self.client.close()
            self.raw.close()


def test_keys_stand_for_what_a_model_says(server: EmbeddedServer) -> None:
    class OnServer(Once):
        pass

    OnServer.server = server
    OnServer.TestCase.settings = settings(
        max_examples=20, stateful_step_count=12, deadline=None, derandomize=True
    )
    OnServer.TestCase("runTest").runTest()


# --- Many at once, and ends at any moment ---


def test_threads_that_submit_one_key_at_once_get_one_job(client: Client, raw) -> None:
    start = threading.Barrier(16)

    def submit(_: int) -> str:
        start.wait()
        return client.submit(OPERATION, OPERATION.build(**FIELDS), idempotency_key="k").id

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(submit, range(16)))) == 1
    assert len(queued(raw, client)) == 1


RACE = """
import os, sys, time
from producers import Client, mcts

url, prefix, many, jobs, start_at, own = sys.argv[1:]
client = Client(url, prefix=prefix)
request = mcts.ucb1_selection.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])
children = []
for child in range(int(many)):
    children.append(os.fork())
    if not children[-1]:
        os.close(2)
        client.look("warm")
        time.sleep(max(0.0, float(start_at) - time.time()))
        for number in range(int(jobs)):
            key = f"{own and child} {number}"
            job = client.submit(mcts.ucb1_selection, request, idempotency_key=key)
            os.write(1, f"{job.id}\\n".encode())
        os._exit(0)
os.write(2, " ".join(map(str, children)).encode())
os.close(2)
for child in children:
    os.waitpid(child, 0)
"""


def race(server: EmbeddedServer, client: Client, many: int, jobs: int, start_at: float, own: str):
    """Submit from so many processes, each under keys of its own or all under the same."""
    words = (client.deployment.prefix, many, jobs, start_at, own)
    return subprocess.Popen(
        [sys.executable, "-c", RACE, server.url, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sixteen_processes_that_submit_one_key_at_once_get_one_job(server, client, raw) -> None:
    told, _ = race(server, client, 16, 3, time.time() + 3, "").communicate()
    ids = told.split()
    assert len(ids) == 48
    assert len(set(ids)) == len(queued(raw, client)) == 3


def test_a_producer_killed_at_any_moment_leaves_no_key_without_a_job(server, client, raw) -> None:
    racers = race(server, client, 12, 100_000, 0, "own")
    children = racers.stderr.read().split()
    for number, child in enumerate(children):
        wait_until(lambda least=20 * number: len(queued(raw, client)) > least, 30)
        os.kill(int(child), signal.SIGKILL)
    told, _ = racers.communicate()
    waiting = {message["headers"]["id"] for message in queued(raw, client)}
    standing = [value.split()[0].decode() for value in keys(raw, client).values()]
    assert sorted(standing) == sorted(waiting)
    assert set(told.split()) <= waiting
    assert len(waiting) > 20


# --- Trouble ---


def test_an_answer_that_was_lost_is_asked_for_and_makes_no_second_job(client, raw, monkeypatch):
    from producers.sending import _Line

    write, cuts = _Line.write, [True, False]

    def cut(line: _Line, *commands: Any) -> Any:
        answer = write(line, *commands)
        if cuts.pop(0):
            raise redis.ConnectionError("cut")
        return answer

    monkeypatch.setattr(_Line, "write", cut)
    job = OPERATION.submit(**FIELDS, idempotency_key="k")
    (message,) = queued(raw, client)
    assert message["headers"]["id"] == job.id


def test_who_cannot_know_says_so_and_may_ask_again_by_the_key(client, raw, monkeypatch) -> None:
    from producers import sending

    write = sending._Line.write

    def cut(line: Any, *commands: Any) -> Any:
        write(line, *commands)
        raise redis.ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(sending._Line, "write", cut)
        patch.setattr(sending, "PAUSES", (0.0,))
        with pytest.raises(BrokerUnavailable, match="it may have accepted the job, as ") as caught:
            OPERATION.submit(**FIELDS, idempotency_key="k")
    assert OPERATION.submit(**FIELDS, idempotency_key="k").id == caught.value.args[1]
    assert len(queued(raw, client)) == 1


def test_a_full_broker_takes_neither_key_nor_job() -> None:
    with (
        EmbeddedServer() as server,
        redis.Redis.from_url(server.url) as raw,
        Client(server.url) as client,
    ):
        first = OPERATION.submit(**FIELDS, idempotency_key="k")
        raw.config_set("maxmemory", "1")
        with pytest.raises(QueueFull):
            OPERATION.submit(**FIELDS, idempotency_key="other")
        assert OPERATION.submit(**FIELDS, idempotency_key="k").id == first.id
        assert list(keys(raw, client)) == ["mcts.ucb1_selection:k"]
        assert len(queued(raw, client)) == 1


def test_a_queue_that_is_none_leaves_no_key(client: Client, raw) -> None:
    raw.set(f"{client.deployment.prefix}mcts", "text")
    with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
        OPERATION.submit(**FIELDS, idempotency_key="k")
    assert keys(raw, client) == {}


# --- In process ---


def test_keys_mean_the_same_in_process() -> None:
    with in_process():
        first = OPERATION.submit(**FIELDS, idempotency_key="k")
        assert OPERATION.submit(**FIELDS, idempotency_key="k").id == first.id
        assert OPERATION.submit(**FIELDS, idempotency_key="l").id != first.id
        assert analytics.basic_statistics.submit([1.0], idempotency_key="k").id != first.id
        with pytest.raises(InvalidRequest, match=f"stands for job {first.id} with another"):
            OPERATION.submit(**OTHER, idempotency_key="k")
        assert first.result().chosen.tolist() == [0]
        assert OPERATION.submit(**FIELDS, idempotency_key="k").result().chosen.tolist() == [0]
        brief = OPERATION.submit(**FIELDS, idempotency_key="m", idempotency_seconds=0)
        brief.result()
        time.sleep(0.01)
        assert OPERATION.submit(**OTHER, idempotency_key="m").id != brief.id
