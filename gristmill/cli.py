"""The `gristmill` command.

Every command imports what it needs when it runs, so that `gristmill --help` answers at once.
"""

import json
import signal
import time
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gristmill import __version__, dlq
from gristmill.missing import say

if TYPE_CHECKING:
    from gristmill.doctor import Check
    from gristmill.stack import Stack


class Commands(TyperGroup):
    """The commands; one that cannot import what it needs says so in a line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise _refusal(f"{ctx.invoked_subcommand}: {say(error)}") from None


app = typer.Typer(
    name="gristmill",
    cls=Commands,
    help="A message-queue worker system for numeric jobs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(dlq.app)

#: Exit status of a process that Ctrl-C ended, by the custom of shells.
INTERRUPTED: Final = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def info(as_json: AsJson = False) -> None:
    """Say what runs here, and on what. Exit status 1: the installation is broken."""
    from gristmill import doctor
    from native_c.errors import NativeError

    try:
        kernels = doctor.kernels()
    except NativeError as error:  # what the environment asks for does not exist, or not here
        raise _refusal(f"info: {error}; {doctor.advice_on_backend(error)}") from None
    del kernels["version"]
    found: dict[str, Any] = {**doctor.versions(), **kernels}
    broken = [f"{each.name} {each.found}" for each in doctor.check_imports() if each.advice]
    if as_json:
        typer.echo(json.dumps({**found, "broken": broken}, indent=2))
    else:
        said = {"broken": "; ".join(broken)} | found
        _print_rows({name: value for name, value in said.items() if value not in ("", ())})
    raise typer.Exit(bool(broken))


@app.command(name="doctor")
def examine(
    url: Annotated[
        str | None, typer.Option(help="Server to look at. Defaults to GRISTMILL_URL.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="The deployment's prefix. Defaults to GRISTMILL_PREFIX.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong here and what to do. Exit status 1: something fails."""
    from dataclasses import asdict

    from gristmill import doctor

    checks = list(doctor.examine(url, prefix))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _print_checks(checks)
    raise typer.Exit(any(check.state == "fail" for check in checks))


@app.command()
def schema(
    operation: Annotated[
        str | None, typer.Argument(help="Such as analytics.basic_statistics.")
    ] = None,
) -> None:
    """List the operations, or print the JSON schema of one."""
    from contract.families import operations

    declared = operations()
    if operation is None:
        _print_rows({name: _first_line(found.__doc__) for name, found in declared.items()})
    elif operation in declared:
        typer.echo(json.dumps(declared[operation].json_schema(), indent=2))
    else:
        like = [name for name in declared if name.partition(".")[2] == operation]
        like = like or get_close_matches(operation, declared, n=1)
        hint = f"; did you mean {like[0]}?" if like else ""
        legal = ", ".join(declared)
        typer.echo(f"operation: {operation!r}, expected one of {legal}{hint}", err=True)
        raise typer.Exit(2)


@app.command()
def server(
    port: Annotated[int, typer.Option(help="Loopback port. 0 takes a free one.")] = 0,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep its files. Defaults to a temporary one.")
    ] = None,
    append_only: Annotated[
        bool, typer.Option("--append-only", help="Keep an append-only file.")
    ] = False,
) -> None:
    """Run a private server until Ctrl-C. It is Redis or Valkey; its address is printed."""
    from gristmill.server import EmbeddedServer, ServerError

    _hear_ctrl_c()
    try:
        embedded = EmbeddedServer(port=port, directory=directory, append_only=append_only)
        with embedded:
            typer.echo(f"export GRISTMILL_URL={embedded.url}")
            _wait_for_ctrl_c(str(embedded.binary), lambda: "" if embedded.running else "server")
    except ServerError as error:
        raise _refusal(error) from error


@app.command()
def up(
    concurrency: Annotated[
        int | None, typer.Option(help="Jobs at a time. Defaults to one for each core.")
    ] = None,
    flower: Annotated[
        bool | None, typer.Option(help="Run Flower. Defaults to whether it is installed.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where the server keeps its files. Defaults to a temporary directory."),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Show what worker and Flower log, instead of keeping it."),
    ] = False,
) -> None:
    """Run a server, a worker and Flower until Ctrl-C."""
    from gristmill.server import EmbeddedServer, ServerError
    from gristmill.stack import Stack, StackError, flower_is_installed

    _hear_ctrl_c()
    try:
        watched = flower_is_installed() if flower is None else flower
        with EmbeddedServer(directory=directory, append_only=directory is not None) as embedded:
            logs = None if verbose else embedded.directory
            typer.echo(f"Starting a worker{' and Flower' * watched} ...", err=True)
            with Stack(
                concurrency=concurrency, flower=watched, logs=logs, server=embedded
            ) as stack:
                _print_stack(stack, logs)
                _wait_for_ctrl_c("all of it", lambda: stack.ended, stack.last_words)
    except KeyboardInterrupt:  # before all of it ran
        raise typer.Exit(INTERRUPTED) from None
    except (ServerError, StackError) as error:
        raise _refusal(f"up: {error}") from error


@app.command()
def metrics(
    port: Annotated[
        int | None,
        typer.Option(help="Serve them on this port until Ctrl-C; 0 takes a free one."),
    ] = None,
    address: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    url: Annotated[
        str | None, typer.Option(help="Server to read. Defaults to GRISTMILL_URL.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="The deployment's prefix. Defaults to GRISTMILL_PREFIX.")
    ] = None,
) -> None:
    """Print the deployment's metrics for Prometheus, or serve them."""
    from prometheus_client import start_http_server

    from contract.errors import InvalidRequest
    from gristmill.metrics import registry, tell

    try:
        if port is None:
            told, failure = tell(url, prefix)
            typer.echo(told, nl=False)
            if failure:  # for people; a program reads gristmill_broker_up
                typer.echo(f"metrics: {failure}", err=True)
            return
        _hear_ctrl_c()
        serving, _ = start_http_server(port, address, registry(url, prefix))
    except (InvalidRequest, OSError, OverflowError) as error:
        raise _refusal(f"metrics: {error}") from None
    typer.echo(f"http://{address}:{serving.server_port}/metrics")
    _wait_for_ctrl_c("the metrics", lambda: "")


@app.command()
def demo(
    report: Annotated[Path, typer.Option(help="Directory of the report.")] = Path("demo-report"),
) -> None:
    """Run all four families on real data and report."""
    from gristmill.demo import run

    run(report)


def _hear_ctrl_c() -> None:
    """Meet SIGINT even where it is ignored: a shell's script ignores it for what it starts by &."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait_for_ctrl_c(
    what: str, ended: Callable[[], str], last_words: Callable[[str], str] = lambda name: ""
) -> None:
    """Return at Ctrl-C or SIGTERM; refuse when `ended` names something that ended by itself.

    `last_words`: returns the end of its log, which may be gone a moment later.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Only now is a SIGTERM met in good order, so only now is the reader told that all is up.
        typer.echo(f"{what} runs until Ctrl-C", err=True)
        while not (name := ended()):
            time.sleep(0.2)
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
        return
    raise _refusal(f"{name}: ended by itself{last_words(name)}")


def _refusal(message: object) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _print_rows(rows: dict[str, Any]) -> None:
    """Print names and values in two columns, each on a line of its own, however wide the screen."""
    width = max(map(len, rows))
    for name, value in rows.items():
        told = ", ".join(value) if isinstance(value, tuple) else str(value)
        typer.echo(f"{name:{width}}  {told}".rstrip())


def _print_checks(checks: "list[Check]") -> None:
    from rich.table import Table
    from rich.text import Text

    from gristmill.console import console

    styles = {"pass": "green", "warn": "yellow", "fail": "bold red"}
    table = Table.grid(padding=(0, 2))
    for check in checks:
        what = Text(check.found)
        if check.advice:
            what.append(f"\n{check.advice}", "dim")
        table.add_row(Text(check.state, styles[check.state]), Text(check.name), what)
    console().print(table)


def _print_stack(stack: "Stack", logs: Path | None) -> None:
    rows = {}
    if stack.flower:
        rows["Flower"] = f"{stack.flower_url} (user gristmill, password {stack.flower_password})"
    if logs:
        rows["Logs"] = f"{logs}/*.log"
    # Alone on its line: it is copied into another terminal.
    typer.echo(f"\nexport GRISTMILL_URL={stack.url}\n")
    if rows:
        _print_rows(rows)
