"""Clients and workers that have never heard of us: stock Celery in Python, celery-node in Node."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from celery import group

from contract.deployment import DEFAULT_URL
from tests.compat.conftest import Stands
from tests.compat.stand import STANDS, Stand, client_of, outcome, outcomes, worker_of
from tests.integration.worker import ROOT
from tests.test_docs import blocks

pytestmark = [pytest.mark.integration, pytest.mark.compat]

PAGE = ROOT / "docs" / "celery.md"

#: Where `make test-compat` puts celery-node.
NODE_MODULES = ROOT / ".venv-node" / "node_modules"

#: Prints, at the end of a script, which of our packages it has loaded.
CONFESSION = """
import sys
print({"contract", "producers", "workers", "native_c", "gristmill"} & set(sys.modules))
"""

#: A worker in Node that serves `node.join`.
NODE_WORKER = """
const worker = require("celery-node").createWorker(process.env.URL, process.env.URL, "node");
worker.register("node.join", (words, options) => words.join(options.between));
worker.start();
"""


@pytest.fixture(params=STANDS[:2])
def bare(stands: Stands, request: pytest.FixtureRequest) -> Stand:
    """Run what a page shows: a deployment without a prefix, in a database of its own."""
    database = 1 + STANDS.index(request.param)
    return stands.stand(request.param, "--concurrency=1", label="bare", database=database)


@pytest.fixture(scope="session")
def node() -> str:
    """Return the program; without it or celery-node the test is skipped, in CI it fails."""
    found = shutil.which("node")
    if found is None or not (NODE_MODULES / "celery-node").is_dir():
        missing = "no node or no celery-node; `make test-compat` installs the latter"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return str(found)


def shown(language: str, stand: Stand, number: int = 0) -> str:
    """Return what the page shows in a language, with the address of the stand."""
    return blocks(PAGE, language)[number].replace(DEFAULT_URL, stand.worker.url)


def printed(command: list[str], folder: Path, **variables: str) -> list[str]:
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


#: What the page's programs print, in either language.
ANSWERS = [
    "2",
    "InvalidRequest percentiles: 1 of 1 above 100 (first at 0), expected at most 100",
]


def test_a_stock_client_in_python_does_what_the_page_shows(bare: Stand, tmp_path: Path) -> None:
    program = shown("python", bare) + CONFESSION
    lines = printed([sys.executable, "-c", program], tmp_path)
    assert [line.replace("2.0", "2") for line in lines] == [*ANSWERS, "set()"]


def test_a_client_in_node_does_what_the_page_shows(bare: Stand, node: str, tmp_path: Path) -> None:
    script = tmp_path / "client.js"
    script.write_text(shown("js", bare))
    assert printed([node, str(script)], tmp_path, NODE_PATH=str(NODE_MODULES)) == ANSWERS


def test_a_client_in_node_uses_a_prefix(stands: Stands, node: str, tmp_path: Path) -> None:
    for name in STANDS[:2]:
        stand = stands.stand(name, "--concurrency=2")
        first, prefixed = shown("js", stand), shown("js", stand, 1)
        made = next(line for line in first.splitlines() if "createClient" in line)
        script = tmp_path / f"{name}.js"
        script.write_text(first.replace(made, made + prefixed.replace("shop:", stand.prefix)))
        assert printed([node, str(script)], tmp_path, NODE_PATH=str(NODE_MODULES)) == ANSWERS


def test_a_worker_in_node_serves_what_each_client_sends(
    bare: Stand, node: str, tmp_path: Path
) -> None:
    script = tmp_path / "worker.js"
    script.write_text(NODE_WORKER)
    places = {"URL": bare.worker.url, "NODE_PATH": str(NODE_MODULES)}
    worker = subprocess.Popen([node, str(script)], cwd=tmp_path, env={**os.environ, **places})
    try:
        with client_of("stock", bare.worker.url, "") as stock:
            for client in (bare.client, stock):
                task = client.signature("node.join", (["a", "b"],), {"between": "-"})
                assert outcome(task.set(queue="node").apply_async()) == ("SUCCESS", "a-b")
    finally:
        worker.kill()
        worker.wait()


def test_a_stock_worker_and_ours_share_a_queue(stands: Stands, tmp_path: Path) -> None:
    ours = stands.stand("ours", "--concurrency=1", label="sharer")
    (name,) = ours.client.control.inspect(timeout=10.0, limit=1).ping()
    options = ("--concurrency=1", "--queues=shared", "-n", "stock@%h")
    alone = [ours.task("add", k, k).set(queue="shared").apply_async() for k in range(5)]
    log, key = tmp_path / "log", ours.key()
    with worker_of("stock", ours.worker.url, log, *options, prefix=ours.prefix):
        assert [outcome(one) for one in alone] == [("SUCCESS", 2 * k) for k in range(5)]
        # Now both: each task runs once, and each worker has a part in it.
        ours.client.control.add_consumer(
            "shared", destination=[name], reply=True, timeout=10.0, limit=1
        )
        slow = [ours.task("slow", 0.05, key).set(queue="shared") for _ in range(30)]
        result = group(slow, app=ours.client).apply_async()
        assert outcomes(result) == [("SUCCESS", "slept")] * 30
    assert sorted(ours.notes(key)) == ["begun"] * 30 + ["ended"] * 30
    shares = [text.count("Task compat.slow") for text in (ours.worker.log(), log.read_text())]
    assert all(shares)


def test_a_stock_client_reads_what_our_client_sent_and_the_reverse(stands: Stands) -> None:
    ours = stands.stand("ours", "--concurrency=2")
    stock = client_of("stock", ours.worker.url, ours.prefix)
    with stock:
        sent = ours.task("add", 1, 2).apply_async()
        assert outcome(stock.AsyncResult(sent.id)) == ("SUCCESS", 3)
        back = stock.signature("compat.add", (2, 2)).apply_async()
        assert outcome(ours.client.AsyncResult(back.id)) == ("SUCCESS", 4)
        failed = ours.task("fail", "sorry").apply_async()
        assert outcome(stock.AsyncResult(failed.id)) == ("FAILURE", "ValueError: sorry")
