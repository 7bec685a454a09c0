"""A stand to watch, with jobs of every kind behind it, and a browser before it."""

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from celery import Celery

from gristmill.stack import Stack
from producers import Client, analytics, fusion, mcts, optimization
from tests.browser import browser as chromium
from tests.browser.browser import Browser

#: Bytes of which no part may show, in any spelling.
RAW = b"\x00\xff\xfe\x9c" * 300


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """Start Chromium; without one the test is skipped, in CI it fails."""
    if chromium.find() is None:
        missing = "no Chromium on PATH; on Debian: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[Stack]:
    logs = tmp_path_factory.mktemp("stack")
    with Stack(concurrency=1, flower=True, logs=logs, start_timeout=90) as stack:
        wait_until_it_watches(stack)
        yield stack


def wait_until_it_watches(stack: Stack) -> None:
    """Wait until Flower hears the worker's events: it shows no job of the time before."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    limit = time.monotonic() + chromium.PATIENCE
    online = re.compile(rb'^flower_worker_online\{worker="up@[^"]*"\} 1\.0$', re.MULTILINE)
    while True:
        with opener.open(f"{stack.flower_url}/metrics", timeout=chromium.PATIENCE) as answer:
            if online.search(answer.read()):
                return
        assert time.monotonic() < limit, "Flower hears no worker"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def stock(stack: Stack) -> Iterator[Celery]:
    """Return a client that has never heard of us."""
    with Celery(broker=stack.url, backend=stack.url, set_as_current=False) as stock:
        yield stock


@pytest.fixture(scope="session")
def done(client: Client, stock: Celery) -> dict[str, str]:
    """Run a job of each kind to its end and return their ids by kind."""
    generator = np.random.default_rng(1)
    jobs = {
        "statistics": analytics.basic_statistics.submit(generator.normal(size=100_000)),
        "connections": fusion.connection_discovery.submit(np.eye(4)[[0, 1, 0]], ["a", "b", "b"]),
        "bandit": optimization.multi_armed_bandit.submit([5, 5], [1.0, 4.0], policy="ucb1"),
        "selection": mcts.ucb1_selection.submit([[1, 2]], [[0.5, 1.0]], [3]),
    }
    for job in jobs.values():
        job.result()
    visits = [[k, k] for k in range(1, 900)]
    refused = {"visits": visits, "value_sums": visits, "parent_visits": [0] * 899}
    sent = {
        "json": stock.send_task("analytics.basic_statistics", [[k / 7 for k in range(5000)]]),
        "refused": stock.send_task("mcts.ucb1_selection", kwargs=refused),
        "bytes": stock.send_task("analytics.basic_statistics", [RAW]),
        "nobodys": stock.send_task("mcts.no_such_operation", queue="mcts"),
    }
    for one in sent.values():
        one.get(timeout=30, propagate=False)
    return {kind: job.id for kind, job in {**jobs, **sent}.items()}


@pytest.fixture
def page(browser: Browser, stack: Stack, request: pytest.FixtureRequest) -> Iterator["Page"]:
    """Watch as somebody who has the login; keep a picture of what was seen last."""
    page = Page(browser, stack)
    yield page
    pictures = Path(__file__).parents[2] / "build" / "browser"
    pictures.mkdir(parents=True, exist_ok=True)
    browser.screenshot(pictures / f"{request.node.name[:60]}.png")


class Page:
    """Flower's pages, with the login."""

    def __init__(self, browser: Browser, stack: Stack) -> None:
        self.browser = browser
        self._url = stack.flower_url
        # Through the front door: a browser gives the login to all that lies below where it was
        # asked for it, and Flower's API refuses without asking.
        login = f"gristmill:{stack.flower_password}@"
        assert browser.open(self._url.replace("://", f"://{login}") + "/") == 200

    def open(self, path: str, text: str) -> str:
        """Open a page, wait until `text` stands on it and return all of its text."""
        assert self.browser.open(self._url + path) == 200
        return self.browser.wait_for_text(text)
