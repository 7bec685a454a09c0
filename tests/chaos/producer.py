"""A producer: sends the mix at a steady rate until it is stopped, and logs what was accepted.

`python -m tests.chaos.producer ours|stock SEED RATE BACKLOG`; the address and the log come from the
environment.
"""

import contextlib
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import redis

from contract.deployment import Deployment
from contract.errors import GristmillError
from contract.families import FAMILIES
from tests.chaos.events import Kind, Log
from tests.chaos.jobs import Mix, Single
from tests.chaos.senders import QUEUE, REFUSALS, SENT_AWAY, OurSender, Sender, StockSender

#: One in so many jobs has a caller that waits for its result, and how many may wait at a time.
CALLER_EVERY: Final = 20
NUM_CALLERS: Final = 8

_LOOK_EVERY: Final = 20
_SENDERS: Final[dict[str, type[Any]]] = {"ours": OurSender, "stock": StockSender}


class Producer:
    """Sends jobs, one after another, and waits for the results of some."""

    def __init__(self, sender: Sender, log: Log, seed: int) -> None:
        self._sender, self._log, self._mix = sender, log, Mix(seed)
        self._callers = ThreadPoolExecutor(NUM_CALLERS)
        self._waiting = self._submitted = 0

    def send(self) -> None:
        """Send what the mix draws next, and log whether it was accepted."""
        drawn = self._mix.draw()
        began = time.monotonic()
        try:
            accepted = self._sender.send(drawn)
        except REFUSALS as error:
            self._log.write(Kind.REFUSED, type(error).__name__, _since(began))
            return
        for one in accepted:
            self._log.write(Kind.ACCEPTED, one, _since(began))
        self._submitted += 1
        is_due = self._submitted % CALLER_EVERY == 0 and self._waiting < NUM_CALLERS
        if is_due and isinstance(drawn, Single):
            self._wait(drawn, accepted[0])

    def _wait(self, single: Single, job: str) -> None:
        waiter = self._sender.waiter(single, job)
        if waiter is None:
            return
        self._waiting += 1

        def call() -> None:
            try:
                waiter()
                self._log.write(Kind.ANSWERED, job)
            except SENT_AWAY as error:
                self._log.write(Kind.ABANDONED, job, f"{type(error).__name__}: {error}")
            except GristmillError as error:
                self._log.write(Kind.ANSWERED, job, type(error).__name__)
            finally:
                self._waiting -= 1

        self._callers.submit(call)

    def close(self) -> None:
        """Let the callers have their results."""
        self._callers.shutdown()


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.4f}"


def main(kind: str, seed: int, rate: float, backlog: int) -> None:
    """Send `rate` jobs a second, fewer while `backlog` of them wait, until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    deployment = Deployment.from_environment()
    producer = Producer(_SENDERS[kind](deployment), Log.from_environment(), seed)
    looking = redis.Redis.from_url(deployment.url, socket_timeout=2, socket_connect_timeout=2)
    next_at = time.monotonic()
    for count in range(sys.maxsize):
        if stopped:
            break
        if count % _LOOK_EVERY == 0:
            with contextlib.suppress(redis.RedisError):
                while _waiting(looking) > backlog and not stopped:
                    time.sleep(0.1)
        producer.send()
        # What was missed while nobody answered is not caught up: that would be another load.
        next_at = max(next_at + 1 / rate, time.monotonic() - 1)
        time.sleep(max(0.0, next_at - time.monotonic()))
    producer.close()


def _waiting(client: redis.Redis) -> int:
    with client.pipeline(transaction=False) as pipe:
        for queue in (*FAMILIES, QUEUE):
            pipe.llen(queue)
        return sum(pipe.execute())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
