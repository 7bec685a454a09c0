"""Celery's pool of processes, which notices that one has died, and knows which job one has."""

from typing import Any, Final

from billiard.pool import TERMINATE
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool, _get_job_writer

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

    def flush(self) -> None:
        """Forget the jobs that no process has, as the connection ends or the worker stops.

        Celery's forgets each job whose process has not said yet that it began. The process runs it
        all the same, and nobody waits for its end: it is the queue's too, and runs twice, and a
        worker that stops waits for a process that waits until somebody has read what it said. And
        what is half written Celery leaves so where a worker stops: the process reads on for ever.
        """
        if self._state == TERMINATE:
            return
        self.outbound_buffer.clear()
        for job in tuple(self._cache.values()):
            if not job._accepted and not has_process(job):
                job.discard()
            writer = _get_job_writer(job)
            if writer in self._active_writers:
                self._flush_writer(job._write_to, writer)
        self._active_writers.clear()
        self._active_writes.clear()
        self.maintain_pool()
        runs = [job._write_to or job._scheduled_for for job in self._cache.values()]
        self._busy_workers.intersection_update([run.inqW_fd for run in runs if run is not None])

    @property
    def timers(self) -> dict[Any, float]:
        """What is called every so many seconds."""
        return {self.maintain_pool: ROUND_SECONDS}


def has_process(job: Any) -> bool:
    """Say whether a process has been given a job of the pool's, if only a part, and lives."""
    process = getattr(job, "_write_to", None)
    return process is not None and bool(process._is_alive())


class TaskPool(prefork.TaskPool):
    """Celery's processes, in our pool: `worker_pool` in the settings."""

    Pool = Pool
