"""Rare events: counted by bounded labels, read again, and never in anybody's way."""

from typing import Any

import pytest
import redis

from contract.deployment import Deployment
from contract.events import EVENTS, Events, field_of
from contract.families import operations
from gristmill.server import EmbeddedServer


@pytest.fixture
def raw(server: EmbeddedServer):
    with redis.Redis.from_url(server.url) as raw:
        yield raw


@pytest.fixture
def deployment(server: EmbeddedServer, request) -> Deployment:
    return Deployment(url=server.url, prefix=request.node.name)


def test_events_are_counted_by_their_labels(raw: redis.Redis, deployment: Deployment) -> None:
    events = Events(raw, deployment)
    for reason in ("error", "error", "breaker"):
        events.count("fallback", operation="mcts.ucb1_selection", reason=reason)
    events.count("worker_lost", signal="SIGKILL")
    found = events.read()
    assert found["fallback"] == {
        ("mcts.ucb1_selection", "error"): 2,
        ("mcts.ucb1_selection", "breaker"): 1,
    }
    assert found["worker_lost"] == {("SIGKILL",): 1}
    assert found.keys() == EVENTS.keys()
    assert found["poison"] == {}


def test_deployments_count_apart(raw: redis.Redis, deployment: Deployment) -> None:
    Events(raw, deployment).count("poison", reason="lost")
    assert Events(raw, Deployment(prefix="other")).read()["poison"] == {}


def test_a_person_reads_the_hash(raw: redis.Redis, deployment: Deployment) -> None:
    Events(raw, deployment).count("fallback", operation="mcts.ucb1_selection", reason="lost")
    field = b'fallback{operation="mcts.ucb1_selection",reason="lost"}'
    assert raw.hgetall(f"{deployment.prefix}gristmill:events") == {field: b"1"}


@pytest.mark.parametrize("value", ["", "no such", 'a"b', "x" * 10_000, "a,b={}", "\udcff"])
def test_a_label_of_any_text_counts_as_other(raw, deployment: Deployment, value: str) -> None:
    events = Events(raw, deployment)
    events.count("fallback", operation=value, reason=value)
    assert events.read()["fallback"] == {("other", "other"): 1}


def test_there_is_a_bound_on_all_fields_together() -> None:
    most = 0
    for event in EVENTS.values():
        fields = 1
        for legal in event.labels.values():
            fields *= len(legal) + 1
        most += fields
    assert most < 100 + 30 * (len(operations()) + 1)


def test_an_unknown_event_or_label_is_a_slip_of_the_programmer() -> None:
    with pytest.raises(KeyError):
        field_of("no such event")
    with pytest.raises(KeyError, match="expected reason"):
        field_of("poison", signal="SIGKILL")
    with pytest.raises(KeyError):
        field_of("poison")


def test_what_a_newer_version_counted_is_left_out(raw, deployment: Deployment) -> None:
    key = deployment.events_key
    for field in ("new", 'new{a="b"}', 'poison{cause="x"}', "poison", b"\xff", "", "{}"):
        raw.hset(key, field, 7)
    raw.hset(key, field_of("poison", reason="lost"), 3)
    found = Events(raw, deployment).read()
    assert found == {event: {} for event in EVENTS} | {"poison": {("lost",): 3}}


def test_a_broker_that_is_gone_loses_the_count_and_fails_nothing(deployment: Deployment) -> None:
    class Gone:
        def hincrby(self, *_: Any) -> None:
            raise redis.ConnectionError("gone")

    Events(Gone(), deployment).count("poison", reason="lost")  # type: ignore[arg-type]
