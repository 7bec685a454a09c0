"""A service of docker-compose.yml as a process of this host: its command, user, secrets, health."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML

from tests.deploy.image import ROOT, Image, as_nobody

COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")


class Service:
    """The service `name`, its files below an image's root, `words` of its texts replaced."""

    def __init__(self, image: Image, name: str, words: dict[str, str], log: Path) -> None:
        self.image, self.name, self.log, self._words = image, name, log, words
        self.settings: dict[str, Any] = COMPOSE["services"][name]
        variables = self.settings.get("environment", {})
        self.environment = image.variables() | {k: self.text(v) for k, v in variables.items()}

    def text(self, text: str) -> str:
        """Return a text of the file as the engine and the container would read it."""
        for word, instead in self._words.items():
            text = text.replace(word, instead)
        text = re.sub(r"(?<!\$)\$\{\w+:-(.*?)\}", r"\1", text).replace("$$", "$")
        return self.image.at(text)

    def __enter__(self) -> Self:
        command = [self.text(word) for word in self.settings["command"]]
        if "build" in self.settings:
            command = [*self.image.entrypoint, *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*as_nobody(), *command],
                cwd=self.image.root / self.image.directory.lstrip("/"),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def health(self) -> int:
        """Run the health check once and return its exit status; 0 is healthy."""
        kind, *words = [self.text(word) for word in self.settings["healthcheck"]["test"]]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        done = subprocess.run(
            [*as_nobody(), *command],
            cwd=self.image.root / self.image.directory.lstrip("/"),
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode

    def wait_until_healthy(self, seconds: float = 60) -> None:
        limit = time.monotonic() + seconds
        while self.health() != 0:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < limit, self.said()
            time.sleep(0.2)

    def stop(self) -> int:
        """Stop it as the engine does, within its grace; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(float(self.settings["stop_grace_period"].removesuffix("s")))

    def said(self) -> str:
        return f"{self.name}: {self.log.read_text(errors='replace')}"
