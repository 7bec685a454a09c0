"""`gristmill dlq`, as an operator meets it, and as a hostile entry would like to be met."""

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from contract.dead_letters import DeadLetters
from contract.deployment import Deployment
from gristmill.cli import app
from gristmill.dlq import printable
from gristmill.server import EmbeddedServer

#: Clears the screen, sets the title, writes over the line, turns text around, and is no UTF-8.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\x08\x9b31m\u202e\u2028[red]".encode() + b"\xff\x00"
RAW = HOSTILE + bytes(range(256))

_numbers = itertools.count()


@pytest.fixture
def deployment(server: EmbeddedServer) -> Deployment:
    return Deployment(url=server.url, prefix=f"dlq{next(_numbers)}:")


@pytest.fixture
def raw(deployment: Deployment) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(deployment.url) as raw:
        yield raw


@pytest.fixture
def letters(raw: redis.Redis, deployment: Deployment) -> DeadLetters:
    return DeadLetters(raw, deployment)


@pytest.fixture
def dlq(deployment: Deployment):
    """Return what runs `gristmill dlq ...` on the test's deployment."""

    def run(*arguments: str, says: str = "") -> Result:
        place = ("--url", deployment.url, "--prefix", deployment.prefix)
        return CliRunner().invoke(app, ["dlq", *arguments, *place], input=says)

    return run


def is_safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@given(st.text() | st.just(HOSTILE.decode(errors="backslashreplace")))
def test_nothing_that_moves_a_cursor_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_no_letters_is_said(dlq) -> None:
    told = dlq("ls")
    assert (told.exit_code, told.stdout) == (0, "no dead letters\n")
    assert json.loads(dlq("ls", "--json").stdout) == []


def test_letters_are_listed_with_their_reason(dlq, letters: DeadLetters) -> None:
    first = letters.add(b"{", "no JSON", queue="mcts")
    second = letters.add(b"{}", "it killed two", queue="celery", job="7", task="user.killer")
    told = dlq("ls")
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [second, first]
    assert lines[0].split()[2:] == ["celery", "user.killer", "7"]
    assert [line.strip() for line in lines[1::2]] == ["it killed two", "no JSON"]


def test_of_many_letters_the_newest_are_shown_and_the_number_is_said(dlq, letters) -> None:
    for i in range(5):
        letters.add(b"x", f"reason {i}")
    told = dlq("ls", "--limit", "2")
    assert [line.strip() for line in told.stdout.splitlines()[1::2]] == ["reason 4", "reason 3"]
    assert told.stdout.endswith("2 of 5; --limit shows more\n")


def test_the_list_is_json_on_request(dlq, letters) -> None:
    letter_id = letters.add(b"{}", "so", queue="mcts", job="7", task="t", worker="w")
    (found,) = json.loads(dlq("ls", "--json").stdout)
    assert found["id"] == letter_id
    assert found["died_at"].startswith("20")
    del found["id"], found["died_at"]
    told = {"reason": "so", "queue": "mcts", "job": "7", "task": "t", "worker": "w"}
    assert found == {**told, "size": 2}


def test_a_hostile_entry_reaches_no_terminal(dlq, letters) -> None:
    text = HOSTILE.decode(errors="replace")
    told = {"queue": text, "job": text, "task": text * 9, "worker": text}
    letter_id = letters.add(RAW, text, **told)
    for command in (("ls",), ("show", letter_id), ("ls", "--json"), ("show", letter_id, "--json")):
        result = dlq(*command)
        assert result.exit_code == 0
        assert is_safe(result.stdout), command
        assert "owned" in result.stdout
        assert "[red]" in result.stdout
    assert is_safe(dlq("replay", letter_id).stdout)
    assert is_safe(dlq("show", text).stderr)


def test_an_entry_is_shown_and_written_byte_for_byte(dlq, letters, tmp_path: Path) -> None:
    letter_id = letters.add(RAW, "so")
    assert base64.b64decode(json.loads(dlq("show", letter_id, "--json").stdout)["raw"]) == RAW
    target = tmp_path / "entry"
    assert dlq("show", letter_id, "--output", str(target)).exit_code == 0
    assert target.read_bytes() == RAW
    refused = dlq("show", letter_id, "--output", str(tmp_path))
    assert refused.exit_code == 2
    assert "--output" in refused.stderr


def test_of_a_long_entry_the_beginning_is_shown(dlq, letters) -> None:
    told = dlq("show", letters.add(b"x" * 100_000, "so"))
    assert len(told.stdout) < 5000
    assert "100000 bytes" in told.stdout


def test_a_letter_that_is_not_there_is_a_line(dlq) -> None:
    for command in ("show", "replay"):
        told = dlq(command, "7-7")
        assert told.exit_code == 1
        assert told.stderr == "dlq: letter: '7-7', expected the id of a dead letter\n"


def test_letters_are_put_back_as_they_came(dlq, letters, raw, deployment) -> None:
    ids = [letters.add(b"%d" % i, "so", queue="mcts", job=f"job-{i}") for i in range(3)]
    told = dlq("replay", ids[1])
    assert told.exit_code == 0
    assert told.stdout.split() == [ids[1], "to", "mcts", "job-1"]
    assert raw.lrange(f"{deployment.prefix}mcts", 0, -1) == [b"1"]
    assert dlq("replay", "--all", "--queue", "celery").exit_code == 0
    assert raw.lrange(f"{deployment.prefix}celery", 0, -1) == [b"2", b"0"]
    assert letters.size() == 0


def test_letters_are_dropped_when_the_operator_says_so(dlq, letters) -> None:
    ids = [letters.add(b"x", "so") for _ in range(3)]
    refused = dlq("purge", ids[0], says="n\n")
    assert refused.exit_code == 1
    assert "drop 1 of 3 dead letters" in refused.stderr
    assert letters.size() == 3
    assert dlq("purge", ids[0], says="y\n").stdout.endswith("dropped 1\n")
    assert dlq("purge", "--older-than", "1", "--yes").stdout == "dropped 0\n"
    assert dlq("purge", "--all", "--yes").stdout == "dropped 2\n"


@pytest.mark.parametrize(
    "arguments", [("purge",), ("purge", "1-1", "--all"), ("replay",), ("replay", "1-1", "--all")]
)
def test_either_ids_or_all(dlq, letters, arguments) -> None:
    letters.add(b"x", "so")
    told = dlq(*arguments)
    assert told.exit_code == 2
    number = len(arguments) - 1
    ways = (
        "ids of letters, --older-than or --all"
        if "purge" in arguments
        else "ids of letters or --all"
    )
    assert told.stderr == f"letters: chosen in {number} ways, expected one of: {ways}\n"
    assert letters.size() == 1


def test_a_server_that_is_not_there_is_a_line() -> None:
    told = CliRunner().invoke(app, ["dlq", "ls", "--url", "redis://:secret@127.0.0.1:1"])
    assert told.exit_code == 1
    assert told.stderr.startswith("dlq: server redis://***@127.0.0.1:1: ")
    assert "secret" not in told.stderr
