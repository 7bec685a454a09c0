"""The broker's clock, read on any host: times on the wire are Redis's, never a host's own."""

import time
from typing import Any

#: Seconds after which the offset is measured again: good clocks drift under 0.1 ms in a minute.
REFRESH_SECONDS = 60.0

#: Round trips of one measurement.
LOOKS = 3


class BrokerClock:
    """Tells the broker's time without a round trip, by an offset that is measured now and then."""

    def __init__(self, client: Any) -> None:
        """Read the clock of the Redis that `client` talks to, from the first `now` on."""
        self._client = client
        self._offset = 0.0
        self._measured_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the next `now` asks the broker."""
        return time.monotonic() - self._measured_at > REFRESH_SECONDS

    def now(self) -> float:
        """Return seconds since 1970 by the broker's clock, within half a round trip."""
        if self.is_due:
            self._settle([self._look() for _ in range(LOOKS)])
        return time.monotonic() + self._offset

    def _look(self) -> tuple[float, float]:
        before = time.monotonic()
        return _seen(before, self._client.time())

    def _settle(self, looks: list[tuple[float, float]]) -> None:
        # The quickest look is the truest; the first may have to open a connection.
        _, self._offset = min(looks)
        self._measured_at = time.monotonic()


class AsyncBrokerClock(BrokerClock):
    """The same for an event loop, which `refresh`es the clock before it asks for `now`."""

    async def refresh(self) -> None:
        """Measure the offset anew where that is due."""
        if self.is_due:
            looks = []
            for _ in range(LOOKS):
                before = time.monotonic()
                looks.append(_seen(before, await self._client.time()))
            self._settle(looks)

    def now(self) -> float:
        """Return seconds since 1970 by the broker's clock, as far as it was measured."""
        return time.monotonic() + self._offset


def _seen(before: float, answer: tuple[int, int]) -> tuple[float, float]:
    """Return the round trip's length and the offset that a look began at `before` has shown."""
    after = time.monotonic()
    seconds, microseconds = answer
    return after - before, seconds + microseconds / 1e6 - (before + after) / 2
