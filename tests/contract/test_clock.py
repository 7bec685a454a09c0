"""The broker's clock: its time on any host, measured now and then."""

import time
from typing import Any

import pytest
import redis

from contract import clock
from contract.clock import BrokerClock
from gristmill.server import EmbeddedServer


class Broker:
    """A Redis whose clock is `ahead` of ours, and whose answers take their time."""

    def __init__(self, ahead: float, *delays: float) -> None:
        self.ahead, self.delays, self.looks = ahead, list(delays), 0

    def time(self) -> tuple[int, int]:
        self.looks += 1
        delay = self.delays.pop(0) if self.delays else 0.0
        time.sleep(delay)
        now = time.time() + self.ahead
        time.sleep(delay / 10)  # the way there takes longer than the way back
        return int(now), int(now % 1 * 1e6)


def clock_of(broker: Any) -> BrokerClock:
    return BrokerClock(broker)


def test_it_tells_the_time_of_a_real_server(server: EmbeddedServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert clock_of(client).now() == pytest.approx(time.time(), abs=0.1)


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -86400.0])
def test_it_tells_the_brokers_time_and_not_the_hosts(ahead: float) -> None:
    assert clock_of(Broker(ahead)).now() == pytest.approx(time.time() + ahead, abs=0.05)


def test_the_quickest_look_counts() -> None:
    told = clock_of(Broker(100.0, 0.08, 0.0, 0.05)).now()
    assert told == pytest.approx(time.time() + 100.0, abs=0.02)


def test_it_asks_the_broker_only_now_and_then(monkeypatch) -> None:
    broker = Broker(0.0)
    watch = clock_of(broker)
    assert broker.looks == 0
    for _ in range(100):
        watch.now()
    assert broker.looks == clock.LOOKS
    later = time.monotonic() + clock.REFRESH_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    watch.now()
    assert broker.looks == 2 * clock.LOOKS


def test_it_never_goes_back_between_measurements() -> None:
    watch = clock_of(Broker(5.0))
    told = [watch.now() for _ in range(1000)]
    assert told == sorted(told)


def test_a_hosts_clock_that_is_set_does_not_show(monkeypatch) -> None:
    watch = clock_of(Broker(0.0))
    before = watch.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert watch.now() == pytest.approx(before, abs=0.05)
