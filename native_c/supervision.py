"""Runs a kernel on a thread of its own, so that the caller's is free to look after other things."""

import threading
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any, Final

from native_c import backend
from native_c.steps import Outcome

#: Seconds between two looks of the caller.
LOOK_SECONDS: Final = 0.025

#: Seconds that a kernel which is told to stop gets for that before its caller goes on. Not for the
#: rest of its step, of 20 to 50 ms: whoever waits for the end hears of it sooner than it is felt.
GRACE_SECONDS: Final = 0.01


def supervise(
    start: Callable[[], Outcome], look: Callable[[float], object], at_once: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the result of the facade's call `start()`, and how it was made, as `made()` tells.

    `look` is called on this thread, some forty times a second, with the part that is done, in
    [0, 1]. What it raises stops the kernel and is raised here within `GRACE_SECONDS`. A kernel that
    has not stopped by then goes on unseen to the end of its step: some 50 ms. What cannot be cut
    into steps takes its time: in NumPy nearly a second for the statistics of 10 million values.

    `at_once` False: start on this thread, and go over to another when the kernel turns out to be a
    long one. That spares those that answer at once the 0.1 ms of a new thread.
    """
    begun: Generator[float, None, dict[str, Any]] | None = None
    progress = 0.0
    if not at_once:
        outcome = start()
        if not isinstance(outcome, Generator):
            return outcome, backend.made()
        try:
            progress = next(outcome)
        except StopIteration as end:
            return end.value, backend.made()
        begun = outcome
    errand = _Errand(begun or start, progress)
    # In a copy of the caller's context, which may have chosen the twins. A daemon, so that a
    # process that is told to end need not wait for it.
    run = copy_context().run
    thread = threading.Thread(target=run, args=(errand.run,), name="native_c", daemon=True)
    try:
        look(progress)
        thread.start()
        while not errand.ended.wait(LOOK_SECONDS):
            look(errand.progress)
    except BaseException:
        errand.stop(thread)
        raise
    return errand.answer()


class _Errand:
    """What the thread does, and what it brings back."""

    def __init__(
        self,
        work: Callable[[], Outcome] | Generator[float, None, dict[str, Any]],
        progress: float,
    ) -> None:
        self._work = work
        self.progress = progress
        self.ended = threading.Event()
        self._is_stopped = False
        self._found: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            found = self._drive()
            self._found = found, backend.made()
        except BaseException as error:  # for the caller's thread, whatever it is
            self._error = error
        finally:
            self.ended.set()

    def stop(self, thread: threading.Thread) -> None:
        """End the kernel; where its thread has not begun or does not end soon, leave it."""
        self._is_stopped = True
        if thread.ident is not None:
            self.ended.wait(GRACE_SECONDS)
        elif isinstance(self._work, Generator):
            self._work.close()

    def answer(self) -> tuple[dict[str, Any], dict[str, Any]]:
        error, self._error = self._error, None  # or else the error's traceback held itself
        if error is not None:
            raise error
        assert self._found is not None
        return self._found

    def _drive(self) -> dict[str, Any]:
        outcome = self._work if isinstance(self._work, Generator) else self._work()
        if not isinstance(outcome, Generator):
            return outcome
        try:
            while not self._is_stopped:
                self.progress = next(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        outcome.close()
        return {}
