"""The broker's clock, read on any host: times on the wire are Redis's, never a host's own."""

import time

import redis

#: Seconds after which the offset is measured again: good clocks drift under 0.1 ms in a minute.
REFRESH_SECONDS = 60.0


class BrokerClock:
    """Tells the broker's time without a round trip: the offset to our clock, measured now and then."""

    def __init__(self, client: "redis.Redis") -> None:
        """Read the clock of the Redis that `client` talks to; nothing is sent until the first look."""
        self._client = client
        self._offset = 0.0
        self._measured_at = float("-inf")

    def now(self) -> float:
        """Return seconds since 1970 by the broker's clock, within half a round trip."""
        before = time.monotonic()
        if before - self._measured_at > REFRESH_SECONDS:
            seconds, microseconds = self._client.time()
            after = time.monotonic()
            self._offset = seconds + microseconds / 1e6 - (before + after) / 2
            self._measured_at = after
        return time.monotonic() + self._offset
