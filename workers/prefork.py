"""Celery's pool of processes, which notices at once that one of them has died."""

from typing import Any, Final

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

#: Seconds between looks at a process whose pipe is closed: the kernel closes the files of a dying
#: process a moment before it can be waited for, and where the pool looked in that moment, it looked
#: again only at its next round: 4.5 s later at the median of 20 kills, 5.1 s at most.
_LOOKS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)

#: Seconds between rounds, in which the pool looks at all processes. A process that has handed its
#: pipe on, by forking, say, closes nothing when it dies. Celery's are 5 s apart.
ROUND_SECONDS: Final = 1.0


class Pool(AsynPool):
    """A pool that looks until a process which is on its way out has gone."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self._look(hub, proc, _LOOKS)

    def _look(self, hub: Any, proc: Any, pauses: tuple[float, ...]) -> None:
        """Maintain the pool again and again, until `proc` is no longer one of it."""
        if pauses and proc in self._pool:
            hub.call_later(pauses[0], self._look_again, hub, proc, pauses[1:])

    def _look_again(self, hub: Any, proc: Any, pauses: tuple[float, ...]) -> None:
        self.maintain_pool()
        self._look(hub, proc, pauses)

    @property
    def timers(self) -> dict[Any, float]:
        """What is called every so many seconds."""
        return {self.maintain_pool: ROUND_SECONDS}


class TaskPool(prefork.TaskPool):
    """Celery's processes, in our pool: `worker_pool` in the settings."""

    Pool = Pool
