"""A stretch of network between a client and a server that a test cuts, silences or leads away."""

import contextlib
import socket
import threading
from typing import Self


class Proxy:
    """Forwards connections to a port of this host."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.is_cut = False
        self._pairs: list[tuple[socket.socket, socket.socket, threading.Event]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, password: str) -> str:
        return f"redis://:{password}@127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """End every connection and take no new ones, until `mend`."""
        self.is_cut = True
        for pair in self._pairs:
            _close(*pair[:2])

    def mend(self) -> None:
        self.is_cut = False

    def silence(self) -> None:
        """Leave every connection open and forward nothing on it any more; new ones work."""
        for _, _, is_silent in self._pairs:
            is_silent.set()

    def lead_to(self, port: int) -> None:
        """Lead new connections elsewhere; those that are open stay where they are."""
        self.target = port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.is_cut:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            pair = near, far, threading.Event()
            self._pairs.append(pair)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_forward, args=(source, sink, pair[2]), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, is_silent: threading.Event) -> None:
    while True:
        try:
            data = source.recv(65536)
            if data and is_silent.is_set():
                continue
            if not data:
                break
            sink.sendall(data)
        except OSError:
            break
    _close(source, sink)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
