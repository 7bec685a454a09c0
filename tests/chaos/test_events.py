"""The log: what is written is read once, and a kill in the middle of a line harms no other."""

from pathlib import Path

from tests.chaos.events import Kind, Log, Reader


def test_lines_are_read_once_and_by_time(tmp_path: Path) -> None:
    reader = Reader(tmp_path, "w")
    first, second = Log(tmp_path, "w1"), Log(tmp_path, "w2")
    first.write(Kind.STARTED, "a")
    second.write(Kind.STARTED, "b")
    first.write(Kind.ENDED, "a", "SUCCESS")
    found = reader.read()
    assert [(event.kind, event.job, event.name) for event in found] == [
        (Kind.STARTED, "a", "w1"),
        (Kind.STARTED, "b", "w2"),
        (Kind.ENDED, "a", "w1"),
    ]
    assert found == sorted(found)
    assert reader.read() == []


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    log = tmp_path / "w1-1-2.log"
    log.write_text("1.0 started a -\n2.0 ended")
    reader = Reader(tmp_path, "w")
    assert [event.job for event in reader.read()] == ["a"]
    log.write_text("1.0 started a -\n2.0 ended a SUCCESS\n")
    assert [(event.at, event.note) for event in reader.read()] == [(2.0, "SUCCESS")]


def test_a_note_is_one_word(tmp_path: Path) -> None:
    Log(tmp_path, "p1").write(Kind.ABANDONED, "a", "job a: queued\n after 3 s")
    (event,) = Reader(tmp_path, "p").read()
    assert event.note == "job_a:_queued_after_3_s"
