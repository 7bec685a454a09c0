"""What a job tells of its progress: never less than before, now and then, with the time to go."""

import math
from typing import Any, Final

#: Seconds between two reports: four a second are more than anybody reads.
REPORT_SECONDS: Final = 0.25

#: Seconds in which a past speed loses most of its weight (a factor of e). Kernels begin with work
#: that goes at another speed (packing, folding in what was observed), and neighbours come and go.
MEMORY_SECONDS: Final = 3.0


class Progress:
    """The part of one job that is done, and the time that the rest will take."""

    def __init__(self, now: float) -> None:
        """Begin at `now`, in seconds of a clock that never goes back."""
        self._began_at = self._told_at = now
        self._told = 0.0
        self._speed: float | None = None

    def report(self, part: float, now: float) -> dict[str, Any] | None:
        """Return what is to be told of a job of which `part` is done; None while nothing is due.

        That is `progress` in [0, 1], never less than before, and `remaining_seconds`: what is left
        by a speed that follows the latest seconds, or None where nothing can be said.
        """
        seconds = now - self._told_at
        if seconds < REPORT_SECONDS:
            return None
        # Written so that a NaN is no progress.
        part = min(part, 1.0) if part > self._told else self._told
        self._learn((part - self._told) / seconds, seconds)
        self._told, self._told_at = part, now
        return {"progress": part, "remaining_seconds": self._remaining()}

    def _learn(self, speed: float, seconds: float) -> None:
        kept = math.exp(-seconds / MEMORY_SECONDS)
        self._speed = speed if self._speed is None else kept * self._speed + (1 - kept) * speed

    def _remaining(self) -> float | None:
        if not self._speed:
            return None
        # Whoever has stood still for long has a speed near zero: beyond a year nobody counts.
        seconds = (1.0 - self._told) / self._speed
        return round(seconds, 3) if seconds < 365 * 86_400 else None


def say(report: dict[str, Any]) -> str:
    """Return a report in words, for a monitor's column: `42 %, about 3 s left`."""
    done, seconds = f"{100 * report['progress']:.0f} %", report["remaining_seconds"]
    if seconds is None:
        return done
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    left = (
        f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{hours} h"
    )
    return f"{done}, about {left} left"
