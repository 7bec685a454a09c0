"""The store of states: the first end wins, late workers are refused, and memory may be short."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery, states
from celery.app.task import Context
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contract import patience, results
from contract.deployment import Deployment
from contract.envelope import DELIVERY, HEADER, Delivery, Envelope
from contract.errors import ComputeError, MessageError
from contract.replies import CARRIED_BYTES, LIST_SECONDS, MAX_REPLIES, Reply
from contract.result_store import ROOM_BYTES, Entry, Outcome, ResultStore
from contract.results import SCHEME, Answer, Backend
from gristmill.server import EmbeddedServer

PREFIX = "store:"
DEPLOYMENT = Deployment(prefix=PREFIX)
HELD = Delivery(inbox=f"{PREFIX}gristmill:inbox:w", tag="mcts\x001")
RESULT = f"{PREFIX}celery-task-meta-job"
#: Where the client that submitted the job waits, and where another one does.
REPLIES = f"{PREFIX}gristmill:replies:client"
OTHERS = f"{PREFIX}gristmill:replies:other"


def app_of(url: str, backend: str, **settings: Any) -> Celery:
    app = Celery(set_as_current=False)
    app.conf.update(result_backend_transport_options={"global_keyprefix": PREFIX}, **settings)
    app.conf.result_backend = f"{SCHEME}+{url}" if backend == "ours" else url
    return app


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as raw:
        for key in raw.scan_iter(f"{PREFIX}*"):
            raw.delete(key)
        yield raw


@pytest.fixture
def store(raw: redis.Redis) -> ResultStore:
    return ResultStore(raw, DEPLOYMENT)


@pytest.fixture
def backend(server: EmbeddedServer, raw) -> Iterator[Backend]:
    app = app_of(server.url, "ours")
    yield app.backend
    app.backend.client.close()
    app.close()


def end(state: str = "SUCCESS", **changes: Any) -> Entry:
    meta = changes.pop("meta", f'{{"status": "{state}", "result": 1}}')
    changes.setdefault("reply_to", "client")
    return Entry(job_id="job", state=state, meta=meta, life_seconds=100, **changes)


def request(**fields: Any) -> Context:
    return Context({"id": "job", "task": "mcts.ucb1_selection", **fields})


# --- The first end wins ---

STATES = (*states.READY_STATES, "PROGRESS", "RETRY", "STARTED", "SUCCESSFUL", "SUCCESS PART", "ok")
RESULTS = (1, "SUCCESS", {"status": "FAILURE"}, {"scores": np.ones(3)}, None)


class Store(RuleBasedStateMachine):
    """Any states from any workers, ours and stock ones, against a model of what stands."""

    server: EmbeddedServer

    @initialize(extended=st.booleans())
    def begin(self, extended: bool) -> None:
        self.raw = redis.Redis.from_url(self.server.url)
        self.raw.delete(RESULT, REPLIES, HELD.inbox)
        self.ours = app_of(self.server.url, "ours", result_extended=extended)
        self.theirs = app_of(self.server.url, "stock", result_extended=extended)
        self.stands, self.is_held, self.told = "PENDING", False, 0

    @rule()
    def reserve(self) -> None:
        self.raw.hset(HELD.inbox, HELD.tag, "entry")
        self.is_held = True

    @rule()
    def lose_the_lease(self) -> None:
        self.raw.delete(HELD.inbox)
        self.is_held = False

    @rule(state=st.sampled_from(STATES), result=st.sampled_from(RESULTS), fenced=st.booleans())
    def store(self, state: str, result: Any, fenced: bool) -> None:
        delivery = {DELIVERY: HELD.to_header()} if fenced else {}
        delivery[HEADER] = Envelope(reply_to="client").to_header()
        if state in states.EXCEPTION_STATES:
            result = ComputeError("values: singular, expected regular")
        self.ours.backend.store_result("job", result, state, request=request(**delivery))
        if (self.is_held or not fenced) and self.stands not in states.READY_STATES:
            self.stands = state
            self.told += state in states.READY_STATES

    @rule(state=st.sampled_from(sorted(states.READY_STATES)))
    def store_as_stock_workers_do(self, state: str) -> None:
        if self.stands in states.READY_STATES:
            return  # theirs would overwrite a failure
        with pytest.warns(DeprecationWarning, match="setex"):
            self.theirs.backend.store_result("job", ValueError("x"), state)
        self.stands = state

    @rule()
    def forget(self) -> None:
        self.raw.delete(RESULT, REPLIES)
        self.stands, self.told = "PENDING", 0

    @rule()
    def restart_without_scripts(self) -> None:
        self.raw.script_flush()

    @invariant()
    def every_reader_sees_what_stands(self) -> None:
        if not hasattr(self, "raw"):
            return
        assert self.theirs.backend._get_task_meta_for("job")["status"] == self.stands
        assert results.read_meta(self.raw.get(RESULT))["status"] == self.stands
        assert self.raw.llen(REPLIES) == self.told

    def teardown(self) -> None:
        if hasattr(self, "raw"):
            self.raw.close()
            for app in (self.ours, self.theirs):
                app.backend.client.close()
                app.close()


def test_what_stands_is_the_first_end_of_a_worker_that_holds_the_job(server) -> None:
    class OnServer(Store):
        pass

    OnServer.server = server
    OnServer.TestCase.settings = settings(
        max_examples=25, stateful_step_count=15, deadline=None, derandomize=True
    )
    OnServer.TestCase("runTest").runTest()


@pytest.mark.parametrize("first", sorted(states.READY_STATES))
@pytest.mark.parametrize("then", [*sorted(states.READY_STATES), "PROGRESS", "RETRY"])
def test_nothing_replaces_an_end(store: ResultStore, raw, first: str, then: str) -> None:
    assert store.store(end(first)) is Outcome.STORED
    assert store.store(end(then, meta=f'{{"status": "{then}", "result": 2}}')) is Outcome.ENDED
    assert raw.get(RESULT).decode() == end(first).meta
    assert raw.llen(REPLIES) == 1


def test_an_answer_that_was_lost_on_its_way_is_no_second_end(store: ResultStore, raw) -> None:
    assert store.store(end()) is Outcome.STORED
    assert store.store(end()) is Outcome.STORED
    assert raw.llen(REPLIES) == 1


def test_of_many_workers_one_ends_the_job(server: EmbeddedServer, raw) -> None:
    outcomes: list[Outcome] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        with redis.Redis.from_url(server.url) as client:
            start.wait()
            meta = f'{{"status": "SUCCESS", "result": {number}}}'
            outcomes.append(ResultStore(client, DEPLOYMENT).store(end(meta=meta)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.name for outcome in outcomes) == ["ENDED"] * 7 + ["STORED"]


def test_a_replayed_dead_letter_may_end_again(backend: Backend, raw) -> None:
    backend.mark_as_failure("job", ComputeError("poison"))
    raw.delete(RESULT)  # as the replay does
    backend.mark_as_done("job", 7)
    assert backend.get_task_meta("job")["result"] == 7


# --- Replies ---


def replies(raw: redis.Redis, key: str = REPLIES) -> list[Reply]:
    found: Any = raw.lrange(key, 0, -1)
    return [Reply.from_bytes(each) for each in found]


@pytest.mark.parametrize("job_id", ["job", "my job 7", "\u00e4\u20ac", "12 34"])
@pytest.mark.parametrize("meta", [b'{"status": "SUCCESS"}', b"\x81\xa6status\xa7SUCCESS", b"7 x"])
def test_a_reply_carries_the_end_of_the_job_as_it_is_stored(store, raw, job_id, meta) -> None:
    raw.delete(f"{PREFIX}celery-task-meta-{job_id}")
    store.store(replace(end(meta=meta), job_id=job_id))
    assert replies(raw) == [Reply(job_id, meta)]
    assert 0 < raw.ttl(REPLIES) <= LIST_SECONDS


def test_a_large_end_is_left_where_it_is(store: ResultStore, raw) -> None:
    store.store(end(meta=b"x" * CARRIED_BYTES))
    raw.delete(RESULT)
    store.store(end(meta=b"x" * (CARRIED_BYTES + 1)))
    assert replies(raw) == [Reply("job", b"x" * CARRIED_BYTES), Reply("job", None)]


def test_each_who_waits_is_told_once_and_forgotten(store: ResultStore, raw) -> None:
    waiting = DEPLOYMENT.waiting_key("job")
    raw.sadd(waiting, "client", "other")
    store.store(end("PROGRESS"))
    assert raw.scard(waiting) == 2
    store.store(end())
    assert replies(raw) == replies(raw, OTHERS) == [Reply("job", raw.get(RESULT))]
    assert not raw.exists(waiting)


def test_a_client_that_reads_nothing_keeps_its_newest_replies(store: ResultStore, raw) -> None:
    store.store_many([replace(end(), job_id=f"job-{number}") for number in range(MAX_REPLIES + 5)])
    kept = replies(raw)
    assert len(kept) == MAX_REPLIES
    assert (kept[0].job_id, kept[-1].job_id) == ("job-5", f"job-{MAX_REPLIES + 4}")


def test_a_list_that_is_something_else_is_left_alone(store: ResultStore, raw) -> None:
    raw.set(REPLIES, "mine")
    raw.set(DEPLOYMENT.waiting_key("job"), "mine, too")
    assert store.store(end()) is Outcome.STORED
    assert (raw.get(REPLIES), raw.get(DEPLOYMENT.waiting_key("job"))) == (b"mine", b"mine, too")


@pytest.mark.parametrize("raw_reply", [b"", b"job", b"x job", b"4 \xff\xfe\xfd\xfc"])
def test_a_reply_that_is_none_is_refused_by_name(raw_reply: bytes) -> None:
    with pytest.raises(MessageError, match=r"^reply: "):
        Reply.from_bytes(raw_reply)


# --- Fencing ---


def test_a_worker_without_its_lease_stores_nothing_and_tells_nobody(store: ResultStore, raw):
    assert store.store(end(delivery=HELD)) is Outcome.FENCED
    assert store.store(end("PROGRESS", delivery=HELD)) is Outcome.FENCED
    assert not raw.exists(RESULT, REPLIES)
    raw.hset(HELD.inbox, HELD.tag, "entry")
    assert store.store(end(delivery=HELD)) is Outcome.STORED


def test_refusals_are_counted(store: ResultStore, raw) -> None:
    store.store(end(delivery=HELD))
    store.store(end("PROGRESS", delivery=HELD))
    counted = raw.hgetall(f"{PREFIX}gristmill:events")
    assert counted == {b'fenced{what="result"}': b"1", b'fenced{what="progress"}': b"1"}


def test_what_follows_from_an_end_follows_only_where_it_counts(backend, raw, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "celery.backends.redis.RedisBackend.on_chord_part_return",
        lambda self, request, state, result, **_: told.append(state),
    )
    part = {"chord": {"task": "user.sum"}, "group": "g"}
    late = request(**part, **{DELIVERY: HELD.to_header()})
    backend.mark_as_done("job", 1, late)
    backend.mark_as_failure("job", ValueError("x"), request=late)
    backend.mark_as_revoked("job", "why", late)
    assert told == []
    backend.mark_as_done("job", 1, request(**part))
    backend.mark_as_failure("job", ValueError("x"), request=request(**part))
    # The first end again, which a chord counts once: whoever stored it may not have told it.
    assert told == ["SUCCESS", "SUCCESS"]
    assert backend.finish(request(**part))
    assert told == ["SUCCESS", "SUCCESS", "SUCCESS"]


def test_a_chord_hears_of_a_job_that_was_revoked_before_its_message_came(
    backend, monkeypatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "celery.backends.redis.RedisBackend.on_chord_part_return",
        lambda self, request, state, result, **_: told.append(state),
    )
    backend.mark_as_revoked("job", "revoked")  # by the command, which knows nothing but the id
    assert told == []
    backend.mark_as_revoked("job", "revoked", request(chord={"task": "user.sum"}, group="g"))
    assert told == ["REVOKED"]


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_what_a_dead_worker_left_undone_after_an_end_is_done(backend, monkeypatch, state) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "celery.backends.redis.RedisBackend.on_chord_part_return",
        lambda self, request, state, result, **_: told.append(state),
    )
    here = request(chord={"task": "user.sum"}, group="g")
    assert not backend.finish(here)
    backend.store_result("job", 1 if state == "SUCCESS" else ComputeError("x"), state)
    assert backend.finish(here)
    assert told == [state]


def test_a_chain_whose_failure_was_not_told_fails_to_its_end(backend: Backend) -> None:
    chain = [{"task": "user.add", "args": [], "kwargs": {}, "options": {"task_id": "next"}}]
    backend.store_result("job", ComputeError("singular"), "FAILURE")  # and the worker died
    assert backend.get_task_meta("next")["status"] == "PENDING"
    assert backend.finish(request(chain=chain))
    assert isinstance(backend.get_task_meta("next")["result"], ComputeError)


def test_a_failure_ends_the_jobs_that_a_chain_would_have_run(backend: Backend) -> None:
    chain = [{"task": "user.add", "args": [], "kwargs": {}, "options": {"task_id": "next"}}]
    backend.mark_as_failure("job", ComputeError("singular"), request=request(chain=chain))
    assert isinstance(backend.get_task_meta("next")["result"], ComputeError)


def test_a_state_on_the_way_is_refused_without_an_error(backend: Backend, raw) -> None:
    late = request(**{DELIVERY: HELD.to_header()})
    backend.store_result("job", {"progress": 0.5}, "PROGRESS", request=late)
    backend.mark_as_retry("job", ValueError("x"), request=late)
    assert not raw.exists(RESULT)


# --- Idempotency keys ---


def test_the_end_of_a_job_starts_the_end_of_its_idempotency_key(backend: Backend, raw) -> None:
    envelope = Envelope(idempotency_key="order 7", idempotency_seconds=200_000)
    key = f"{PREFIX}gristmill:once:mcts.ucb1_selection:order 7"
    raw.set(key, "job digest")
    backend.store_result("job", {}, "PROGRESS", request=request(**{HEADER: envelope.to_header()}))
    assert raw.ttl(key) == -1
    backend.mark_as_done("job", 1, request(**{HEADER: envelope.to_header()}))
    assert 199_000 < raw.ttl(key) <= 200_000
    assert 199_000 < raw.ttl(RESULT) <= 200_000  # a day otherwise: the handle must go on working


def test_a_job_that_was_revoked_before_its_message_came_gives_its_idempotency_key_back(
    backend: Backend, raw
) -> None:
    envelope = Envelope(idempotency_key="order 7", idempotency_seconds=200_000)
    key = f"{PREFIX}gristmill:once:mcts.ucb1_selection:order 7"
    raw.set(key, "job digest", ex=2_592_000)
    backend.mark_as_revoked("job", "revoked")  # by Celery's command, which has no message
    assert raw.ttl(key) > 200_000
    for _ in range(2):
        backend.mark_as_revoked("job", "revoked", request(**{HEADER: envelope.to_header()}))
    assert 199_000 < raw.ttl(key) <= 200_000
    assert 199_000 < raw.ttl(RESULT) <= 200_000
    raw.expire(key, 5)  # a message that comes once more begins no new time
    backend.mark_as_revoked("job", "revoked", request(**{HEADER: envelope.to_header()}))
    assert raw.ttl(key) <= 5


def test_an_idempotency_key_of_all_times_keeps_no_job_from_its_end(backend: Backend, raw) -> None:
    envelope = Envelope(idempotency_key="order 7", idempotency_seconds=2.0**52)
    key = f"{PREFIX}gristmill:once:mcts.ucb1_selection:order 7"
    raw.set(key, "job digest")
    backend.mark_as_done("job", 1, request(**{HEADER: envelope.to_header()}))
    assert backend.get_state("job") == "SUCCESS"
    assert 0 < raw.ttl(key) <= 30 * 86_400


def test_another_jobs_idempotency_key_is_left_alone(backend: Backend, raw) -> None:
    envelope = Envelope(idempotency_key="order 7", idempotency_seconds=5)
    key = f"{PREFIX}gristmill:once:mcts.ucb1_selection:order 7"
    raw.set(key, "job-2 digest")
    backend.mark_as_done("job", 1, request(**{HEADER: envelope.to_header()}))
    assert raw.ttl(key) == -1


# --- Trouble ---


@pytest.fixture
def full() -> Iterator[redis.Redis]:
    """Give a server without memory, which holds one message of 10,000 bytes."""
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as raw:
        raw.hset(HELD.inbox, HELD.tag, "x" * 10_000)
        raw.config_set("maxmemory", "1")
        yield raw


def test_a_full_broker_takes_ends_that_free_more_than_they_take(full: redis.Redis) -> None:
    store = ResultStore(full, DEPLOYMENT)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.set("any", "1")
    for state in ("PROGRESS", "RETRY"):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            store.store(end(state, delivery=HELD))
    for size in (10_001, 1_000_000):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            store.store(end(meta=b"x" * size, delivery=HELD))
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        store.store(end(meta=b"x" * (ROOM_BYTES + 1)))
    assert store.store(end(meta=b"x" * ROOM_BYTES)) is Outcome.STORED
    assert store.store(end(meta=b"x" * 10_000, delivery=HELD)) is Outcome.STORED
    assert full.llen(REPLIES) == 2


def test_a_full_broker_refuses_a_late_worker_like_any_other(full: redis.Redis) -> None:
    full.delete(HELD.inbox)
    assert ResultStore(full, DEPLOYMENT).store(end(delivery=HELD)) is Outcome.FENCED


def test_the_script_is_sent_again_to_a_server_that_lost_it(store: ResultStore, raw) -> None:
    for _ in range(2):
        raw.delete(RESULT)
        raw.script_flush()
        assert store.store(end()) is Outcome.STORED


def test_an_end_is_stored_in_one_round_trip(backend: Backend, raw) -> None:
    backend.mark_as_done("job", Answer({"mean": 1.0}), request())
    raw.delete(RESULT)
    before = raw.info("commandstats")
    backend.mark_as_done("job", Answer({"mean": 1.0}), request())
    after = raw.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert calls["cmdstat_evalsha"] == 1
    assert not calls["cmdstat_get"]


def test_an_end_waits_for_a_broker_that_is_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(results, "get_current_worker_task", lambda: "a job")
    with EmbeddedServer(append_only=True) as server:
        app = app_of(server.url, "ours", redis_socket_connect_timeout=1)
        app.backend.mark_as_done("first", 1, request())
        server.kill()
        waiting = threading.Thread(target=app.backend.mark_as_done, args=("job", 1, request()))
        waiting.start()
        time.sleep(0.7)
        assert waiting.is_alive()
        server.start()
        waiting.join(10)
        assert app.backend.get_task_meta("job")["result"] == 1
        app.backend.client.close()
        app.close()


def test_a_parent_does_not_wait_long(monkeypatch) -> None:
    monkeypatch.setattr(results, "PARENT_SECONDS", 0.2)
    app = app_of("redis://127.0.0.1:1/0", "ours")
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        app.backend.mark_as_failure("job", ComputeError("poison"))
    assert time.monotonic() - started < 2
    app.close()


def test_a_worker_that_stops_hands_a_job_back_whose_end_it_cannot_store(monkeypatch) -> None:
    from celery.exceptions import Reject
    from celery.worker import state

    monkeypatch.setattr(results, "get_current_worker_task", lambda: "a job")
    monkeypatch.setattr(state, "should_stop", 0)
    monkeypatch.setattr(patience, "STOPPING_SECONDS", 0.2)
    app = app_of("redis://127.0.0.1:1/0", "ours")
    with pytest.raises(Reject) as caught:
        app.backend.mark_as_done("job", 1, request())
    assert caught.value.requeue
    app.close()


def test_a_retry_that_is_on_its_way_is_not_lost_for_want_of_a_word(caplog) -> None:
    app = app_of("redis://127.0.0.1:1/0", "ours")
    app.backend.mark_as_retry("job", ValueError("x"), request=request())
    assert "RETRY was not stored" in caplog.text
    app.close()
