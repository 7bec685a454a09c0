"""What the pages show runs over a real server: the client, stock Celery, and neither of them."""

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
