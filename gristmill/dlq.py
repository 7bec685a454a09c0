"""`gristmill dlq`: look at dead letters, put them back into their queues, or drop them.

What it prints comes from whoever could write into a queue: no control character reaches a terminal.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from contract.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(
    name="dlq",
    help="Look after dead letters: what no worker could run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Url = Annotated[str | None, typer.Option(help="The server. Defaults to GRISTMILL_URL.")]
Prefix = Annotated[
    str | None, typer.Option(help="The deployment's prefix. Defaults to GRISTMILL_PREFIX.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters, as ls shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every letter.")]

#: Characters of an entry that `show` prints.
_SHOWN: Final = 4000

#: Characters of a column of `ls`: a UUID fits, and the name of any task of ours.
_WIDTH: Final = 40


@app.command()
def ls(
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the newest.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """List dead letters, the newest first."""
    with _letters(url, prefix) as letters:
        found, number = list(letters.list(limit)), letters.size()
    if as_json:
        typer.echo(json.dumps([_plain(letter) for letter in found], indent=2))
    elif not found:
        typer.echo("no dead letters")
    else:
        _print_list(found)
        if number > len(found):
            typer.echo(f"{len(found)} of {number}; --limit shows more")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(help="Id of a letter, as ls shows it.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write the entry into, byte for byte.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Show a dead letter with its entry. In JSON the entry is base64."""
    with _letters(url, prefix) as letters:
        letter = letters.get(letter_id)
    if output is not None:
        _write(output, letter.raw)
    if as_json:
        raw = base64.b64encode(letter.raw).decode()
        typer.echo(json.dumps({**_plain(letter), "raw": raw}, indent=2))
        return
    for name, value in _plain(letter).items():
        typer.echo(f"{name:8}  {printable(str(value))}".rstrip())
    if output is None:
        typer.echo(f"\n{_shown(letter.raw)}")


@app.command()
def replay(
    letter_ids: Ids = None,
    every: All = False,
    queue: Annotated[
        str | None, typer.Option(help="Queue to put them into. Defaults to the one they came from.")
    ] = None,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Put dead letters back into their queues, as new jobs."""
    _check_choice("ids of letters or --all", letter_ids, every)
    with _letters(url, prefix) as letters:
        # The oldest first, as they came.
        asked = letter_ids or [letter.id for letter in letters.list()][::-1]
        for letter_id in asked:
            letter = letters.replay(letter_id, queue)
            to = printable(queue or letter.queue)
            typer.echo(f"{letter.id}  to {to}  {printable(letter.job)}".rstrip())


@app.command()
def purge(
    letter_ids: Ids = None,
    every: All = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Every letter that is older, in days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Drop dead letters for good."""
    ways = "ids of letters, --older-than or --all"
    _check_choice(ways, letter_ids, every, older_than is not None)
    with _letters(url, prefix) as letters:
        if not yes:
            which = f"{len(letter_ids)} of " if letter_ids else "the old ones of " * (not every)
            number = letters.size()
            typer.confirm(f"drop {which}{number} dead letters for good?", abort=True, err=True)
        seconds = (older_than or 0.0) * 24 * 3600
        dropped = letters.purge(*(letter_ids or ()), older_than_seconds=seconds)
    typer.echo(f"dropped {dropped}")


def printable(text: str) -> str:
    """Return a text in which what no screen shows, or what may move its cursor, is escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


@contextmanager
def _letters(url: str | None, prefix: str | None) -> Iterator["DeadLetters"]:
    """Give the letters of a deployment; what goes wrong with them is a line and exit status 1."""
    import redis

    from contract.dead_letters import DeadLetters
    from contract.deployment import Deployment
    from contract.errors import InvalidRequest

    try:
        deployment = Deployment.from_environment(url, prefix)
        with redis.Redis.from_url(deployment.url, socket_connect_timeout=5) as client:
            try:
                yield DeadLetters(client, deployment)
            except redis.RedisError as error:
                raise InvalidRequest(f"server {deployment.safe_url}: {error}") from error
    except (InvalidRequest, OSError) as error:
        typer.echo(printable(f"dlq: {error}"), err=True)
        raise typer.Exit(1) from error


def _check_choice(ways: str, letter_ids: list[str] | None, *others: bool) -> None:
    """Refuse unless letters are chosen in one of the `ways`."""
    chosen = [bool(letter_ids), *others].count(True)
    if chosen != 1:
        typer.echo(f"letters: chosen in {chosen} ways, expected one of: {ways}", err=True)
        raise typer.Exit(2)


def _plain(letter: "DeadLetter") -> dict[str, Any]:
    """Return all of a letter but its entry, JSON-ready."""
    plain = asdict(letter)
    del plain["raw"]
    died_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(letter.died_at))
    return {"id": plain.pop("id"), "died_at": died_at, **plain}


def _print_list(letters: list["DeadLetter"]) -> None:
    """Print a letter in two lines: what it is, in columns, and why it is here."""
    from rich.text import Text

    from gristmill.console import console

    rows = [
        [letter.id, _plain(letter)["died_at"], letter.queue or "-", letter.task or "-", letter.job]
        for letter in letters
    ]
    rows = [[_cut(printable(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    screen = console()
    for letter, row in zip(letters, rows, strict=True):
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        screen.print(Text(line.rstrip(), "bold"), soft_wrap=True)
        screen.print(Text(f"    {printable(letter.reason)}"), soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _shown(raw: bytes) -> str:
    text = printable(raw[:_SHOWN].decode(errors="backslashreplace"))
    if len(raw) <= _SHOWN:
        return text
    return f"{text}\n... ({len(raw)} bytes; --output writes them into a file)"


def _write(path: Path, raw: bytes) -> None:
    try:
        path.write_bytes(raw)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
