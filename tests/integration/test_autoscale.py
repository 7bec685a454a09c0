"""`--autoscale`: processes come with the load and go after it, and no job is lost on the way."""

import numpy as np
import pytest

from producers import Client, analytics
from tests.integration.test_faults import meta_of, send
from tests.integration.worker import Worker, held, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_worker_scales_up_and_down_and_loses_no_job(server, tmp_path) -> None:
    options = ("--autoscale=4,1", "-I", "tests.integration.user_tasks")
    with (
        Worker(
            server.url, tmp_path / "log", *options, prefix="scale:", AUTOSCALE_KEEPALIVE="2"
        ) as worker,
        Client(server.url, prefix="scale:", timeout=60) as client,
    ):
        assert len(worker.children()) == 1
        values = np.random.default_rng(1).normal(size=(300, 500))
        sleeps = [send(client, "user.slow", 0.2, "scale") for _ in range(12)]
        jobs = [analytics.basic_statistics.submit(row) for row in values]
        wait_until(lambda: len(worker.children()) == 4, 30, worker.log)
        means = [job.result().mean for job in jobs]
        np.testing.assert_allclose(means, values.mean(axis=1), rtol=1e-12, atol=1e-15)
        assert all(meta_of(client, job_id)["result"] == "done" for job_id in sleeps)

        wait_until(lambda: len(worker.children()) == 1, 30, worker.log)
        here = client._here().redis
        assert here.get("scale:ends") == b"12"
        assert held(here, "scale:") == 0
        assert "Scaling up" in worker.log()
        assert "Scaling down" in worker.log()
        # A pool that has shrunk grows again.
        again = [send(client, "user.slow", 0.5, "again") for _ in range(8)]
        wait_until(lambda: len(worker.children()) > 1, 30, worker.log)
        assert all(meta_of(client, job_id)["result"] == "done" for job_id in again)
        assert here.get("again:starts") == b"8"
        assert worker.terminate() == 0
