"""The road of a job: app, queue, worker, kernel and back."""

import time

import numpy as np
import pytest
from celery import Celery

import producers
from contract.errors import MessageError
from producers import Client, analytics, fusion, mcts, optimization
from tests.integration.worker import Worker

pytestmark = pytest.mark.integration

VISITS, SUMS, PARENTS = [[3, 1], [0, 5]], [[1.5, 0.25], [0.0, 2.0]], [4, 5]
# The formula by hand; an unvisited child comes first.
SCORES = [
    [1.5 / 3 + np.sqrt(2 * np.log(4) / 3), 0.25 + np.sqrt(2 * np.log(4))],
    [np.inf, 2.0 / 5 + np.sqrt(2 * np.log(5) / 5)],
]


@pytest.fixture
def stock(shared_worker: Worker) -> Celery:
    """Return a client that has never heard of us: stock Celery, JSON, task names as text."""
    return Celery(broker=shared_worker.url, backend=shared_worker.url, set_as_current=False)


def test_an_operation_of_each_family_travels_the_whole_road(client: Client) -> None:
    values = np.random.default_rng(1).normal(size=10_000)
    assert analytics.basic_statistics(values).mean == pytest.approx(values.mean(), abs=1e-12)

    found = fusion.connection_discovery(np.eye(4)[[0, 1, 0]], ["text", "audio", "audio"])
    assert (found.i.tolist(), found.j.tolist()) == ([0], [2])

    bandit = optimization.multi_armed_bandit([5, 5, 5], [1.0, 4.0, 2.0], policy="ucb1")
    assert bandit.chosen.tolist() == [1]

    result = mcts.ucb1_selection(VISITS, SUMS, PARENTS)
    np.testing.assert_allclose(result.scores, SCORES, rtol=1e-12)
    assert result.chosen.tolist() == [1, 0]


def test_a_result_says_how_it_was_made(client: Client) -> None:
    result = mcts.ucb1_selection(VISITS, SUMS, PARENTS)
    assert result.backend in {"compiled", "fallback"}
    assert result.threads >= 1
    assert 0 < result.kernel_seconds < 1
    assert result.queue_seconds is not None
    assert 0 <= result.queue_seconds < 10


def test_a_job_is_submitted_watched_and_waited_for(client: Client) -> None:
    job = mcts.ucb1_selection.submit(VISITS, SUMS, PARENTS)
    assert job.result(timeout=10).chosen.tolist() == [1, 0]
    assert job.status() == "succeeded"
    assert job.progress() == 1.0
    again = client.job("mcts.ucb1_selection", job.id)
    assert again.result(timeout=1).chosen.tolist() == [1, 0]


def test_many_jobs_come_back_each_with_its_own_result(client: Client) -> None:
    jobs = [analytics.basic_statistics.submit([float(k), k + 1.0]) for k in range(40)]
    assert [job.result().mean for job in jobs] == [k + 0.5 for k in range(40)]


def test_an_error_in_the_worker_comes_back_as_the_same_class(client: Client, stock: Celery) -> None:
    # The producer refuses this request, so it has to be smuggled past it.
    arguments = {"visits": VISITS, "value_sums": SUMS, "parent_visits": [0, 0]}
    job_id = stock.send_task("mcts.ucb1_selection", kwargs=arguments, queue="mcts").id
    with pytest.raises(producers.InvalidRequest, match=r"^parent_visits: .*expected at least 1"):
        client.job("mcts.ucb1_selection", job_id).result()
    assert client.job("mcts.ucb1_selection", job_id).status() == "failed"


def test_a_stock_celery_client_sends_json_and_gets_json(stock: Celery) -> None:
    arguments = {"visits": VISITS, "value_sums": SUMS, "parent_visits": PARENTS}
    found = stock.send_task("mcts.ucb1_selection", kwargs=arguments).get(timeout=10)
    assert found["chosen"] == [1, 0]
    assert found["scores"][1][0] == "Infinity"
    assert found["queue_seconds"] is None


def test_a_stock_client_may_give_the_first_array_by_position(stock: Celery) -> None:
    found = stock.send_task("analytics.basic_statistics", [[1.0, 2.0, 6.0]]).get(timeout=10)
    assert found["median"] == 2.0


def test_a_stock_client_learns_which_argument_was_wrong(stock: Celery) -> None:
    sent = stock.send_task("analytics.basic_statistics", [[1.0]], {"percentiles": [101]})
    with pytest.raises(Exception, match=r"percentiles: .*expected at most 100") as caught:
        sent.get(timeout=10)
    assert type(caught.value).__name__ == "InvalidRequest"


def test_an_unknown_operation_is_a_failed_result(client: Client, stock: Celery) -> None:
    sent = stock.send_task("mcts.no_such_operation", queue="mcts")
    with pytest.raises(MessageError, match="no_such_operation"):
        client.job("mcts.ucb1_selection", sent.id).result()


def test_waiting_ends_in_time_when_nobody_answers(server) -> None:
    with Client(server.url, prefix="deserted:", timeout=0.3):
        job = mcts.ucb1_selection.submit(VISITS, SUMS, PARENTS)
        started = time.monotonic()
        with pytest.raises(producers.ResultTimeout, match=f"{job.id}: queued"):
            job.result()
        assert time.monotonic() - started < 3
        assert job.status() == "queued"


def test_results_are_the_same_over_tcp_and_unix_socket(server, tmp_path) -> None:
    with (
        Worker(server.socket_url, tmp_path / "log", "--concurrency=1", prefix="socket"),
        Client(server.socket_url, prefix="socket", timeout=20),
    ):
        assert mcts.ucb1_selection(VISITS, SUMS, PARENTS).chosen.tolist() == [1, 0]


def test_two_deployments_share_a_redis_without_meeting(server, tmp_path, raw) -> None:
    before = set(raw.keys("*"))
    with (
        Worker(server.url, tmp_path / "left", "--concurrency=1", "-n", "left@h", prefix="left"),
        Worker(server.url, tmp_path / "right", "--concurrency=1", "-n", "right@h", prefix="right"),
    ):
        for name in ("left", "right"):
            with Client(server.url, prefix=name, timeout=20) as client:
                assert mcts.ucb1_selection(VISITS, SUMS, PARENTS).chosen.tolist() == [1, 0]
                app = client._here().app
                assert [list(reply) for reply in app.control.ping(timeout=1)] == [[f"{name}@h"]]
    others = set(raw.keys("*")) - before
    assert {key.split(b":")[0] for key in others} == {b"left", b"right"}


def test_a_worker_on_the_fallback_gives_the_same_answers(client, server, tmp_path) -> None:
    values = np.random.default_rng(7).standard_t(3, size=20_000)
    rewards = np.random.default_rng(8).random((200, 5))

    def answers():
        return (
            analytics.basic_statistics(values),
            fusion.connection_discovery(np.eye(6)[[0, 1, 0, 2, 1, 5]], list("abcabc")),
            optimization.multi_armed_bandit(
                np.zeros(5), np.zeros(5), policy="thompson", outcomes=rewards, seed=3
            ),
            mcts.ucb1_selection(VISITS, SUMS, PARENTS),
        )

    ours = answers()
    prefix = tmp_path.name
    with (
        Worker(server.url, tmp_path / "log", prefix=prefix, NATIVE_C_BACKEND="fallback"),
        Client(server.url, prefix=prefix, timeout=30),
    ):
        twins = answers()
    assert {result.backend for result in twins} == {"fallback"}
    assert twins[0].percentiles.tolist() == ours[0].percentiles.tolist()
    assert twins[0].kurtosis == pytest.approx(ours[0].kurtosis, rel=1e-10)
    assert (twins[1].i.tolist(), twins[1].j.tolist()) == (ours[1].i.tolist(), ours[1].j.tolist())
    assert twins[2].chosen.tolist() == ours[2].chosen.tolist()
    assert twins[3].scores.tolist() == ours[3].scores.tolist()


def test_a_worker_that_lacks_the_kernels_it_must_have_does_not_start(server, tmp_path) -> None:
    with pytest.raises(AssertionError, match="NATIVE_C_BACKEND: 'turbo', expected one of"):
        Worker(server.url, tmp_path / "log", NATIVE_C_BACKEND="turbo").__enter__()
