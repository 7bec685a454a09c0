"""Flower's pages of jobs that were sent to break them: what a client says stays text, and short."""

import pytest
from celery import Celery

from tests.browser.conftest import Page

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(300)]

#: Runs, and shows that it did, wherever it comes into a page as it is.
MARKUP = '<img src=x onerror="document.title=`run`"><script>document.title=`run`</script><b>bold'

#: Elements that no page has of itself where jobs are shown.
INJECTED = "document.querySelectorAll('table :is(img, script, b), title :is(img, script)').length"


@pytest.fixture(scope="session")
def hostile(stock: Celery) -> dict[str, str]:
    """Send a job for each place into which a client may write, and return their ids."""
    sent = {
        "name": stock.send_task(f"evil.{MARKUP}", queue="mcts"),
        "long name": stock.send_task("x" * 5000, queue="mcts"),
        "argument": stock.send_task("analytics.basic_statistics", [MARKUP]),
        "keyword": stock.send_task("analytics.basic_statistics", kwargs={MARKUP: MARKUP}),
        "summary": stock.send_task(
            "analytics.basic_statistics",
            [[1.0]],
            argsrepr=f"\x00\xff\x1b[31m\u202e{MARKUP}" + "<b>" * 3000,
        ),
        "id": stock.send_task("analytics.basic_statistics", [[1.0]], task_id=f"a/../{MARKUP}"),
    }
    for one in sent.values():
        one.get(timeout=60, propagate=False)
    return {place: one.id for place, one in sent.items()}


def test_on_the_tasks_page_what_a_client_says_is_text_and_short(page: Page, hostile) -> None:
    page.open("/tasks?limit=100", hostile["keyword"][:8])
    cells = page.browser.evaluate(
        "[...document.querySelectorAll('#tasks-table tbody td')].map(cell => cell.textContent)"
    )
    assert any("<img src=x" in cell for cell in cells)
    assert max(map(len, cells)) < 700
    assert not {"\x00", "\x1b", "\u202e"} & set("".join(cells))
    assert page.browser.evaluate(INJECTED) == 0
    assert "run" not in page.browser.evaluate("document.title")


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("name", "evil.<img src=x"),
        ("long name", "xxxxx..."),
        ("argument", "['<img src=x"),
        ("keyword", "{'<img src=x"),
        ("summary", "?ÿ?[31m?<img src=x"),
        ("id", "a/../<img src=x"),
    ],
)
def test_on_a_jobs_page_what_a_client_says_is_text_and_short(
    place: str, shown: str, page: Page, hostile
) -> None:
    path = page.browser.evaluate(f"encodeURIComponent({hostile[place]!r})")
    text = page.open(f"/task/{path}", shown)
    assert len(text) < 4000
    assert page.browser.evaluate(INJECTED) == 0
    assert "run" not in page.browser.evaluate("document.title")
