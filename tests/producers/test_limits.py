"""Limits of a client: it does not enqueue behind a queue that is too long or too old."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.envelope import HEADER
from contract.errors import BrokerUnavailable, InvalidRequest, QueueFull
from gristmill.server import free_port
from producers import Client, analytics, limits, mcts

OPERATION = mcts.ucb1_selection
REQUEST = OPERATION.build(visits=[[1, 2]], value_sums=[[0.5, 1.0]], parent_visits=[3])


@pytest.fixture
def limited(server, client: Client):
    """Make clients of the test's deployment with limits."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(server.url, prefix=client.deployment.prefix, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def old_message(raw, client: Client, seconds: float, *, at: str = "mcts", **extra: Any) -> None:
    """Put a message at the head of a queue that was submitted so long ago."""
    now = raw.time()[0]
    headers = {"id": "1", "task": OPERATION.name, HEADER: {"submitted_at": now - seconds}}
    entry = {"body": "eyJzdWJtaXR0ZWRfYXQiOiAxfQ==", "headers": {**headers, **extra}}
    raw.rpush(f"{client.deployment.prefix}{at}", json.dumps(entry))


def test_no_limit_looks_at_nothing(client: Client, raw) -> None:
    client.submit(OPERATION, REQUEST)
    before = raw.info("commandstats")
    for _ in range(5):
        client.submit(OPERATION, REQUEST)
    after = raw.info("commandstats")
    for command in ("cmdstat_llen", "cmdstat_lindex"):
        assert after.get(command) == before.get(command)


def test_a_queue_that_is_too_long_is_refused(limited, raw) -> None:
    client = limited(max_queue_length=3)
    for _ in range(3):
        client.submit(OPERATION, REQUEST)
    with pytest.raises(QueueFull, match=r"^queue mcts: 3 jobs, expected fewer than 3$"):
        client.submit(OPERATION, REQUEST)
    assert raw.llen(f"{client.deployment.prefix}mcts") == 3


def test_every_priority_of_a_stock_client_counts(limited, raw) -> None:
    client = limited(max_queue_length=2)
    raw.lpush(f"{client.deployment.prefix}mcts\x06\x163", "x")
    raw.lpush(f"{client.deployment.prefix}mcts\x06\x169", "x")
    with pytest.raises(QueueFull):
        client.submit(OPERATION, REQUEST)


def test_each_family_has_its_own_queue(limited) -> None:
    client = limited(max_queue_length=1)
    client.submit(OPERATION, REQUEST)
    statistics = analytics.basic_statistics
    client.submit(statistics, statistics.build([1.0]))
    with pytest.raises(QueueFull, match="queue analytics"):
        client.submit(statistics, statistics.build([1.0]))


def test_a_queue_that_was_worked_off_takes_jobs_at_once(limited, raw) -> None:
    client = limited(max_queue_length=1)
    client.submit(OPERATION, REQUEST)
    with pytest.raises(QueueFull):
        client.submit(OPERATION, REQUEST)
    raw.rpop(f"{client.deployment.prefix}mcts")
    time.sleep(0.06)
    client.submit(OPERATION, REQUEST)


def test_a_queue_whose_oldest_job_waits_too_long_is_refused(limited, raw) -> None:
    client = limited(max_queue_age_seconds=60)
    old_message(raw, client, 30)
    client.submit(OPERATION, REQUEST)
    old_message(raw, client, 90, kwargsrepr="name='\"submitted_at\": 1'")
    raw_age = limited(max_queue_age_seconds=60)
    with pytest.raises(QueueFull, match=r"oldest job waits for 9\d\.\d s, expected at most 60 s$"):
        raw_age.submit(OPERATION, REQUEST)


def test_a_message_that_does_not_tell_its_age_is_not_old(limited, raw) -> None:
    client = limited(max_queue_age_seconds=1)
    told = ("null", '"1.5"', "1.2.3", "e", "1e999")
    for entry in ("no message", *(f'{{"submitted_at": {value}}}' for value in told)):
        raw.rpush(f"{client.deployment.prefix}mcts", entry)
        limited(max_queue_age_seconds=1).submit(OPERATION, REQUEST)


def test_a_look_counts_for_a_while(limited, raw, monkeypatch) -> None:
    monkeypatch.setattr(limits, "LOOK_SECONDS", 30.0)
    client = limited(max_queue_length=1000, max_queue_age_seconds=60)
    before = raw.info("commandstats").get("cmdstat_lindex", {"calls": 0})["calls"]
    for _ in range(50):
        client.submit(OPERATION, REQUEST)
    assert raw.info("commandstats")["cmdstat_lindex"]["calls"] == before + 1


def test_threads_stay_within_the_limit(limited, raw) -> None:
    client = limited(max_queue_length=20)

    def submit(_: int) -> bool:
        try:
            client.submit(OPERATION, REQUEST)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        accepted = sum(threads.map(submit, range(100)))
    assert 10 < accepted <= 20
    assert raw.llen(f"{client.deployment.prefix}mcts") == accepted


def test_a_job_that_is_there_already_needs_no_room(limited, raw) -> None:
    client = limited(max_queue_length=1)
    job = client.submit(OPERATION, REQUEST, idempotency_key="k")
    assert client.submit(OPERATION, REQUEST, idempotency_key="k").id == job.id
    with pytest.raises(QueueFull):
        client.submit(OPERATION, REQUEST, idempotency_key="l")
    assert raw.keys(f"{client.deployment.prefix}gristmill:once:*") == [
        client.deployment.once_key(OPERATION.name, "k").encode()
    ]


def test_the_environment_sets_limits_where_none_are_given(server, monkeypatch) -> None:
    monkeypatch.setenv("GRISTMILL_MAX_QUEUE_LENGTH", "7")
    monkeypatch.setenv("GRISTMILL_MAX_QUEUE_AGE_SECONDS", "1.5")
    client = Client(server.url)
    assert (client.limits.max_length, client.limits.max_age_seconds) == (7, 1.5)
    client = Client(server.url, max_queue_length=8, max_queue_age_seconds=0)
    assert (client.limits.max_length, client.limits.max_age_seconds) == (8, 0)
    monkeypatch.setenv("GRISTMILL_MAX_QUEUE_LENGTH", "")
    assert Client(server.url).limits.max_length is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("GRISTMILL_MAX_QUEUE_LENGTH", "many"),
        ("GRISTMILL_MAX_QUEUE_LENGTH", "-1"),
        ("GRISTMILL_MAX_QUEUE_LENGTH", "1.5"),
        ("GRISTMILL_MAX_QUEUE_AGE_SECONDS", "1 h"),
        ("GRISTMILL_MAX_QUEUE_AGE_SECONDS", "nan"),
        ("GRISTMILL_MAX_QUEUE_AGE_SECONDS", "-1"),
    ],
)
def test_a_variable_that_is_no_limit_is_refused(monkeypatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(InvalidRequest, match=f"^{variable}: '{text}', expected "):
        Client("redis://127.0.0.1")


@pytest.mark.parametrize(
    "options",
    [
        {"max_queue_length": -1},
        {"max_queue_length": 1.5},
        {"max_queue_length": True},
        {"max_queue_length": "7"},
        {"max_queue_age_seconds": -1},
        {"max_queue_age_seconds": "7"},
        {"max_queue_age_seconds": float("nan")},
    ],
)
def test_what_is_no_limit_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidRequest, match=f"^{name}: .*, expected .*zero or more"):
        Client("redis://127.0.0.1", **options)


def test_a_broker_that_is_away_is_no_full_queue() -> None:
    client = Client(f"redis://127.0.0.1:{free_port()}", max_queue_length=3)
    with pytest.raises(BrokerUnavailable, match="; nothing was enqueued"):
        client.submit(OPERATION, REQUEST)
