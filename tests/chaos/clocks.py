"""Workers whose clocks are wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

#: Where distributions put the library of `faketime`; on Debian, `apt-get install libfaketime`.
_PLACES: Final = ("usr/lib/*/faketime/libfaketime.so.1", "usr/lib/faketime/libfaketime.so.1")


class skewed(Mapping[str, Mapping[str, str]]):  # noqa: N801  # reads as the word that it is
    """The environments of workers whose clocks are so many hours ahead, by worker.

    The library is looked for when a worker starts: the other scenarios do without it.
    """

    def __init__(self, hours: Mapping[str, int]) -> None:
        self._hours = dict(hours)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hours)

    def __len__(self) -> int:
        return len(self._hours)

    def __getitem__(self, worker: str) -> Mapping[str, str]:
        """Return the variables; raise FileNotFoundError where libfaketime is not installed."""
        found = [path for place in _PLACES for path in Path("/").glob(place)]
        if not found:
            raise FileNotFoundError("libfaketime: not here; on Debian: apt-get install libfaketime")
        return {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME": f"{self._hours[worker]:+d}h",
            # The suite's logs are by this one, and so are timers, which no wrong date moves.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
