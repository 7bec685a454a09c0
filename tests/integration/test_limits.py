"""Celery's time limits and our deadlines, for kernels in C and in NumPy, in every pool."""

import time
from collections.abc import Iterator

import pytest

from contract import codec
from contract.envelope import HEADER, Envelope
from contract.errors import DeadlineExceeded
from gristmill.server import EmbeddedServer
from producers import Client, analytics, mcts
from tests.gristmill.processes import alive
from tests.integration.test_faults import SMALL, meta_of
from tests.integration.worker import Worker, wait_until

pytestmark = pytest.mark.integration

#: A job of minutes on either twin.
LONG = {
    "counts": [1] * 1000,
    "reward_sums": [0.5] * 1000,
    "num_selections": 10_000_000,
    "policy": "thompson",
}


@pytest.fixture(scope="module", params=["prefork", "spawn", "threads"])
def mill(request, server: EmbeddedServer, tmp_path_factory) -> Iterator[tuple[Worker, Client]]:
    prefix = f"limits-{request.param}:"
    log = tmp_path_factory.mktemp("worker") / "log"
    pool = "prefork" if request.param == "spawn" else request.param
    options = (f"--pool={pool}", "--concurrency=1", "-I", "tests.integration.user_tasks")
    more = {"CELERY_WORKER_POOL_START_METHOD": "spawn"} if request.param == "spawn" else {}
    with (
        Worker(server.url, log, *options, prefix=prefix, **more) as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        yield worker, client


def submit(client: Client, name: str = "optimization.multi_armed_bandit", **options):
    """Send a job with Celery's own options; return its handle."""
    fields = {**(options.pop("fields", LONG))}
    headers = {HEADER: Envelope().to_header()}
    options = {"serializer": codec.SERIALIZER, "headers": headers, **options}
    queue = name.partition(".")[0]
    sent = client._here().app.send_task(name, kwargs=fields, queue=queue, **options)
    return client.job(name, sent.id)


def test_a_soft_limit_ends_a_job_within_a_step_and_says_which(mill) -> None:
    worker, client = mill
    family = {process.pid for process in worker.family()}
    job = submit(client, soft_time_limit=0.6)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"^soft_time_limit: (0\.6 s )?passed, expected an"):
        job.result(timeout=20)
    assert 0.5 < time.monotonic() - started < 3
    assert job.status() == "failed"
    assert {process.pid for process in worker.family()} == family
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]


def test_soft_limits_at_any_moment_end_their_job_and_no_other(mill) -> None:
    _, client = mill
    for k in range(6):
        job = submit(client, soft_time_limit=0.05 + k / 50)
        after = [mcts.ucb1_selection.submit(**SMALL) for _ in range(5)]
        with pytest.raises(DeadlineExceeded):
            job.result(timeout=20)
        assert [other.result().chosen.tolist() for other in after] == [[0]] * 5


def test_a_hard_limit_ends_a_job_and_others_go_on(mill) -> None:
    worker, client = mill
    job = submit(client, time_limit=0.8)
    after = [mcts.ucb1_selection.submit(**SMALL) for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"^time_limit: 0\.8 s passed, expected an end"):
        job.result(timeout=20)
    assert 0.7 < time.monotonic() - started < 4
    assert [other.result().chosen.tolist() for other in after] == [[0]] * 3
    time.sleep(0.5)
    assert job.status() == "failed"
    assert worker.alive()


def test_a_hard_limit_ends_the_process_of_a_users_task(mill, request) -> None:
    worker, client = mill
    if "prefork" not in request.node.name and "spawn" not in request.node.name:
        pytest.skip("threads cannot be ended")
    children = {process.pid for process in worker.children()}  # with spawn, its tracker too
    app = client._here().app
    sent = app.send_task("user.wait", (30.0,), queue="celery", time_limit=0.5)
    assert meta_of(client, sent.id)["status"] == "FAILURE"
    wait_until(lambda: not all(map(alive, children)), 5)
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]


def test_a_users_task_still_meets_its_soft_limit(mill, request) -> None:
    _, client = mill
    if "prefork" not in request.node.name and "spawn" not in request.node.name:
        pytest.skip("Celery has no soft limits for threads")
    mcts.ucb1_selection(**SMALL)  # a job of ours before it in the same process
    sent = client._here().app.send_task("user.wait", (30.0,), queue="celery", soft_time_limit=0.5)
    meta = meta_of(client, sent.id)
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "SoftTimeLimitExceeded")


def test_a_deadline_ends_a_running_job_and_one_that_waits(mill) -> None:
    _, client = mill
    operation = analytics.basic_statistics
    timed = submit(client, headers={HEADER: Envelope(deadline=time.time() + 0.6).to_header()})
    with pytest.raises(DeadlineExceeded, match=r"^deadline: passed"):
        timed.result(timeout=20)
    busy = submit(client)
    wait_until(lambda: busy.status() == "running", 20)
    waiting = client.submit(operation, operation.build([1.0, 2.0]), deadline_seconds=0.1)
    time.sleep(0.2)  # its deadline passes while the worker is busy
    busy.cancel()
    with pytest.raises(DeadlineExceeded, match=r"^deadline: passed"):
        waiting.result(timeout=20)


def test_the_limits_of_the_settings_hold_for_every_job(server: EmbeddedServer, tmp_path) -> None:
    prefix, options = "limits-settings:", ("--concurrency=1",)
    with (
        Worker(
            *(server.url, tmp_path / "log", *options),
            prefix=prefix,
            CELERY_TASK_SOFT_TIME_LIMIT="0.5",
        ) as worker,
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        with pytest.raises(DeadlineExceeded, match=r"^soft_time_limit: 0\.5 s passed"):
            submit(client).result()
        assert worker.alive()


def test_the_limits_of_the_command_line_hold_too(server: EmbeddedServer, tmp_path) -> None:
    prefix, options = "limits-options:", ("--concurrency=1", "--soft-time-limit=1")
    with (
        Worker(server.url, tmp_path / "log", *options, prefix=prefix),
        Client(server.url, prefix=prefix, timeout=30) as client,
    ):
        with pytest.raises(DeadlineExceeded, match=r"^soft_time_limit: passed"):
            submit(client).result()
        assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
