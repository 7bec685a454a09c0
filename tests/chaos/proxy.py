"""A small TCP proxy that fails on demand: the network between the server and one who uses it."""

import asyncio
import contextlib
import threading
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 1 << 16


class Network(StrEnum):
    """What the network does."""

    #: Carries everything.
    OPEN = "open"
    #: Every connection is reset, and new ones are refused.
    DOWN = "down"
    #: Connections stay and carry nothing; new ones are accepted and carry nothing.
    BLACKHOLE = "blackhole"
    #: Carries everything, late.
    SLOW = "slow"


class _Link:
    """One connection of a user and the one to the server that belongs to it."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        #: The server has closed its end, and the user was never told.
        self.is_half_open = False


class Proxy:
    """Listens on a loopback port and carries bytes to the server's, as `set` says."""

    def __init__(self, server_port: int, delay_seconds: float = 0.2) -> None:
        """Prepare a proxy; `delay_seconds` is how late a slow network carries a piece."""
        self._server_port, self._delay_seconds = server_port, delay_seconds
        self._network = Network.OPEN
        self._links: set[_Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._changed = asyncio.Event()
        self.port = 0

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, network: Network) -> None:
        """Change what the network does, at once and for connections that exist, too."""

        def change() -> None:
            self._network = network
            if network is Network.DOWN:
                for link in self._links:
                    link.near.transport.abort()
                    link.far.transport.abort()
            self._changed.set()
            self._changed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def half_open(self) -> None:
        """Close the server's end of every connection and never tell its user; new ones work."""

        def lose() -> None:
            for link in self._links:
                link.is_half_open = True
                link.far.transport.abort()

        self._loop.call_soon_threadsafe(lose)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        for link in self._links:
            link.near.transport.abort()
            link.far.transport.abort()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            if self._network is Network.DOWN:
                near.transport.abort()
                return
            await self._carried()
            answers, far = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            near.transport.abort()
            return
        finally:
            self._pumps.discard(task)
        link = _Link(near, far)
        self._links.add(link)
        for source, target in ((reader, far), (answers, near)):
            pump = self._loop.create_task(self._pump(link, source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._carried()
                if not link.is_half_open:
                    target.write(data)
                    await target.drain()
        if link.is_half_open and target is link.near:
            return  # the server's end is gone, and the user waits on
        self._links.discard(link)
        link.near.transport.abort()
        link.far.transport.abort()

    async def _carried(self) -> None:
        """Return when the network has carried a piece."""
        if self._network is Network.SLOW:
            await asyncio.sleep(self._delay_seconds)
        while self._network is Network.BLACKHOLE:
            await self._changed.wait()
