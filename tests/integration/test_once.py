"""Idempotency keys on the whole road: whoever submits a key, its job runs once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from contract.errors import DeadlineExceeded, InvalidRequest
from producers import Client, mcts

pytestmark = pytest.mark.integration

FIELDS: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}


def test_of_many_submits_under_one_key_one_runs_and_all_get_its_result(own, raw) -> None:
    worker, client = own
    request = mcts.ucb1_selection.build(**FIELDS)
    with ExitStack() as stack, ThreadPoolExecutor(16) as threads:
        clients = [
            stack.enter_context(Client(worker.url, prefix=worker.prefix, timeout=30))
            for _ in range(16)
        ]

        def submit(one: Client) -> tuple[str, list[int]]:
            job = one.submit(mcts.ucb1_selection, request, idempotency_key="order 7")
            return job.id, job.result().chosen.tolist()

        told = list(threads.map(submit, clients))
    assert {str(chosen) for _, chosen in told} == {"[0]"}
    (job_id,) = {job_id for job_id, _ in told}
    worker.wait_for_log(f"[{job_id}] succeeded")
    late = mcts.ucb1_selection.submit(**FIELDS, idempotency_key="order 7", idempotency_seconds=60)
    assert (late.id, late.status()) == (job_id, "succeeded")
    assert worker.log().count("succeeded in") == 1
    # The first submit said how long the key lives on.
    assert 3500 < raw.ttl(client.deployment.once_key("mcts.ucb1_selection", "order 7")) <= 3600
    with pytest.raises(InvalidRequest, match=job_id):
        mcts.ucb1_selection.submit(**{**FIELDS, "exploration": 1.0}, idempotency_key="order 7")


def test_a_job_that_failed_stands_under_its_key_too(client: Client) -> None:
    ids = set()
    for _ in range(2):
        job = mcts.ucb1_selection.submit(**FIELDS, deadline_seconds=0, idempotency_key="late")
        with pytest.raises(DeadlineExceeded):
            job.result()
        ids.add(job.id)
    assert len(ids) == 1
