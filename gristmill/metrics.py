"""What a deployment tells Prometheus: queues, what workers hold, dead letters, rare events.

It is read from Redis when it is asked for, and changes nothing there; one such process is enough
for a deployment. What jobs and workers do is in Flower's own metrics.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.deployment import Deployment
from contract.events import EVENTS, OTHER, Events
from contract.families import FAMILIES, operations

#: Seconds after which a server that does not answer is taken for one that is down.
TIMEOUT_SECONDS: Final = 5.0

#: The queues that workers serve: one a family, and Celery's own for who names none.
QUEUES: Final = (*FAMILIES, "celery")

#: KEYS: lists. Returns length of each and when its oldest entry was submitted, "" where it does not
#: say. An entry ends with its headers; the body before them may have megabytes: nobody looks there.
_LOOK_AT_QUEUES: Final = """
local found = {}
for _, key in ipairs(KEYS) do
  local length, at = redis.pcall('LLEN', key), nil
  if type(length) ~= 'number' then length = 0 end
  if length > 0 then
    local oldest = redis.call('LINDEX', key, -1)
    at = oldest and string.match(string.sub(oldest, -16384), '"submitted_at": ?(%d+%.?%d*)')
  end
  found[#found + 1] = length
  found[#found + 1] = at or ''
end
return found
"""


class DeploymentCollector(Collector):
    """Reads a deployment's state each time that it is collected."""

    def __init__(self, client: "redis.Redis", deployment: Deployment) -> None:
        """Read from the Redis that `client` talks to."""
        #: Why the server did not answer when it was last asked; "" where it did.
        self.failure = ""
        self._client = client
        self._deployment = deployment
        self._events = Events(client, deployment)

    def describe(self) -> list[Metric]:
        """Return nothing: what there is, is known when it is read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; only `gristmill_broker_up` 0 where the server does not answer."""
        try:
            found, self.failure = list(self._read()), ""
        except (redis.RedisError, OSError) as error:
            found, self.failure = [], f"server {self._deployment.safe_url}: {error}"
        yield _gauge("broker_up", "Whether the server answers.", float(bool(found)))
        yield from found

    def _read(self) -> Iterator[Metric]:
        seconds, microseconds = self._client.time()
        now = float(seconds) + float(microseconds) / 1e6
        yield from self._read_queues(now)
        yield from self._read_workers(now)
        letters = float(self._client.xlen(self._deployment.dead_key))
        yield _gauge("dlq_size", "Dead letters that are kept.", letters)
        yield from self._read_memory()
        yield from self._read_breakers(now)
        yield from _counters(self._events.read())

    def _read_queues(self, now: float) -> Iterator[Metric]:
        labels = list(product(QUEUES, PRIORITY_STEPS))
        keys = [_queue_key(self._deployment, queue, step) for queue, step in labels]
        found: Any = self._client.eval_ro(_LOOK_AT_QUEUES, len(keys), *keys)
        names = ["queue", "priority"]
        length = _family("queue_length", "Messages that wait, by queue and priority.", names)
        age = _family("queue_oldest_age_seconds", "How long the oldest message has waited.", names)
        for (queue, step), count, submitted_at in zip(labels, found[::2], found[1::2], strict=True):
            length.add_metric([queue, str(step)], float(count))
            if not count or submitted_at:
                waited = max(0.0, now - float(submitted_at)) if count else 0.0
                age.add_metric([queue, str(step)], waited)
        yield length
        yield age

    def _read_workers(self, now: float) -> Iterator[Metric]:
        leases: Any = self._client.zrange(self._deployment.leases_key, 0, -1, withscores=True)
        with self._client.pipeline(transaction=False) as pipe:
            for worker, _ in leases:
                pipe.hlen(self._deployment.inbox_key(worker.decode(errors="surrogateescape")))
            held = sum(pipe.execute())
        alive = float(sum(expiry > now for _, expiry in leases))
        yield _gauge("workers", "Workers with a lease that has not ended.", alive)
        yield _gauge("unacked_count", "Messages in the hands of workers: reserved jobs.", held)

    def _read_memory(self) -> Iterator[Metric]:
        memory: Any = self._client.info("memory")
        most = float(memory.get("maxmemory") or 0)
        if most:
            used = float(memory["used_memory"]) / most
            yield _gauge("redis_used_memory_ratio", "Part of the server's memory in use.", used)

    def _read_breakers(self, now: float) -> Iterator[Metric]:
        said = "Processes whose circuit breaker keeps jobs from a C kernel."
        found = self._events.open_breakers(now)
        family = _family("breaker_open", said, ["operation"])
        for operation in operations():
            family.add_metric([operation], found.get(operation, 0))
        yield family


def registry(url: str | None = None, prefix: str | None = None) -> CollectorRegistry:
    """Return a registry that reads a deployment; the environment's where nothing is given."""
    return _register(_collector(url, prefix))


def text(url: str | None = None, prefix: str | None = None) -> str:
    """Return all metrics of a deployment in Prometheus's text format."""
    return tell(url, prefix)[0]


def tell(url: str | None = None, prefix: str | None = None) -> tuple[str, str]:
    """Return the same, and why the server did not answer; "" where it did."""
    collector = _collector(url, prefix)
    told = generate_latest(_register(collector)).decode()
    return told, collector.failure


def _collector(url: str | None, prefix: str | None) -> DeploymentCollector:
    deployment = Deployment.from_environment(url, prefix)
    client = redis.Redis.from_url(
        deployment.url,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
    )
    return DeploymentCollector(client, deployment)


def _register(collector: DeploymentCollector) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(collector)
    return found


def _counters(found: dict[str, dict[tuple[str, ...], int]]) -> Iterator[Metric]:
    for name, event in EVENTS.items():
        family = CounterMetricFamily(f"gristmill_{name}", event.meaning, labels=list(event.labels))
        # Zeros too: a counter that begins with its first event shows no rise by it.
        legal = product(*([*sorted(values), OTHER] for values in event.labels.values()))
        for values in legal:
            family.add_metric(values, found[name].get(values, 0))
        yield family


def _queue_key(deployment: Deployment, queue: str, step: int) -> str:
    return deployment.queue_key(f"{queue}{Channel.sep}{step}" if step else queue)


def _family(name: str, said: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gristmill_{name}", said, labels=labels)


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gristmill_{name}", said, value=value)
