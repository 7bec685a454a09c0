"""The report shows what was measured, whole and at leisure, or says what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import record, report
from benchmarks.case import cases_of
from benchmarks.measurement import Job, row
from benchmarks.record import Figure, Record, compare
from benchmarks.run import growth
from contract.families import FAMILIES

MACHINE = {
    "date": "2026-01-02",
    "processor": "A processor",
    "cores": 2,
    "memory_gb": 8,
    "system": "Linux",
    "python": "3.11",
    "compiler": "gcc",
    "load": 0.1,
}


def made_up(family: str) -> list[Record]:
    """Return records of every case, in which ours takes 1 ms and the peers 2.5."""
    ours, theirs = (Figure(value=value, low=value, high=value) for value in (1.0, 2.5))
    records = []
    for index, case in enumerate(cases_of(family)):
        times = []
        for threads in (1, 2):
            for size in case.sizes:
                for peer in case.peers:
                    fields = compare(ours, theirs, peer.bars.get(size) if threads == 1 else None)
                    job = Job(family, index, threads)
                    times.append(row(job, case, size, peer, "avx2", machine=MACHINE, **fields))
        peak = replace(times[-1], metric="peak extra memory", unit="MB")
        records += [*times, *([*growth(case, times), peak] if case.grows else [])]
    return records


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write made-up records of all families, and send the page to a directory of the test."""
    monkeypatch.setattr(record, "OUT", tmp_path / "out")
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    for family in FAMILIES:
        record.write(tmp_path / "out" / f"{family}.json", made_up(family), keep=False)
    return tmp_path / "out"


def test_the_page_shows_every_case_peer_call_and_bar(out: Path) -> None:
    assert report.main() == 0
    text = report.PAGE.read_text()
    for family in FAMILIES:
        for case in cases_of(family):
            assert f"### {case.operation}: {case.name}\n" in text
            assert case.note in text
            for peer in case.peers:
                assert f"| {peer.name} (" in text
    records = [row for family in FAMILIES for row in made_up(family)]
    for row_ in records:
        assert row_.peer_call in text
    assert text.count("**missed**") == sum(row_.verdict == "missed" for row_ in records)
    assert "| 1 ms ±0% | 2.5 ms ±0% | 2.50 |" in text
    assert "A processor" in text


def test_each_case_that_grows_is_drawn_and_shown(out: Path) -> None:
    assert report.main() == 0
    text = report.PAGE.read_text()
    plots = sorted(report.PAGE.parent.glob("benchmarks/*.svg"))
    growing = [case for family in FAMILIES for case in cases_of(family) if case.grows]
    assert len(plots) == len(growing)
    assert all(f"](benchmarks/{plot.name})" in text for plot in plots)


def test_the_same_records_give_the_same_bytes(out: Path) -> None:
    def written() -> list[bytes]:
        assert report.main() == 0
        files = [report.PAGE, *sorted(report.PAGE.parent.glob("benchmarks/*.svg"))]
        return [path.read_bytes() for path in files]

    assert written() == written()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"error": "it is not installed"}, "it is not installed"),
        ({"quick": True}, "measured with QUICK=1, expected a full run"),
        ({"case": "another"}, "not in"),
    ],
)
def test_what_is_no_full_good_run_is_refused(
    out: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], said: str
) -> None:
    records = [Record(**r.to_dict() | change) for r in made_up("mcts")]
    record.write(out / "mcts.json", records, keep=False)
    assert report.main() == 1
    assert said in capsys.readouterr().err
    assert not report.PAGE.exists()


def without(**fields: object) -> list[Record]:
    """Return made-up records without those that have all of these fields."""
    return [r for r in made_up("mcts") if any(getattr(r, key) != fields[key] for key in fields)]


def a_bar_less() -> list[Record]:
    return [replace(record, bar=None, verdict=None) for record in made_up("mcts")]


def a_case_too_many() -> list[Record]:
    return [*made_up("mcts"), replace(made_up("mcts")[0], case="1 node, of long ago")]


PEER = cases_of("mcts")[0].peers[0]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (without(size=10_000, metric="time"), f"{PEER.name}, 1 thread: not in"),
        (without(size=10_000, threads=2), f"{PEER.name}, all cores: not in"),
        (without(metric="time per element"), "time per element: not in"),
        (without(metric="peak extra memory"), "peak extra memory: not in"),
        (a_bar_less(), f"{PEER.name}, the bar of 6: not in"),
        (a_case_too_many(), "1 node, of long ago: in"),
    ],
)
def test_a_run_that_lacks_a_row_a_bar_or_a_metric_is_refused(
    out: Path, capsys: pytest.CaptureFixture[str], records: list[Record], said: str
) -> None:
    record.write(out / "mcts.json", records, keep=False)
    assert report.main() == 1
    assert said in capsys.readouterr().err


def test_a_peer_that_was_not_measured_is_missed(out: Path) -> None:
    case = cases_of("fusion")[0]
    for peer in case.peers:
        kept = [r for r in made_up("fusion") if not r.peer.startswith(peer.name)]
        record.write(out / "fusion.json", kept, keep=False)
        with pytest.raises(report.Unreportable, match=f"{peer.name}, 1 thread"):
            report.load("fusion")
