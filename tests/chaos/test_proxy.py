"""The proxy carries bytes, and fails in the ways that networks fail."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Network, Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Put a proxy before a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        with Proxy(server.getsockname()[1], delay_seconds=0.3) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    connection.sendall(b"hello")
    return connection


def receive(user: socket.socket) -> bytes:
    """Return what came; the end of the stream is a reset too."""
    if not (data := user.recv(5)):
        raise ConnectionResetError("reset")
    return data


def test_an_open_network_carries_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as user:
        assert user.recv(5) == b"hello"


def test_a_network_that_is_down_resets_and_refuses_until_it_is_up(proxy: Proxy) -> None:
    with connect(proxy) as user:
        assert user.recv(5) == b"hello"
        proxy.set(Network.DOWN)
        with pytest.raises(OSError, match="reset"):
            receive(user)
    with pytest.raises(OSError, match=r"reset|Broken"), connect(proxy) as user:
        receive(user)
    proxy.set(Network.OPEN)
    with connect(proxy) as user:
        assert user.recv(5) == b"hello"


def test_a_black_hole_is_silent_and_gives_back_what_it_had(proxy: Proxy) -> None:
    with connect(proxy) as user:
        assert user.recv(5) == b"hello"
        proxy.set(Network.BLACKHOLE)
        user.settimeout(0.3)
        user.sendall(b"again")
        with pytest.raises(TimeoutError):
            user.recv(5)
        proxy.set(Network.OPEN)
        user.settimeout(5)
        assert user.recv(5) == b"again"


def test_a_half_open_connection_is_silent_for_ever_and_new_ones_work(proxy: Proxy) -> None:
    with connect(proxy) as user:
        assert user.recv(5) == b"hello"
        proxy.half_open()
        user.settimeout(0.3)
        user.sendall(b"again")
        with pytest.raises(TimeoutError):
            user.recv(5)
        with connect(proxy) as other:
            assert other.recv(5) == b"hello"
        with pytest.raises(TimeoutError):
            user.recv(5)
