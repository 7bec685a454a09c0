"""The broker's clock, read on any host: times on the wire are Redis's, never a host's own."""

import time

import redis

#: Seconds after which the offset is measured again: good clocks drift under 0.1 ms in a minute.
REFRESH_SECONDS = 60.0

#: Round trips of one measurement.
LOOKS = 3


class BrokerClock:
    """Tells the broker's time without a round trip, by an offset that is measured now and then."""

    def __init__(self, client: "redis.Redis") -> None:
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
            # The quickest look is the truest; the first may have to open a connection.
            _, self._offset = min(self._look() for _ in range(LOOKS))
            self._measured_at = time.monotonic()
        return time.monotonic() + self._offset

    def _look(self) -> tuple[float, float]:
        """Return the round trip's length and the offset seen, both in seconds."""
        before = time.monotonic()
        seconds, microseconds = self._client.time()
        after = time.monotonic()
        return after - before, seconds + microseconds / 1e6 - (before + after) / 2
