"""Celery on a host whose clock is wrong: `python -m tests.chaos.skewed HOURS -A workers worker`.

The clock is set before anything is imported that might keep a reference to it. Monotonic time, by
which timers and the logs of the suite go, is right on such a host too.
"""

import sys
import time
from typing import Final

_NANOSECONDS: Final = 3600 * 10**9


def set_ahead(hours: int) -> None:
    """Put this process's clock, and those of the processes that it forks, so many hours ahead."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + hours * 3600
    time.time_ns = lambda: right_ns() + hours * _NANOSECONDS


if __name__ == "__main__":
    set_ahead(int(sys.argv.pop(1)))
    from celery.__main__ import main

    sys.argv[0] = "celery"
    main()
