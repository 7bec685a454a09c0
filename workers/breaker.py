"""Circuit breakers: a C kernel that keeps failing is left alone for a while, then tried again."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: So many failures within so many seconds open a breaker: one may be a freak of the input, and a
#: kernel that fails each time should cost few jobs their second run.
FAILURES: Final = 3
WINDOW_SECONDS: Final = 60.0

#: Seconds that an open breaker waits before one job tries the kernel again.
OPEN_SECONDS: Final = 30.0

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"


class Breaker:
    """Whether the C kernel of one operation is to be used in this process; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed: the kernel is used."""
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_at: deque[float] = deque(maxlen=FAILURES)
        self._opened_at = 0.0
        self._is_tried = False
        #: Which of its states it is in: "closed", "open" or "half_open".
        self.state = CLOSED
        # The number of changes so far is a ticket: what was admitted before one decides nothing.
        self._num_changes = 0
        self._untold: deque[str] = deque()

    def admit(self) -> int | None:
        """Return a ticket to use the kernel, None where it is to be left alone.

        Half-open it admits one job, the trial. Each ticket is given back by `succeed`, `fail` or
        `give_back`.
        """
        with self._lock:
            if self.state == OPEN and self._clock() - self._opened_at >= OPEN_SECONDS:
                self._become(HALF_OPEN)
            if self.state == OPEN or (self.state == HALF_OPEN and self._is_tried):
                return None
            self._is_tried = self.state == HALF_OPEN
            return self._num_changes

    def succeed(self, ticket: int) -> None:
        """Take note that the kernel answered: a trial that did closes the breaker."""
        with self._lock:
            if ticket == self._num_changes and self.state == HALF_OPEN:
                self._failed_at.clear()
                self._become(CLOSED)

    def fail(self, ticket: int) -> None:
        """Take note that the kernel failed: a trial, or too many in a minute, opens the breaker."""
        with self._lock:
            if ticket != self._num_changes:
                return
            now = self._clock()
            self._failed_at.append(now)
            is_much = len(self._failed_at) == FAILURES and now - self._failed_at[0] < WINDOW_SECONDS
            if is_much or self.state == HALF_OPEN:
                self._opened_at = now
                self._become(OPEN)

    def give_back(self, ticket: int) -> None:
        """Take note of a job that said nothing of the kernel: cancelled, or refused."""
        with self._lock:
            if ticket == self._num_changes:
                self._is_tried = False

    def take_changes(self) -> list[str]:
        """Return the states it came to since this was last asked: each is told once."""
        with self._lock:
            untold, self._untold = list(self._untold), deque()
            return untold

    def _become(self, state: str) -> None:
        self.state = state
        self._is_tried = False
        self._num_changes += 1
        self._untold.append(state)
