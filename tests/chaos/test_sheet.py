"""The sheet keeps what was seen, and the page shows all of it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import report, sheet
from tests.chaos.catalogue import SCENARIOS
from tests.chaos.ledger import Blow
from tests.chaos.scenario import UnderLoad
from tests.chaos.sheet import Chapter, Row


def chapter(scenario: str, passed: bool | None = True) -> Chapter:
    row = Row(
        scenario=scenario,
        promise="every accepted job ends",
        fault=f"fault of {scenario}",
        runs=3,
        figure=f"lost 0 in {scenario}",
        passed=passed,
        details={"lost": 0, "jobs": 1_000, "stuck": 0, "doubled": 0},
    )
    return Chapter(scenario=scenario, about="Done.", rows=(row,), seconds=1.5, short=False)


def test_a_sheet_is_read_as_it_was_written_and_a_chapter_replaces_its_older_self(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out" / "sheet.json"
    sheet.write(chapter("parent", passed=False), path)
    sheet.write(chapter("child"), path)
    sheet.write(chapter("parent"), path)
    assert sheet.read(path) == [chapter("child"), chapter("parent")]


def test_a_chapter_passes_unless_a_promise_was_broken() -> None:
    assert chapter("parent").passed
    assert not chapter("parent", passed=False).passed
    assert chapter("stock", passed=None).passed


def test_the_terminal_tells_every_row_and_the_verdict() -> None:
    console = Console(width=200, record=True, file=None, quiet=False)
    sheet.show([chapter("parent"), chapter("child", passed=False)], console)
    text = console.export_text()
    assert "lost 0 in parent" in text
    assert "FAIL" in text
    assert "1 promises kept, 1 broken." in text


def test_the_page_sums_up_the_headline_and_shows_every_row() -> None:
    chapters = [chapter(one.name, None if one.name == "stock" else True) for one in SCENARIOS]
    text = "\n".join(report.page(chapters))
    assert "over 4,000 jobs: **lost 0, stuck 0, double 0**" in text
    assert all(f"lost 0 in {one.name}" in text for one in SCENARIOS)
    assert "Not kept" not in text


def test_the_page_says_what_was_not_kept_and_what_was_not_run() -> None:
    text = "\n".join(report.page([replace(chapter("parent", passed=False))]))
    assert "Not kept in this run (1)" in text
    assert "Not in this run: child" in text


def test_scenarios_have_names_of_their_own() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_every_scenario_tells_what_it_does(scenario) -> None:
    assert scenario.about.endswith(".")


def test_a_worker_that_did_not_come_back_is_told_in_words() -> None:
    network = next(one for one in SCENARIOS if one.name == "network")
    assert isinstance(network, UnderLoad)
    row = network._seconds("each worker ends jobs", [Blow(at=0.0, over_at=1.0)], [0.5, math.inf])
    assert row.figure == "p50 0.50 s, p99 never, max never of 2"
    assert row.passed is False
