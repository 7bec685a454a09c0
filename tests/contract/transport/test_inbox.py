"""The inbox in Redis: reserving, leases, recovery, giving back; against the keys themselves."""

import hashlib
import math
import time
import uuid
from typing import Any

import pytest
import redis

from contract.deployment import Deployment
from contract.transport import scripts
from contract.transport.inbox import Entry, Inbox, LeaseLost
from gristmill.server import EmbeddedServer

LOW = "q\x06\x169"


class Waiting:
    """A message whose job has not begun."""

    has_begun = False

    def hand_back(self) -> bool:
        return not self.has_begun


class Begun(Waiting):
    """A message whose job runs."""

    has_begun = True


class Place:
    """A deployment of its own on the server, and what a test reads and writes there."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.deployment = Deployment(url=server.url, prefix=f"inbox{uuid.uuid4()}:")
        self.raw = redis.Redis.from_url(server.url)
        self.queue, self.low = (f"{self.deployment.prefix}{name}" for name in ("q", LOW))

    def inbox(self) -> Any:
        return Inbox(self.raw, self.deployment)

    def push(self, *entries: str, queue: str = "") -> None:
        for entry in entries:
            self.raw.lpush(queue or self.queue, entry)

    def waiting(self, queue: str = "") -> list[str]:
        """Return what waits in a queue, in the order in which it will be taken."""
        entries: Any = self.raw.lrange(queue or self.queue, 0, -1)
        return [entry.decode() for entry in reversed(entries)]

    def held(self, inbox: Inbox) -> list[bytes]:
        values: Any = self.raw.hvals(inbox.key)
        return sorted(values)

    def lease(self, inbox: Inbox) -> float:
        """Return the seconds that a lease has left; NaN for one that is not there."""
        expiry: Any = self.raw.zscore(self.deployment.leases_key, inbox.name)
        seconds, microseconds = self.raw.time()
        return math.nan if expiry is None else expiry - seconds - microseconds / 1e6

    def expire(self, inbox: Inbox) -> None:
        """Let a lease run out, while others have renewed theirs."""
        self.raw.zadd(self.deployment.leases_key, {inbox.name: 1})


@pytest.fixture
def place(server: EmbeddedServer) -> Place:
    return Place(server)


def take(inbox: Inbox, place: Place, wanted: int = 10, message: Any = Waiting) -> list[Entry]:
    entries = inbox.reserve([place.queue, place.low], wanted)
    for entry in entries:
        inbox.hold(entry.tag, message())
    return entries


def digest(entry: bytes) -> str:
    return hashlib.sha1(entry).hexdigest()


def raws(entries: list[Entry]) -> list[str]:
    return [entry.raw.decode() for entry in entries]


def test_a_reserved_entry_is_in_the_inbox_byte_for_byte_under_a_lease(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b", "c")
    assert raws(take(inbox, place, 2)) == ["a", "b"]
    assert place.waiting() == ["c"]
    assert place.raw.hgetall(inbox.key) == {
        f"1 {place.queue}".encode(): b"a",
        f"2 {place.queue}".encode(): b"b",
    }
    assert scripts.LEASE_SECONDS - 1 < place.lease(inbox) <= scripts.LEASE_SECONDS


def test_queues_are_read_in_their_order_and_what_is_wanted_is_a_limit(place: Place) -> None:
    inbox = place.inbox()
    place.push("low", queue=place.low)
    place.push("a", "b")
    assert raws(take(inbox, place, 0)) == []
    assert raws(take(inbox, place, 1)) == ["a"]
    assert raws(take(inbox, place)) == ["b", "low"]
    assert raws(take(inbox, place)) == []


def test_a_clock_of_the_server_that_goes_back_prolongs_no_lease(place: Place) -> None:
    gone, also, here = place.inbox(), place.inbox(), place.inbox()
    place.push("a", "b", "c" * 50_000_000)
    take(gone, place, 1)
    take(also, place, 1)
    take(here, place, 1)
    assert place.lease(here) > scripts.LEASE_SECONDS  # which a large entry may
    hour = {each.name: place.raw.time()[0] + 3600 for each in (gone, also, here)}
    place.raw.zadd(place.deployment.leases_key, hour)
    here.reserve((), 0)
    for each in (gone, also, here):
        assert 0 < place.lease(each) <= scripts.LEASE_SECONDS


def test_large_entries_come_a_few_at_a_time(place: Place) -> None:
    inbox = place.inbox()
    place.push(*["x" * (scripts.MAX_BYTES // 2)] * 4)
    assert [len(take(inbox, place)) for _ in range(3)] == [2, 2, 0]


def test_a_lease_is_longer_by_what_it_takes_to_read_a_large_entry(place: Place) -> None:
    inbox = place.inbox()
    place.push("x" * 30_000_000)
    take(inbox, place)
    assert scripts.LEASE_SECONDS + 2 < place.lease(inbox) <= scripts.LEASE_SECONDS + 3
    inbox.reserve((), 0)
    assert place.lease(inbox) > scripts.LEASE_SECONDS + 1


def test_an_acknowledgement_leaves_with_the_next_call(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b")
    first, _ = take(inbox, place)
    inbox.acknowledge(first.tag)
    inbox.acknowledge(first.tag)  # a second time, which is none
    assert inbox.has_acks
    inbox.reserve((), 0)
    assert not inbox.has_acks
    assert place.held(inbox) == [b"b"]


def test_acknowledgements_of_a_call_that_failed_are_sent_again(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b")
    for entry in take(inbox, place):
        inbox.acknowledge(entry.tag)
    inbox.undo(inbox.call((), 0))
    inbox.reserve((), 0)
    assert place.held(inbox) == []


def test_more_acknowledgements_than_one_call_carries_leave_with_several(place: Place) -> None:
    inbox, number = place.inbox(), scripts.MAX_ACKS + 5
    place.push(*map(str, range(number)))
    while entries := take(inbox, place, 64):
        for entry in entries:
            inbox.acknowledge(entry.tag)
    assert place.held(inbox) == []


def test_recovery_puts_a_dead_workers_jobs_in_front_in_their_order_and_counts_it(place) -> None:
    dead, living = place.inbox(), place.inbox()
    place.push("l1", queue=place.low)
    place.push("a", "b")
    take(dead, place)
    place.push("c")
    living.reserve((), 0)
    place.expire(dead)
    living.reserve((), 0)  # any call of any worker looks for the dead
    assert place.waiting() == ["a", "b", "c"]
    assert place.waiting(place.low) == ["l1"]
    assert place.raw.hgetall(place.deployment.counts_key) == {
        f"{hashlib.sha1(entry).hexdigest()}:returned".encode(): b"1"
        for entry in (b"a", b"b", b"l1")
    }
    assert not place.raw.exists(dead.key)
    assert math.isnan(place.lease(dead))
    again = living.reserve([place.queue], 1)
    assert [(entry.raw, entry.lost, entry.returned) for entry in again] == [(b"a", 0, 1)]


def test_a_living_workers_jobs_are_left_alone(place: Place) -> None:
    one, other = place.inbox(), place.inbox()
    place.push("a")
    take(one, place)
    for _ in range(3):
        other.recover()
    assert place.held(one) == [b"a"]


def test_counts_go_with_the_acknowledgement(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b")
    for entry in take(inbox, place):
        inbox.put_back(entry.tag, scripts.LOST)
    first, second = take(inbox, place)
    assert [(first.raw, first.lost, second.raw, second.lost)] == [(b"b", 1, b"a", 1)]
    inbox.acknowledge(first.tag)
    inbox.reserve((), 0)
    fields = place.raw.hkeys(place.deployment.counts_key)
    assert fields == [f"{digest(b'a')}:lost".encode()]


def test_a_worker_whose_lease_ran_out_and_was_taken_is_told_and_can_do_no_harm(place) -> None:
    late, other = place.inbox(), place.inbox()
    place.push("a")
    (entry,) = take(late, place)
    other.reserve((), 0)
    place.expire(late)
    other.recover()
    (again,) = take(other, place)
    late.acknowledge(entry.tag)
    with pytest.raises(LeaseLost):
        late.reserve([place.queue], 1)
    assert late.is_lost
    late.acknowledge(entry.tag)
    late.put_back(entry.tag)
    late.leave(("nowhere",))
    assert place.held(other) == [again.raw]
    assert place.waiting() == []


def test_a_lease_that_ran_out_but_was_not_taken_goes_on(place: Place) -> None:
    inbox = place.inbox()
    place.push("a")
    take(inbox, place)
    place.expire(inbox)
    inbox.reserve((), 0)
    assert place.held(inbox) == [b"a"]
    assert place.lease(inbox) > 3


def test_where_nobody_renewed_it_was_the_broker_that_was_away(place: Place) -> None:
    cut_off, first_back = place.inbox(), place.inbox()
    place.push("a")
    take(cut_off, place)
    place.expire(cut_off)  # and nobody else has a lease: all were cut off
    first_back.reserve((), 0)
    assert place.held(cut_off) == [b"a"]
    assert 1 < place.lease(cut_off) <= scripts.SILENCE_SECONDS
    cut_off.reserve((), 0)  # comes back in time
    assert place.held(cut_off) == [b"a"]


def test_who_comes_back_first_by_settling_takes_nothing_from_the_others(place: Place) -> None:
    cut_off, first_back = place.inbox(), place.inbox()
    place.push("a", "b")
    take(cut_off, place, 1)
    take(first_back, place, 1)
    place.expire(cut_off)
    place.expire(first_back)
    first_back.settle()
    first_back.reserve((), 0)
    assert place.held(cut_off) == [b"a"]


def test_a_dead_worker_that_was_alone_is_recovered_soon_by_its_successor(place: Place) -> None:
    dead, successor = place.inbox(), place.inbox()
    place.push("a")
    take(dead, place)
    place.expire(dead)
    began = time.monotonic()
    while place.waiting() != ["a"]:
        successor.reserve((), 0)
        time.sleep(0.05)
        assert time.monotonic() - began < 3
    assert time.monotonic() - began > scripts.SILENCE_SECONDS - 0.1


def test_settling_puts_back_entries_whose_answer_was_lost(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b", "c")
    (kept,) = take(inbox, place, 1)
    inbox.reserve([place.queue], 1)  # and nobody is told of it
    inbox.settle()
    assert place.waiting() == ["b", "c"]
    assert place.held(inbox) == [kept.raw]
    inbox.reserve([place.queue], 1)
    assert len(set(place.raw.hkeys(inbox.key))) == 2


def test_the_very_first_answer_may_be_lost(place: Place) -> None:
    inbox = place.inbox()
    place.push("a")
    call = inbox.call([place.queue], 1)
    place.raw.eval(scripts.RESERVE, *call.arguments)
    inbox.undo(call)
    inbox.settle()
    assert place.waiting() == ["a"]


def test_settling_finds_that_waiting_jobs_were_taken(place: Place) -> None:
    inbox = place.inbox()
    place.push("a")
    take(inbox, place)
    place.raw.delete(inbox.key)
    with pytest.raises(LeaseLost):
        inbox.settle()


def test_settling_lets_running_jobs_that_were_taken_run_to_their_fence(place: Place) -> None:
    inbox = place.inbox()
    place.push("a")
    (entry,) = take(inbox, place, message=Begun)
    place.raw.delete(inbox.key)
    inbox.settle()
    inbox.acknowledge(entry.tag)
    assert not inbox.has_acks


def test_put_back_is_in_front_and_counts_only_what_it_is_told(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b", "c")
    first, second = take(inbox, place, 2)
    inbox.put_back(second.tag)
    inbox.put_back(first.tag)
    assert place.waiting() == ["a", "b", "c"]
    assert not place.raw.exists(place.deployment.counts_key)


def test_what_cannot_be_put_back_now_is_put_back_later(server: EmbeddedServer) -> None:
    place = Place(server)
    inbox = place.inbox()
    place.push("a")
    (entry,) = take(inbox, place, message=Begun)
    put_back, inbox._return = inbox._return, _away
    inbox.put_back(entry.tag, scripts.LOST)
    assert place.waiting() == []
    inbox._return = put_back
    inbox.reserve((), 0)
    assert place.waiting() == ["a"]
    assert place.raw.hvals(place.deployment.counts_key) == [b"1"]


def _away(**_: Any) -> Any:
    raise redis.ConnectionError("away")


def test_leaving_hands_back_what_waits_and_the_next_channel_goes_on_with_the_rest(place) -> None:
    inbox = place.inbox()
    place.push("a", "b", "c")
    (running,) = take(inbox, place, 1, Begun)
    take(inbox, place, 1)
    inbox.leave((place.queue,))
    assert place.waiting() == ["b", "c"]
    assert place.held(inbox) == [b"a"]
    assert id(Inbox.adopt((place.queue,))) == id(inbox)
    assert Inbox.adopt((place.queue,)) is None
    inbox.settle()
    inbox.acknowledge(running.tag)
    inbox.leave((place.queue,))
    assert Inbox.adopt((place.queue,)) is None
    assert place.waiting() == ["b", "c"]
    assert place.held(inbox) == []
    assert math.isnan(place.lease(inbox))


def test_leaving_without_the_broker_leaves_all_to_the_next_channel(place: Place) -> None:
    inbox = place.inbox()
    place.push("a", "b")
    take(inbox, place, 1, Begun)
    take(inbox, place, 1)
    put_back, inbox._return = inbox._return, _away
    inbox.leave((place.queue,))
    inbox._return = put_back
    assert len(place.held(inbox)) == 2
    assert id(Inbox.adopt((place.queue,))) == id(inbox)
    inbox.settle()
    assert place.waiting() == ["b"]
    assert place.held(inbox) == [b"a"]
    inbox.hand_back(is_leaving=True)
    assert place.waiting() == ["a", "b"]


def test_a_queue_of_another_type_hides_no_other_queue(place: Place, caplog) -> None:
    inbox = place.inbox()
    place.raw.set(place.queue, "text")
    place.push("low", queue=place.low)
    assert raws(take(inbox, place)) == ["low"]
    assert "WRONGTYPE" in caplog.text
    place.raw.delete(place.low)
    place.raw.set(place.low, "text")
    inbox.hand_back(is_leaving=True)
    assert place.held(inbox) == [b"low"]  # nowhere else to be
    place.raw.delete(place.low)
    place.expire(inbox)
    other = place.inbox()
    other.reserve((), 0)
    place.expire(inbox)
    other.recover()
    assert place.waiting(place.low) == ["low"]


def test_the_thread_renews_and_acknowledges_until_the_inbox_is_closed(place: Place) -> None:
    inbox = place.inbox()
    place.push("a")
    (entry,) = take(inbox, place)
    inbox.keep()
    inbox.keep()
    place.expire(inbox)
    inbox.acknowledge(entry.tag)
    limit = time.monotonic() + 5
    while place.held(inbox) or place.lease(inbox) < 0:
        assert time.monotonic() < limit
        time.sleep(0.05)
    thread = inbox._keeper
    inbox.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_server_that_forgot_its_scripts_or_has_no_memory_is_served_all_the_same() -> None:
    with EmbeddedServer() as server:
        place = Place(server)
        inbox, dead = place.inbox(), place.inbox()
        place.push("a", "b", "c")
        place.push("x" * 3_000_000)
        take(dead, place, 1)
        (entry,) = take(inbox, place, 1)
        place.expire(dead)
        place.raw.config_set("maxmemory", "2mb")
        place.raw.script_flush()
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            place.push("d")
        inbox.acknowledge(entry.tag)
        assert raws(take(inbox, place, 1)) == ["c"]
        assert place.waiting()[0] == "a"
        place.raw.script_flush()
        inbox.settle()
        place.raw.close()
