"""A headless Chromium that a test drives over the DevTools protocol."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
from tornado.websocket import WebSocketClientConnection, websocket_connect

#: Where distributions put it.
NAMES = ("chromium", "chromium-browser", "google-chrome")

#: A browser that draws nothing on a screen, starts clean and calls nobody.
FLAGS = (
    "--headless",
    "--no-sandbox",  # for root, as whom CI runs
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # containers have little of it
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1400,900",
)

#: Seconds that the browser may take for one answer on a busy machine.
PATIENCE = 30.0


def find() -> str | None:
    """Return the path of Chromium, or None where it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser of its own, with an empty profile in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._profile = directory / "profile"
        self._log = directory / "chromium.log"
        self._runner = asyncio.Runner()
        self._socket: WebSocketClientConnection | None = None
        self._numbers = iter(range(1, 1_000_000))

    def __enter__(self) -> Self:
        program = find()
        assert program is not None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._profile.parent)},
            )
        try:
            self._socket = self._runner.run(self._connect())
            self.send("Page.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._runner.run(self._close())
        family = [self._process, *psutil.Process(self._process.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self._process.wait()
        self._runner.close()

    def open(self, url: str) -> int:
        """Go to a page, wait until it is loaded and return its HTTP status."""
        self.send("Page.navigate", url="about:blank")
        answer = self.send("Page.navigate", url=url)
        assert (
            "errorText" not in answer or answer["errorText"] == "net::ERR_INVALID_AUTH_CREDENTIALS"
        )
        status = "performance.getEntriesByType('navigation')[0]?.responseStatus"
        loaded = "document.readyState === 'complete' && location.href !== 'about:blank'"
        self.wait_for(lambda: self.evaluate(loaded), url)
        return int(self.evaluate(status))

    def text(self, selector: str = "body") -> str:
        """Return the text of an element as a person sees it; "" where there is none."""
        return str(
            self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        )

    def html(self) -> str:
        """Return the whole page as it stands in the browser."""
        return str(self.evaluate("document.documentElement.outerHTML"))

    def click(self, selector: str) -> None:
        """Press a button or a link."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def wait_for_text(self, text: str, selector: str = "body") -> str:
        """Wait until an element's text holds `text` and return the whole of it."""
        self.wait_for(lambda: text in self.text(selector), text, lambda: self.text(selector))
        return self.text(selector)

    def wait_for(
        self, holds: Callable[[], object], what: str, found: Callable[[], str] = lambda: ""
    ) -> None:
        """Return once `holds()`; fail after a while, telling `what` was waited for."""
        limit = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > limit:
                raise AssertionError(f"waited {PATIENCE:g} s in vain for {what!r} in {found()!r}")
            time.sleep(0.1)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression, a promise's once it is kept."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Keep a picture of what a person would see."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its answer."""
        return self._runner.run(asyncio.wait_for(self._send(method, parameters), PATIENCE))

    async def _close(self) -> None:
        assert self._socket is not None
        self._socket.close()
        while await self._socket.read_message() is not None:
            pass

    async def _send(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        assert self._socket is not None
        number = next(self._numbers)
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": parameters})
        )
        while True:  # events come in between
            message = await self._socket.read_message()
            assert message is not None, "the browser closed the connection"
            answer = json.loads(message)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    async def _connect(self) -> WebSocketClientConnection:
        port = self._profile / "DevToolsActivePort"  # written once it listens
        self.wait_for(
            lambda: port.is_file() and port.read_text().count("\n"),
            "Chromium",
            lambda: self._log.read_text(errors="replace"),
        )
        number = port.read_text().split()[0]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{number}/json/list", timeout=PATIENCE
        ) as got:
            pages = [page for page in json.load(got) if page["type"] == "page"]
        return await websocket_connect(
            pages[0]["webSocketDebuggerUrl"], max_message_size=100 * 2**20
        )
