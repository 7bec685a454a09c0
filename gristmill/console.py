"""The console that commands print on: in a file or a pipe its lines end with their last word."""

import re
import sys
from typing import IO, Any, cast

from rich.console import Console


class _Trimmed:
    """A text stream that drops the spaces with which rich fills a column or a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +$", "", text, flags=re.MULTILINE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console() -> Console:
    """Return a console on standard output."""
    if sys.stdout.isatty():
        return Console()
    return Console(file=cast(IO[str], _Trimmed(sys.stdout)))
