"""What the pages show runs over a real server: the client, stock Celery, and neither of them."""

import os
from pathlib import Path

import pytest

import producers.client
from contract.deployment import DEFAULT_URL, URL_VARIABLE
from gristmill.server import EmbeddedServer
from tests.integration.worker import Worker
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.integration


def show(page: str, url: str) -> None:
    """Run the blocks of a page one after the other, with the address of the test's server."""
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / page):
        exec(compile(block.replace(DEFAULT_URL, url), page, "exec"), names)


def test_what_the_page_for_producers_shows_runs(
    shared_worker: Worker,
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(producers.client, "_default", None)
    with Worker(server.url, tmp_path / "log", "--concurrency=1", prefix="reports"):
        show("producing.md", server.url)
    assert capsys.readouterr().out.splitlines()[-1] == "2.0"


def test_what_the_page_of_the_wire_shows_runs(
    shared_worker: Worker,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(URL_VARIABLE, server.url)
    show("wire.md", server.url)
    assert capsys.readouterr().out == "SUCCESS 2.0\n"


def test_a_chain_of_tasks_of_ones_own_and_an_operation_runs_as_shown(
    shared_worker: Worker,
    server: EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The page's workers: one that does not know the tasks, and one for their queue alone."""
    _, tasks, chain = blocks(ROOT / "docs" / "celery.md")
    (tmp_path / "shop_tasks.py").write_text(tasks)
    places = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    options = ("--concurrency=1", "-I", "shop_tasks", "-Q", "shop", "-n", "shop@%h")
    with Worker(server.url, tmp_path / "log", *options, PYTHONPATH=places):
        exec(compile(chain.replace(DEFAULT_URL, server.url), "celery.md", "exec"), {})
    assert capsys.readouterr().out == "mean 4.0 of 3\n"


def test_the_readmes_program_runs(
    shared_worker: Worker,
    server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(producers.client, "_default", None)
    monkeypatch.setenv(URL_VARIABLE, server.url)
    (program,) = blocks(ROOT / "README.md")
    exec(compile(program, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2
