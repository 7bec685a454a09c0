"""`gristmill metrics`: what Prometheus reads of a deployment, looked at with its own parser."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from contract.events import Events
from contract.families import FAMILIES, operations
from gristmill.cli import app
from gristmill.metrics import text
from gristmill.server import EmbeddedServer
from producers import Client, mcts

ROOT = Path(__file__).parents[2]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def deployment(server: EmbeddedServer, request: pytest.FixtureRequest) -> Deployment:
    return Deployment(url=server.url, prefix=request.node.name)


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as raw:
        yield raw


def read(told: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


def metrics(deployment: Deployment) -> Samples:
    return read(text(deployment.url, deployment.prefix))


def sample(found: Samples, name: str, **labels: str) -> float:
    return found[f"gristmill_{name}", tuple(sorted(labels.items()))]


def test_an_idle_deployment_is_all_zeros(deployment: Deployment) -> None:
    found = metrics(deployment)
    assert sample(found, "broker_up") == 1
    found.pop(("gristmill_broker_up", ()))
    assert set(found.values()) == {0}
    for queue in (*FAMILIES, "celery"):
        for priority in "0369":
            assert sample(found, "queue_length", queue=queue, priority=priority) == 0
            assert sample(found, "queue_oldest_age_seconds", queue=queue, priority=priority) == 0


def test_queues_tell_their_length_and_the_age_of_their_oldest(deployment, raw) -> None:
    with Client(deployment.url, prefix=deployment.prefix):
        for _ in range(3):
            mcts.ucb1_selection.submit([[1, 2]], [[0.5, 1.0]], [3])
    # An hour ago by its own words, and behind a body that says otherwise.
    key = deployment.queue_key("mcts")
    oldest = json.loads(raw.lindex(key, -1))
    oldest["headers"]["gristmill"]["submitted_at"] -= 3600
    raw.lset(key, -1, json.dumps(oldest))
    found = metrics(deployment)
    assert sample(found, "queue_length", queue="mcts", priority="0") == 3
    age = sample(found, "queue_oldest_age_seconds", queue="mcts", priority="0")
    assert 3600 <= age < 3660
    assert sample(found, "queue_length", queue="fusion", priority="0") == 0


def test_messages_of_other_priorities_are_counted_apart(deployment, raw) -> None:
    raw.lpush(deployment.queue_key("mcts\x06\x169"), "one", "two")
    found = metrics(deployment)
    assert sample(found, "queue_length", queue="mcts", priority="9") == 2
    assert sample(found, "queue_length", queue="mcts", priority="0") == 0


def test_an_entry_without_a_date_has_no_age(deployment: Deployment, raw: redis.Redis) -> None:
    raw.lpush(deployment.queue_key("celery"), b"\xff" * 100_000)
    found = metrics(deployment)
    assert sample(found, "queue_length", queue="celery", priority="0") == 1
    with pytest.raises(KeyError):
        sample(found, "queue_oldest_age_seconds", queue="celery", priority="0")


def test_a_key_that_is_no_list_is_no_queue(deployment: Deployment, raw: redis.Redis) -> None:
    raw.set(deployment.queue_key("celery"), "text")
    assert sample(metrics(deployment), "queue_length", queue="celery", priority="0") == 0


def test_what_workers_hold_is_counted(deployment: Deployment, raw: redis.Redis) -> None:
    now = raw.time()[0]
    raw.zadd(deployment.leases_key, {"here@a": now + 4, "there@b": now - 4})
    raw.hset(deployment.inbox_key("here@a"), mapping={"1": "a", "2": "b"})
    raw.hset(deployment.inbox_key("there@b"), mapping={"1": "c"})
    found = metrics(deployment)
    assert sample(found, "workers") == 1
    assert sample(found, "unacked_count") == 3  # those of a worker that is gone too


def test_dead_letters_and_events_are_counted(deployment: Deployment, raw: redis.Redis) -> None:
    DeadLetters(raw, deployment).add(b"entry", "no message")
    events = Events(raw, deployment)
    for reason in ("error", "error", "breaker", "no such reason"):
        events.count("fallback", operation="mcts.ucb1_selection", reason=reason)
    found = metrics(deployment)
    assert sample(found, "dlq_size") == 1
    for reason, count in (("error", 2), ("breaker", 1), ("other", 1), ("lost", 0)):
        labels = {"operation": "mcts.ucb1_selection", "reason": reason}
        assert sample(found, "fallback_total", **labels) == count


def test_open_breakers_are_counted_until_their_end(deployment, raw) -> None:
    events, now = Events(raw, deployment), raw.time()[0]
    events.mark_breaker("mcts.ucb1_selection", "worker@a/1", now + 30)
    events.mark_breaker("mcts.ucb1_selection", "worker@a/2", now + 30)
    events.mark_breaker("analytics.basic_statistics", "worker@a/1", now - 1)
    found = metrics(deployment)
    opened = {name: sample(found, "breaker_open", operation=name) for name in operations()}
    assert {name: count for name, count in opened.items() if count} == {"mcts.ucb1_selection": 2}
    events.mark_breaker("mcts.ucb1_selection", "worker@a/1", None)
    assert sample(metrics(deployment), "breaker_open", operation="mcts.ucb1_selection") == 1


def test_the_servers_memory_is_told_where_it_has_a_limit(tmp_path: Path) -> None:
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as raw:
        raw.config_set("maxmemory", "100mb")
        ratio = sample(metrics(Deployment(url=server.url)), "redis_used_memory_ratio")
    assert 0 < ratio < 0.5


def test_reading_changes_nothing(deployment: Deployment, raw: redis.Redis) -> None:
    metrics(deployment)
    assert raw.keys(f"{deployment.prefix}*") == []


def test_a_server_that_is_down_is_told_too() -> None:
    assert read(text("redis://127.0.0.1:1", "")) == {("gristmill_broker_up", ()): 0}


def test_the_command_says_why_there_are_none() -> None:
    told = CliRunner().invoke(app, ["metrics", "--url", "redis://:secret@127.0.0.1:1"])
    assert told.exit_code == 0
    assert read(told.stdout) == {("gristmill_broker_up", ()): 0}
    assert told.stderr.startswith("metrics: server redis://***@127.0.0.1:1")
    assert "secret" not in told.stderr


def test_names_are_as_prometheus_wants_them(deployment: Deployment) -> None:
    for family in text_string_to_metric_families(text(deployment.url, deployment.prefix)):
        assert re.fullmatch(r"gristmill_[a-z0-9_]+", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge")


def test_the_command_prints_them(deployment: Deployment) -> None:
    options = ["metrics", "--url", deployment.url, "--prefix", deployment.prefix]
    told = CliRunner().invoke(app, options)
    assert told.exit_code == 0
    assert told.stderr == ""
    assert sample(read(told.stdout), "broker_up") == 1


def test_the_command_refuses_what_is_no_address() -> None:
    told = CliRunner().invoke(app, ["metrics", "--url", "http://nowhere"])
    assert told.exit_code == 1
    assert told.stderr.startswith("metrics: url: 'http://nowhere', expected redis://")


def test_the_command_serves_them_until_it_is_stopped(deployment: Deployment) -> None:
    options = ["metrics", "--port", "0", "--url", deployment.url]
    with subprocess.Popen(
        [sys.executable, "-m", "gristmill", *options],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            place = running.stdout.readline().strip()
            with urllib.request.urlopen(place, timeout=10) as answer:
                assert sample(read(answer.read().decode()), "broker_up") == 1
            running.send_signal(signal.SIGTERM)
            assert running.wait(10) == 0
        finally:
            running.kill()
