"""The client for asyncio: many jobs on few connections, typed results, and a broker that fails."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from contract import codec, errors
from contract.batches import item_ids
from contract.errors import BrokerUnavailable, JobCancelled, QueueFull, ResultTimeout
from contract.replies import CARRIED_BYTES
from contract.result_store import Entry, ResultStore
from gristmill.server import EmbeddedServer
from producers import AsyncClient, AsyncJob, Client, as_completed, mcts
from producers.asynchronous import replies as replies_module

OPERATION = mcts.ucb1_selection
REQUEST = OPERATION.build(visits=[[1, 3]], value_sums=[[0.9, 0.3]], parent_visits=[4])
MADE = {"backend": "fallback", "simd": "none", "threads": 1, "kernel_seconds": 0.25}


def answer(number: int = 0, size: int = 1) -> bytes:
    """Return a result as a worker stores it, which shows its number; `size` makes it larger."""
    fields = {**MADE, "queue_seconds": float(number), "scores": [[1.0] * size], "chosen": [0]}
    return codec.encode({"status": "SUCCESS", "result": fields})


class Worker:
    """Stores the ends of jobs as workers do."""

    def __init__(self, raw: redis.Redis, client: Any) -> None:
        self.raw = raw
        self.deployment = client.deployment
        self.store = ResultStore(raw, self.deployment)

    def entries(self) -> list[dict[str, Any]]:
        """Return what is queued, the oldest first."""
        found: Any = self.raw.lrange(self.deployment.queue_key("mcts"), 0, -1)
        return [json.loads(each) for each in reversed(found)]

    def take(self) -> list[tuple[str, str]]:
        """Take all that is queued; return ids of jobs and the list where each is waited for."""
        taken = []
        for entry in self.entries():
            header = entry["headers"]["gristmill"]
            number, job_id = header.get("num_items", 0), entry["headers"]["id"]
            job_ids = item_ids(job_id, number) if number else [job_id]
            taken += [(each, header["reply_to"]) for each in job_ids]
        self.raw.delete(self.deployment.queue_key("mcts"))
        return taken

    def end(self, job_id: str, reply_to: str = "", meta: bytes | None = None) -> None:
        state = "SUCCESS" if meta is None else json.loads(meta)["status"]
        end = Entry(
            job_id=job_id,
            state=state,
            meta=answer() if meta is None else meta,
            life_seconds=100,
            reply_to=reply_to,
        )
        self.store.store(end)


@pytest.fixture
def worker(raw: redis.Redis, client: Client) -> Worker:
    return Worker(raw, client)


@asynccontextmanager
async def client_of(worker: Worker, server: EmbeddedServer, **options: Any) -> AsyncIterator[Any]:
    prefix = worker.deployment.prefix
    async with AsyncClient(server.url, prefix=prefix, **{"timeout": 60, **options}) as client:
        yield client


async def eventually(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


async def raises(kind: type[Exception], match: str, what: Awaitable[Any]) -> Any:
    with pytest.raises(kind, match=match) as caught:
        await what
    return caught.value


# --- Results ---


@pytest.mark.parametrize("size", [1, CARRIED_BYTES])
def test_awaiting_a_job_gives_its_typed_result(worker, server, size: int) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            ((job_id, reply_to),) = worker.take()
            assert job.id == job_id
            end = Entry(
                job_id=job_id,
                state="SUCCESS",
                meta=answer(7, size),
                life_seconds=100,
                reply_to=reply_to,
            )
            asyncio.get_running_loop().call_later(0.05, worker.store.store, end)
            result = await job
            assert isinstance(result, OPERATION.result)
            assert result.queue_seconds == 7.0
            assert result.scores.shape == (1, size)
            assert (await job.status(), await job.progress()) == ("succeeded", 1.0)
            assert (await job).queue_seconds == 7.0  # as often as one likes

    asyncio.run(main())


def test_an_operation_is_submitted_through_the_client_of_the_block(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server):
            job = await OPERATION.submit_async([[1, 3]], [[0.9, 0.3]], [4], deadline_seconds=60)
            many = await OPERATION.submit_many_async([REQUEST, REQUEST])
            for job_id, reply_to in worker.take():
                worker.end(job_id, reply_to)
            for each in (job, *many):
                assert (await each).chosen.tolist() == [0]
        with pytest.raises(RuntimeError, match=r"^no async client: expected a block"):
            await OPERATION.submit_async([[1]], [[0.5]], [1])

    asyncio.run(main())


@pytest.mark.parametrize("name", sorted(errors.ERRORS))
def test_errors_arrive_as_the_same_class(worker, server, name: str) -> None:
    kind = errors.ERRORS[name]
    meta: dict[str, Any]
    if kind is JobCancelled:
        meta = {"status": "REVOKED", "result": None}
    else:
        said = {"exc_type": kind.__name__, "exc_message": ["x: 1", "2"]}
        meta = {"status": "FAILURE", "result": {**said, "exc_module": "contract.errors"}}

    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            for job_id, reply_to in worker.take():
                worker.end(job_id, reply_to, json.dumps(meta).encode())
            await raises(kind, ".", job.result())

    asyncio.run(main())


def test_a_job_of_another_process_is_awaited_by_its_id(worker, server, client) -> None:
    async def main() -> None:
        sync = client.submit(OPERATION, REQUEST)
        ((_, reply_to),) = worker.take()
        async with client_of(worker, server) as other:
            job = other.job("mcts.ucb1_selection", sync.id)
            waiting = asyncio.create_task(job.result())
            waits = worker.deployment.waiting_key(sync.id)
            await eventually(lambda: bool(worker.raw.exists(waits)))
            worker.end(sync.id, reply_to)
            assert (await waiting).chosen.tolist() == [0]
        assert sync.result(timeout=60).chosen.tolist() == [0]

    asyncio.run(main())


def test_a_reply_that_was_lost_costs_a_look(worker, server, monkeypatch) -> None:
    monkeypatch.setattr(replies_module, "_FIRST_LOOK", 0.1)

    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            worker.end(job.id)  # to nobody
            assert (await job).chosen.tolist() == [0]

    asyncio.run(main())


# --- Many jobs ---


def test_thousands_of_jobs_are_awaited_on_few_connections(worker, server, raw) -> None:
    number = 3000

    async def main() -> None:
        async with client_of(worker, server) as client:
            before = raw.info("clients")["connected_clients"]
            jobs = await asyncio.gather(*(client.submit(OPERATION, REQUEST) for _ in range(number)))
            waits = [asyncio.create_task(job.result()) for job in jobs]
            taken = worker.take()
            assert [job_id for job_id, _ in taken] == [job.id for job in jobs]  # in order
            for place, (job_id, reply_to) in enumerate(taken):
                worker.store.store(
                    Entry(
                        job_id=job_id,
                        state="SUCCESS",
                        meta=answer(place),
                        life_seconds=100,
                        reply_to=reply_to,
                    )
                )
            results = await asyncio.gather(*waits)
            assert [result.queue_seconds for result in results] == list(map(float, range(number)))
            assert raw.info("clients")["connected_clients"] - before <= 8
            assert not client._replies._waiters

    asyncio.run(main())


def test_what_one_turn_of_the_loop_submits_goes_out_in_one_write(worker, server, raw) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            await client.submit(OPERATION, REQUEST)
            before = raw.info("commandstats")["cmdstat_lpush"]["calls"]
            await asyncio.gather(*(client.submit(OPERATION, REQUEST) for _ in range(50)))
            assert raw.info("commandstats")["cmdstat_lpush"]["calls"] - before <= 2
        assert len(worker.entries()) == 51

    asyncio.run(main())


def test_jobs_come_as_they_end_and_a_slow_one_holds_nobody(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            jobs = await client.submit_many(OPERATION, [REQUEST] * 5)
            taken = dict(worker.take())
            order = [jobs[place] for place in (3, 0, 4, 2)]
            came: list[AsyncJob[Any]] = []

            async def collect() -> None:
                async for job in as_completed(jobs):
                    assert (await job.result(timeout=0.5)).chosen.tolist() == [0]
                    came.append(job)

            collecting = asyncio.create_task(collect())
            for place, job in enumerate(order, 1):
                worker.end(job.id, taken[job.id])
                while len(came) < place:
                    await asyncio.sleep(0.01)
            assert came == order
            worker.end(jobs[1].id, taken[jobs[1].id])
            await collecting
            assert came[-1] is jobs[1]

    asyncio.run(main())


def test_waiting_for_many_ends_in_time(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            jobs = await client.submit_many(OPERATION, [REQUEST] * 3)
            taken = dict(worker.take())
            worker.end(jobs[1].id, taken[jobs[1].id])
            ends = as_completed(jobs, timeout=2)
            assert await anext(ends) is jobs[1]
            await raises(ResultTimeout, r"^2 of 3 jobs after 2 s, expected", anext(ends))
        assert not client._replies._waiters

    asyncio.run(main())


# --- Time and cancellation ---


def test_waiting_in_vain_ends_in_time(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            for seconds in (0, 0.2):
                said = rf"^job {job.id}: queued after {seconds} s, expected its end$"
                await raises(ResultTimeout, said, job.result(timeout=seconds))
            ((_, reply_to),) = worker.take()
            worker.end(job.id, reply_to)
            assert (await job.result(timeout=0)).chosen.tolist() == [0]

    asyncio.run(main())


@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
def test_the_end_of_a_task_is_the_end_of_its_job_where_asked(
    worker, server, raw, cancels: bool, by_client: bool
) -> None:
    async def main() -> None:
        options = {"cancels": cancels} if by_client else {}
        async with client_of(worker, server, **options) as client:
            job = await client.submit(OPERATION, REQUEST)
            waiting = asyncio.create_task(
                job.result() if by_client else job.result(cancels=cancels)
            )
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert bool(raw.exists(worker.deployment.cancel_key(job.id))) is cancels
            assert not client._replies._waiters

    asyncio.run(main())


def test_one_of_two_who_wait_may_leave(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            first, second = (asyncio.create_task(job.result()) for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()
            ((_, reply_to),) = worker.take()
            worker.end(job.id, reply_to)
            assert (await second).chosen.tolist() == [0]

    asyncio.run(main())


# --- Once ---


def test_a_job_is_submitted_once_under_its_key(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client, client_of(worker, server) as other:
            jobs = await asyncio.gather(
                *(
                    each.submit(OPERATION, REQUEST, idempotency_key="mine")
                    for each in (client, other) * 8
                )
            )
            assert len({job.id for job in jobs}) == 1
            ((job_id, reply_to),) = worker.take()
            worker.end(job_id, reply_to)
            for job in jobs:
                assert (await job).chosen.tolist() == [0]
            different = OPERATION.build(visits=[[2]], value_sums=[[0.5]], parent_visits=[2])
            said = r"^idempotency_key: 'mine' stands for job"
            submit = client.submit(OPERATION, different, idempotency_key="mine")
            await raises(errors.InvalidRequest, said, submit)

    asyncio.run(main())


# --- A broker that fails ---


def test_a_broker_that_is_not_there_is_told_in_time() -> None:
    async def main() -> None:
        async with AsyncClient("redis://127.0.0.1:1/0") as client:
            began = time.monotonic()
            said = r"^broker redis://127\.0\.0\.1:1/0: .*; nothing was enqueued$"
            await raises(BrokerUnavailable, said, client.submit(OPERATION, REQUEST))
            job = client.job(OPERATION, "7")
            await raises(BrokerUnavailable, r"^broker ", job.status())
            await raises(BrokerUnavailable, r"^broker ", job.cancel())
            said = r"^job 7: not known \(broker .*\) after 0\.5 s, expected its end$"
            await raises(ResultTimeout, said, job.result(timeout=0.5))
            assert time.monotonic() - began < 20

    asyncio.run(main())


def test_a_queue_beyond_its_limit_refuses(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server, max_queue_length=2) as client:
            await client.submit(OPERATION, REQUEST)
            await client.submit(OPERATION, REQUEST)
            said = r"^queue mcts: 2 jobs, expected fewer than 2$"
            await raises(QueueFull, said, client.submit(OPERATION, REQUEST))

    asyncio.run(main())


def test_a_broker_without_memory_refuses_at_once(worker, server, raw) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            await client.submit(OPERATION, REQUEST)
            raw.config_set("maxmemory", "1")
            try:
                await raises(QueueFull, "out of memory", client.submit(OPERATION, REQUEST))
            finally:
                raw.config_set("maxmemory", "0")
            await client.submit(OPERATION, REQUEST)
        assert len(worker.entries()) == 2

    asyncio.run(main())


def test_who_waits_and_who_submits_outlive_connections_that_are_cut(worker, server, raw) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            waiting = asyncio.create_task(job.result())
            for _ in range(3):
                await asyncio.sleep(0.1)
                raw.client_kill_filter(_type="normal", skipme=True)
            other = await client.submit(OPERATION, REQUEST)
            for job_id, reply_to in worker.take():
                worker.end(job_id, reply_to)
            assert (await waiting).chosen.tolist() == [0]
            assert (await other).chosen.tolist() == [0]

    asyncio.run(main())


def test_what_is_stored_in_a_result_is_input_like_any_other(worker, server, raw) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            for bad in (b"\xc1", b"[]", b'{"status": 7}', b'{"status": "SUCCESS", "result": 7}'):
                job = await client.submit(OPERATION, REQUEST)
                ((_, reply_to),) = worker.take()
                raw.rpush(worker.deployment.replies_key(reply_to), b"no reply", b"9 ")
                raw.set(worker.deployment.result_key(job.id), bad)
                await raises(errors.MessageError, ".", job.result(timeout=30))

    asyncio.run(main())


def test_a_client_that_is_closed_leaves_nobody_waiting(worker, server) -> None:
    async def main() -> None:
        async with client_of(worker, server) as client:
            job = await client.submit(OPERATION, REQUEST)
            waiting = asyncio.create_task(job.result())
            await asyncio.sleep(0.1)
        await raises(BrokerUnavailable, "the client was closed", waiting)

    threads = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == threads
