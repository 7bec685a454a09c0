"""The pages: every link leads somewhere, and what a page shows runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from gristmill.testing import in_process
from producers import Client

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^(```+)(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str = "python") -> list[str]:
    """Return the fenced blocks of a page in a language."""
    return [text for _, named, text in FENCE.findall(page.read_text()) if named == language]


def anchors(page: Path) -> set[str]:
    """Return the names that the headings of a page can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = (page.parent / path) if path else page
    return found.exists() and (not anchor or anchor in anchors(found))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_tree_leads_somewhere(page: Path) -> None:
    targets = [at for at in LINK.findall(FENCE.sub("", page.read_text())) if "://" not in at]
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def test_every_page_can_be_reached_from_the_index() -> None:
    linked = {ROOT / "docs" / at for at in LINK.findall((ROOT / "docs" / "index.md").read_text())}
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= linked | {
        ROOT / "docs" / "index.md"
    }


def test_what_the_page_for_producers_shows_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In process: its clients reach no server here. tests/integration runs it over one."""
    names: dict[str, Any] = {}
    written = blocks(ROOT / "docs" / "producing.md")
    shown = [each for each in written if "Celery(" not in each and "AsyncClient(" not in each]
    assert len(shown) > 5
    with in_process() as road:
        for carried in ("submit", "look", "wait", "cancel"):
            monkeypatch.setattr(Client, carried, _to(road, carried))
        for block in shown:
            exec(compile(block, "producing.md", "exec"), names)


def _to(road: Any, name: str) -> Any:
    return lambda client, *arguments, **named: getattr(road, name)(*arguments, **named)
