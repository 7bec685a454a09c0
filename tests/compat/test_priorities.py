"""The order in which a worker takes what waits: first come, priorities, fairness between queues."""

from collections.abc import Mapping, Sequence
from itertools import count

import pytest

from tests.compat.conftest import Stands
from tests.compat.stand import STANDS, Stand
from tests.integration.worker import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.compat]

_numbers = count()


@pytest.fixture(scope="session", params=STANDS[:2])
def stand(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Send by Celery's client to Celery's worker, and by ours to ours."""
    return stands.stand(request.param, "--concurrency=2")


def in_turn(stand: Stand, waiting: Mapping[str, Sequence[tuple[str, int | None]]]) -> list[str]:
    """Fill queues with words of a priority, let the worker take them and return their order."""
    key, number = stand.key(), next(_numbers)
    words = []
    for queue, entries in waiting.items():
        for word, priority in entries:
            words.append(word)
            note = stand.task("note", key, word).set(queue=f"{queue}-{number}", priority=priority)
            note.apply_async()
    # One process, so that the order in which they run is that in which they are taken.
    assert stand.tell("pool_shrink", 1) == {"ok": "pool will shrink"}
    for queue in waiting:
        stand.tell("add_consumer", f"{queue}-{number}")
    wait_until(lambda: len(stand.notes(key)) == len(words), 20, lambda: f"saw {stand.notes(key)}")
    for queue in waiting:
        stand.tell("cancel_consumer", f"{queue}-{number}")
    assert stand.tell("pool_grow", 1) == {"ok": "pool will grow"}
    return stand.notes(key)


def test_first_come_first_served(stand: Stand) -> None:
    words = [f"{k:02}" for k in range(20)]
    assert in_turn(stand, {"line": [(word, None) for word in words]}) == words


def test_a_lower_number_is_served_first(stand: Stand) -> None:
    """Kombu's Redis keeps four steps, 0, 3, 6 and 9, with 0 the first to be served."""
    given = [("last", 9), ("third", 6), ("second", 3), ("first", 0), ("last too", 9)]
    assert in_turn(stand, {"ranked": given}) == ["first", "second", "third", "last", "last too"]


def test_a_priority_between_two_steps_counts_as_the_lower(stand: Stand) -> None:
    given = [("eight", 8), ("seven", 7), ("five", 5), ("two", 2), ("one", 1)]
    order = ["two", "one", "five", "eight", "seven"]
    assert in_turn(stand, {"between": given}) == order


def test_queues_take_turns(stand: Stand) -> None:
    many = [(f"m{k}", None) for k in range(30)]
    few = [(f"f{k}", None) for k in range(3)]
    order = in_turn(stand, {"many": many, "few": few})
    assert [word for word in order if word[0] == "m"] == [word for word, _ in many]
    assert [word for word in order if word[0] == "f"] == [word for word, _ in few]
