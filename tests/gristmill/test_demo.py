"""The demo: its chapters, its report, and the whole of it with a real worker."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

import gristmill.demo
import native_c
from contract.analytics import basic_statistics
from contract.mcts import ucb1_selection
from gristmill.console import console
from gristmill.demo import forest, fusion, mcts, models, optimization, report, series, story
from gristmill.demo.chapter import Chapter, Size, Table
from gristmill.demo.interrupts import SIGNALS, Interrupts
from gristmill.demo.mill import Mill
from gristmill.demo.models import CONSTANT, Models
from gristmill.demo.series import Data
from gristmill.stack import StackError
from gristmill.testing import in_process
from tests.gristmill.processes import alive, wait_until

ROOT = Path(__file__).parents[2]

#: Little work, and every kind of it.
SMALL = Size(first_year=1988, num_shifts=19, num_seeds=2, num_trees=4, num_descents=16)

#: How a PNG file begins.
PNG = b"\x89PNG\r\n\x1a\n"


class InProcessMill(Mill):
    """A mill without server and worker: its jobs run in this process."""

    def __enter__(self) -> "InProcessMill":
        self._end.enter_context(in_process())
        return self


@pytest.fixture(scope="module")
def data() -> Data:
    return series.load()


@pytest.fixture
def mill() -> Iterator[Mill]:
    with InProcessMill(Console(file=io.StringIO()), num_workers=2) as running:
        yield running


# --- The chapters ---


def test_a_tie_that_is_put_into_the_growth_is_found_at_its_delay(mill: Mill, data: Data) -> None:
    echo = data.nino.at(data.growth.times - np.timedelta64(5, "M")).values
    noise = np.random.default_rng(0).normal(0, 0.2, echo.size)
    told = fusion.tell(mill, replace(data, growth=replace(data.growth, values=echo + noise)), SMALL)
    el_nino, sun = told.findings
    assert "follows El Niño" in el_nino
    assert "5 months later" in el_nino
    assert "no tie to the Sun" in sun
    assert all(row[2] == "+5 months" for row in told.table.rows[:2])


def test_shares_of_connected_windows_are_those_of_plain_correlations(
    mill: Mill, data: Data
) -> None:
    cut = fusion.windows(data, 0)
    (found,) = mill.grind(fusion.OPERATION, [cut.request], "windows")
    num = cut.starts.size
    nino, growth = cut.embeddings[:num], cut.embeddings[2 * num :]
    tied = np.corrcoef(nino, growth)[:num, num:] >= fusion.THRESHOLD
    expected = [np.diagonal(tied, late).mean() for late in fusion.DELAYS]
    assert fusion._shares(found, num)[0] == pytest.approx(np.array(expected), abs=0.005)


def test_forecasts_look_at_the_past_alone(data: Data) -> None:
    times, values = data.sunspots.times, data.sunspots.values
    other = values.copy()
    other[2000:] = 0
    plain, changed = (optimization.forecasts(times, each).paid for each in (values, other))
    same = 2000 - optimization.CYCLE
    assert np.array_equal(plain[:same], changed[:same])
    assert not np.array_equal(plain[same:], changed[same:])


def test_the_rule_of_the_line_is_right_about_a_line() -> None:
    months = np.arange(np.datetime64("2000-01"), np.datetime64("2020-01"))
    outcomes = optimization.forecasts(months, np.arange(0.0, 4800.0, 20.0))
    hits = dict(zip(outcomes.rules, outcomes.paid.mean(axis=0), strict=True))
    assert hits.pop("line through the last 12 months") == 1
    assert set(hits.values()) == {0}


def test_regret_is_what_the_best_rule_would_have_paid_less_what_was_paid(
    mill: Mill, data: Data
) -> None:
    told = optimization.tell(mill, data, SMALL)
    assert [row[0] for row in told.table.rows] == list(optimization.POLICIES)
    outcomes = optimization.forecasts(data.sunspots.times, data.sunspots.values)
    best, months = outcomes.paid.mean(axis=0).max(), outcomes.times.size
    for _, _, hits, regret, *_ in told.table.rows:
        missed = (best - float(hits.rstrip("%")) / 100) * months
        assert float(regret) == pytest.approx(missed, abs=2.5)


# --- The search ---


def test_there_are_as_many_models_as_choices_multiply_to() -> None:
    paths = models.all_paths()
    assert len(paths) == len(set(paths)) == (1 + 12 * 4) * 4 * 6


@pytest.mark.parametrize("path", [CONSTANT, (3, 1, 2, 0), (0, 0, 3, 5), (12, 3, 1, 2)])
def test_errors_in_unseen_years_are_those_of_least_squares_without_them(
    data: Data, path: models.Path
) -> None:
    every = Models(data)
    columns, growth = every.columns(path), data.growth
    for year, error in zip(every.years, every.errors(path), strict=True):
        judged = growth.calendar_years == year
        near = np.abs(np.arange(judged.size) - np.flatnonzero(judged).mean()) < 6 + models.MARGIN
        fit = np.linalg.lstsq(columns[~near], growth.values[~near], rcond=None)[0]
        misses = growth.values[judged] - columns[judged] @ fit
        assert error == pytest.approx(np.mean(misses**2), rel=1e-8)


def test_the_constant_model_scores_one_half_in_every_year(data: Data) -> None:
    scores = Models(data).scores(CONSTANT)
    assert scores == pytest.approx(np.full(42, 0.5))


def test_trees_find_the_best_leaf_of_a_table_and_count_every_descent(mill: Mill) -> None:
    best = (3, 1, 2, 0)
    trees = [forest.Tree(np.random.default_rng(number)) for number in range(2)]
    for _ in range(120):
        (paths,) = forest.descend([trees], lambda job: mill.fetch(ucb1_selection, job))
        for tree, path in zip(trees, paths, strict=True):
            model = tree.filled_up(path)
            tree.back_up(model, len(path), sum(map(int.__eq__, model, best)) / len(best))
    whole = forest.merged(trees)
    assert whole.node(()).visits.sum() == 240
    assert all(tree.node(()).visits.min() >= 1 for tree in trees)
    assert forest.most_visited(whole)[:3] == best[:3]


def test_batches_of_trees_of_any_size_search_alike(data: Data) -> None:
    every = Models(data)
    found = []
    for num_workers in (1, 3):
        with InProcessMill(Console(file=io.StringIO()), num_workers=num_workers) as mill:
            trees = forest.merged(mcts.search(mill, every, SMALL))
        found.append({path: node.visits.tolist() for path, node in trees.nodes.items()})
    assert found[0] == found[1]


def test_a_warning_names_what_it_is_about(mill: Mill) -> None:
    flat = [{"values": [7.0, 7.0, 7.0]}] * 5
    mill.grind(basic_statistics, flat[:1], "one", ["a flat year"])
    said = io.StringIO()
    story.show_warnings(Console(file=said, width=200), mill.accounts)
    assert said.getvalue().startswith("  analytics.basic_statistics of a flat year: ")
    mill.grind(basic_statistics, flat, "more", [*"bcdef"])
    said = io.StringIO()
    story.show_warnings(Console(file=said, width=200), mill.accounts)
    assert " of a flat year, b, c and 3 more: " in said.getvalue()


def test_numpy_is_said_to_compute_without_instruction_sets(mill: Mill) -> None:
    with native_c.use_backend("fallback"):
        mill.grind(basic_statistics, [{"values": [1.0, 2.0]}], "one")
    assert mill.accounts[basic_statistics.name].how == "fallback (NumPy)"


def test_lines_in_a_pipe_end_with_their_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title="Grains", columns=("grain", "mass"), rows=(("rye", "7"), ("oats", "11")))
    story.show_table(console(), table)
    told = capsys.readouterr().out
    assert "oats" in told
    assert [line for line in told.splitlines() if line != line.rstrip()] == []


def test_words_for_models_name_every_choice() -> None:
    assert models.describe((2, 1, 3, 0)) == ("1", "3", "cubic", "none")
    assert models.describe(CONSTANT) == ("none", "-", "constant", "none")
    assert models.in_words((2, 1, 3, 0)) == (
        "a cubic in time, El Niño 1 month before (mean of 3 months), no Sun"
    )
    assert models.in_words((1, 0, 0, 1)) == (
        "a constant in time, El Niño at the same time (mean of 1 month), the Sun at the same time"
    )


# --- The report ---


class Page(HTMLParser):
    """Collects the pictures of a page and checks that its elements are nested."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            named = dict(attrs)
            assert named["alt"]
            self.pictures.append(str(named["src"]))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text += text


def check_report(directory: Path) -> Page:
    page = Page()
    page.feed((directory / report.PAGE).read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.pictures) == 6
    files = {file.name for file in directory.iterdir()}
    assert files == {report.PAGE, *page.pictures}
    for picture in page.pictures:
        content = (directory / picture).read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 10_000
    return page


@pytest.mark.slow
def test_the_report_shows_every_chapter_and_picture(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=80)
    chapters: list[Chapter] = story.tell(mill, console, SMALL)
    accounts = story.accounts_table(mill.accounts)
    monkeypatch.chdir(ROOT)
    steps = story.next_steps()
    told = report.Report(
        chapters=chapters,
        accounts=accounts,
        machine="A machine.",
        answer=story.answer(chapters),
        next_steps=steps,
    )
    report.write(tmp_path / "new" / "report", told)
    page = check_report(tmp_path / "new" / "report")
    for chapter in chapters:
        assert chapter.question in page.text
        assert all(finding in page.text for finding in chapter.findings)
    assert "A machine." in page.text
    assert "make help" in page.text
    made = native_c.made()["backend"]
    assert all(made in row[2] for row in accounts.rows)
    assert "…" not in console.file.getvalue()  # type: ignore[attr-defined]


# --- The whole ---


@pytest.mark.integration
def test_the_demo_runs_on_a_real_worker_and_leaves_its_report_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = tmp_path / "t"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("COLUMNS", "80")
    before = set(psutil.Process().children(recursive=True))
    gristmill.demo.run(tmp_path / "demo-report", SMALL)
    told = capsys.readouterr()
    assert told.err == ""
    assert native_c.info()["backend"] in told.out
    assert f"Report:\n  {tmp_path}/demo-report/index.html\n" in told.out
    assert "\x1b" not in told.out
    check_report(tmp_path / "demo-report")
    assert set(psutil.Process().children(recursive=True)) <= before
    assert list(scratch.iterdir()) == []
    assert "MPLCONFIGDIR" not in os.environ


@pytest.mark.integration
def test_a_worker_that_dies_ends_the_demo_with_the_end_of_its_log() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, force_interactive=True, width=100)
    with Mill(console, num_workers=1) as mill:
        values = np.arange(5.0)
        results = mill.grind(basic_statistics, [{"values": values}] * 5, "five")
        assert [result.mean for result in results] == [2.0] * 5
        assert "5/5" in screen.getvalue()
        assert mill._stack.worker is not None
        mill._stack.worker.stop()
        with pytest.raises(StackError, match=r"worker: ended by itself; the end of worker\.log"):
            mill.grind(basic_statistics, [{"values": values}], "one more")


@pytest.mark.integration
def test_a_worker_that_does_not_start_ends_the_demo_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CELERY_WORKER_POOL", "no such pool")
    with pytest.raises(SystemExit) as ended:
        gristmill.demo.run(tmp_path / "report", SMALL)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "demo: worker: ended at start; the end of worker.log" in said
    assert "no such pool" in said
    assert not (tmp_path / "report").exists()


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        gristmill.demo.run(tmp_path / "file" / "report", SMALL)
    assert ended.value.code == 1
    assert "expected a directory" in capsys.readouterr().err


def test_a_missing_matplotlib_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gristmill.demo, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        gristmill.demo.run(tmp_path, SMALL)
    assert "pip install 'gristmill[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
def test_ctrl_c_and_sigterm_raise_at_once_and_at_every_check(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(number) is before


def test_a_ctrl_c_that_a_finalizer_swallowed_ends_the_next_wait() -> None:
    with Interrupts() as interrupts:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with (
            InProcessMill(Console(file=io.StringIO()), check=interrupts.check) as mill,
            pytest.raises(KeyboardInterrupt),
        ):
            mill.grind(basic_statistics, [{"values": [1.0]}], "one")


@pytest.mark.integration
def test_ctrl_c_in_the_middle_of_the_jobs_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="g") as scratch:
        home = Path(scratch)
        (home / "t").mkdir()
        running = subprocess.Popen(
            [sys.executable, "-m", "gristmill", "demo", "--report", f"{home}/report"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": f"{home}/t", "TERM": "dumb"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with running:
            assert running.stdout is not None
            lines = iter(running.stdout.readline, "")
            assert any("basic_statistics" in line for line in lines)
            family = psutil.Process(running.pid).children(recursive=True)
            assert len(family) >= 4  # two guards, a server and a worker
            running.send_signal(signal.SIGINT)
            assert "Stopped." in running.stdout.read()
            assert running.wait(timeout=40) == gristmill.demo.INTERRUPTED
        assert wait_until(lambda: not any(alive(process.pid) for process in family))
        assert list((home / "t").iterdir()) == []
        assert not (home / "report").exists()
