"""Flower's pages as a person sees them, and what its buttons do at the worker."""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import psutil
import pytest
from flower.urls import handlers

from contract.errors import JobCancelled
from gristmill.stack import Stack
from producers import Client, fusion, mcts
from tests.browser.conftest import RAW, Page
from tests.gristmill.processes import alive
from tests.integration.worker import held

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(300)]

SMALL: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}

#: What Flower shows to everybody: figures without content, its own files, the way in and out.
OPEN = ("/metrics", "/healthcheck", "/static/", "/login", "/logout", ".*")


@pytest.fixture
def running(client: Client):
    """Return a job of minutes that the worker is running."""
    embeddings = np.random.default_rng(3).normal(size=(500_000, 32)).astype(np.float32)
    job = fusion.connection_discovery.submit(embeddings, np.arange(500_000) % 3, threshold=0.95)
    limit = time.monotonic() + 60
    while job.status() != "running":
        assert time.monotonic() < limit
        time.sleep(0.05)
    yield job
    job.cancel()


def shows_no_bytes(page: Page) -> bool:
    shown = page.browser.html()
    return not any(form in shown for form in (RAW[:8].hex(), "\\x00", "\\xff", "\x00", "\xff\xfe"))


def test_the_workers_page_shows_the_worker_and_what_it_did(page: Page, done) -> None:
    shown = page.open("/workers", "up@")
    assert "Online" in shown
    page.browser.wait_for(lambda: "Succeeded\n\n5" in page.browser.text(), "5 succeeded jobs")
    assert "Failed\n\n3" in page.browser.text()


def test_the_tasks_page_shows_jobs_by_operation_with_what_went_in_and_came_out(
    page: Page, done
) -> None:
    page.open("/tasks", "analytics.basic_statistics")
    rows = page.browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#tasks-table tbody tr')].map(row => {"
        " const cells = [...row.querySelectorAll('td')].map(cell => cell.textContent);"
        " return [cells.find(cell => /^[0-9a-f-]{36}/.test(cell)).slice(0, 36), cells] }))"
    )
    names = {kind: rows[job_id][0] for kind, job_id in done.items()}
    assert names == {
        "statistics": "analytics.basic_statistics",
        "connections": "fusion.connection_discovery",
        "bandit": "optimization.multi_armed_bandit",
        "selection": "mcts.ucb1_selection",
        "json": "analytics.basic_statistics",
        "refused": "mcts.ucb1_selection",
        "bytes": "analytics.basic_statistics",
        "nobodys": "unknown",
    }
    _, state, arguments, result, *_ = rows[done["statistics"]]
    assert state == "SUCCESS"
    assert arguments.startswith("values=float64[100000] 800 kB, ")
    assert result.startswith("(count=100000, missing=0, ")
    assert rows[done["json"]][2].startswith("[[0.0, 0.14285714285714285, 0.2857142857142857, ...]]")
    assert rows[done["bytes"]][1:3] == ["FAILURE", "[bytes"]  # cut by the client itself
    assert rows[done["refused"]][2] == "{'visits': [[1, 1], [2, 2], [3, 3], ...]}"
    assert rows[done["refused"]][3].startswith("InvalidRequest('parent_visits: 0 at node 0, ")
    assert re.search(r"mcts\.no_such_operation' never registered", rows[done["nobodys"]][3])
    assert max(len(cell) for row in rows.values() for cell in row) < 700
    assert shows_no_bytes(page)


@pytest.mark.parametrize("kind", ["statistics", "connections", "bandit", "selection", "json"])
def test_a_jobs_page_shows_its_end(kind: str, page: Page, done) -> None:
    shown = page.open(f"/task/{done[kind]}", "Keyword arguments")
    assert "SUCCESS" in shown
    assert "backend=" in shown
    assert "Terminate" not in shown
    assert shows_no_bytes(page)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("refused", "InvalidRequest('parent_visits: 0 at node 0, expected at least 1"),
        ("bytes", "InvalidRequest('values: dtype |S"),
    ],
)
def test_a_failed_jobs_page_shows_why(kind: str, said: str, page: Page, done) -> None:
    shown = page.open(f"/task/{done[kind]}", "FAILURE")
    assert said in shown
    assert "Traceback (most recent call last)" in shown
    assert shows_no_bytes(page)


def test_the_broker_page_shows_how_long_the_queues_are(page: Page, running) -> None:
    # One process: it holds the running job and one more that it took ahead.
    waiting = [mcts.ucb1_selection.submit(**SMALL) for _ in range(7)]
    none = dict.fromkeys(("analytics", "celery", "fusion", "optimization"), "0")
    page.browser.wait_for(
        lambda: lengths(page) == none | {"mcts": "6"}, "6 jobs", lambda: str(lengths(page))
    )
    assert "***" in page.browser.text() or ":**@" in page.browser.text()
    running.cancel()
    assert [job.result().chosen.tolist() for job in waiting] == [[0]] * 7


def lengths(page: Page) -> dict[str, str]:
    """Return the length of each queue on the broker's page, loaded anew."""
    page.open("/broker", "optimization")
    return dict(
        page.browser.evaluate(
            "[...document.querySelectorAll('#queue-table tbody tr')].map("
            "row => [...row.querySelectorAll('td')].slice(0, 2).map(cell => cell.textContent))"
        )
    )


def test_the_terminate_button_stops_a_kernel_at_once(
    page: Page, running, stack: Stack, client: Client
) -> None:
    shown = page.open(f"/task/{running.id}", "Terminate")
    assert "STARTED" in shown
    assert "embeddings=float32[500000x32] 64 MB" in shown
    (child,) = pool_processes(stack)
    page.browser.click("#task-terminate")
    page.browser.wait_for_text(f"Revoked '{running.id}'")
    with pytest.raises(JobCancelled):
        running.result(timeout=30)
    page.browser.wait_for(lambda: not alive(child), "the end of the process")
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
    assert running.status() == "cancelled"
    redis = client._here().redis
    page.browser.wait_for(lambda: held(redis) == 0, "the last acknowledgement")
    page.open(f"/task/{running.id}", "REVOKED")


def test_the_revoke_button_takes_back_a_job_that_waits(page: Page, running) -> None:
    job = mcts.ucb1_selection.submit(**SMALL)
    page.open("/tasks", job.id)
    page.open(f"/task/{job.id}", "RECEIVED")
    page.browser.click("#task-revoke")
    with pytest.raises(JobCancelled):
        job.result(timeout=30)
    assert running.status() == "running"
    running.cancel()
    assert mcts.ucb1_selection(**SMALL).chosen.tolist() == [0]
    assert job.status() == "cancelled"


def test_no_page_opens_without_the_login(stack: Stack, done) -> None:
    closed = [pattern for pattern in patterns() if not pattern.startswith(OPEN)]
    assert len(closed) > 20
    for pattern in closed:
        path = pattern.replace("(.+)", done["json"]).replace("(.*)", done["json"])
        statuses = {status(stack.flower_url + path, method) for method in ("GET", "POST")}
        assert statuses <= {401, 405}, path
        assert 401 in statuses, path


def patterns() -> list[str]:
    return [
        rule[0] if isinstance(rule, tuple) else rule.regex.pattern.rstrip("$") for rule in handlers
    ]


def status(url: str, method: str) -> int:
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def pool_processes(stack: Stack) -> list[int]:
    """Return the processes that run the worker's jobs: a guard's child's children."""
    parents = {}
    for process in psutil.process_iter(["cmdline", "environ", "ppid"]):
        environ, line = process.info["environ"] or {}, process.info["cmdline"] or []
        if environ.get("GRISTMILL_URL") == stack.url and "worker" in line:
            parents[process.pid] = process.info["ppid"]
    return [pid for pid, parent in parents.items() if parents.get(parent) in parents]


def test_the_api_tells_queue_lengths_with_the_login(stack: Stack, done) -> None:
    login = base64.b64encode(f"gristmill:{stack.flower_password}".encode()).decode()
    request = urllib.request.Request(f"{stack.flower_url}/api/queues/length")
    request.add_header("Authorization", f"Basic {login}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        queues = {queue["name"]: queue["messages"] for queue in json.load(answer)["active_queues"]}
    assert queues == dict.fromkeys(("analytics", "celery", "fusion", "mcts", "optimization"), 0)
