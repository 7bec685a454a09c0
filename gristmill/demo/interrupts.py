"""Ctrl-C and SIGTERM, remembered until somebody has acted on them."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

#: The signals that ask for an end in good order.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Within its `with` block both signals raise KeyboardInterrupt, at once and at every `check`.

    Python drops what is raised while it runs a finalizer or a weak reference's callback, and with
    it a Ctrl-C that came at that moment: `check` raises it again.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.seen = False
        self._before: dict[signal.Signals, Any] = {}

    def check(self) -> None:
        """Raise KeyboardInterrupt when one of the signals came."""
        if self.seen:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        """Take over the signals; elsewhere than on the main thread they stay as they are."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt
