"""What waits for all channels of a connection, in an event loop or without one."""

import threading
from queue import Empty
from typing import Any, Final

from kombu.transport import redis as stock
from kombu.utils.eventio import READ

from contract.transport import scripts
from contract.transport.line import ACK_SECONDS

_INBOX: Final = "INBOX"


class Poller(stock.MultiChannelPoller):
    """Kombu's poller, which waits for our channels' lines beside its own connections."""

    def __init__(self) -> None:
        """Wait for nobody yet."""
        super().__init__()
        self._loop: Any = None
        self._loop_thread = 0
        self._is_flush_due = False

    # --- In an event loop ---

    def join(self, loop: Any) -> None:
        """Renew leases and look for entries by the timer of an event loop."""
        self._loop = loop
        loop.call_repeatedly(scripts.RENEW_SECONDS, self.beat)

    def beat(self) -> None:
        """Renew the lease of each channel, whatever else goes on."""
        for channel in list(self._channels):
            self._turn(channel, is_due=True)

    def on_poll_start(self) -> None:
        """Ask for what there is room for, before waiting."""
        self._loop_thread = threading.get_ident()
        super().on_poll_start()
        for channel in list(self._channels):
            self._turn(channel)

    def _turn(self, channel: Any, *, is_due: bool = False) -> None:
        if channel.turn(is_due=is_due) and self._loop is not None:
            self._loop.call_later(0, self._deliver, channel)

    def on_readable(self, fileno: int) -> Any:
        """Read from one of the connections."""
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind != _INBOX:
            return super().on_readable(fileno)
        # Whether or not there is room: what is not read would be told again and again.
        channel.read_inbox()
        if not self._deliver(channel):
            raise Empty
        return None

    def handle_event(self, fileno: int, event: int) -> Any:
        """Answer an event of a connection; an error shows when it is read."""
        if self._fd_to_chan.get(fileno, (None, None))[1] == _INBOX:
            event = READ
        return super().handle_event(fileno, event)

    def _deliver(self, channel: Any) -> bool:
        was_any: bool = channel.deliver(only_one=self._loop is None)
        if self._loop is not None and channel.line is not None and channel.line.arrived:
            self._loop.call_later(0, self._deliver, channel)
        return was_any

    def acknowledged(self) -> None:
        """See to it that an acknowledgement leaves soon. Any thread may call this."""
        if self._loop is None:
            return
        if threading.get_ident() != self._loop_thread:
            self._loop.call_soon(self.acknowledged)  # wakes the loop, where there is room now
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_later(ACK_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        for channel in list(self._channels):
            self._turn(channel, is_due=channel.inbox is not None and channel.inbox.has_acks)

    # --- Without an event loop ---

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Deliver one message; raises `Empty` when there is none for a while."""
        channels = list(self._channels)
        for channel in channels:
            channel.keep()
            if channel.deliver(only_one=True):
                return None
        is_ack_due = any(each.inbox is not None and each.inbox.has_acks for each in channels)
        patience = ACK_SECONDS if is_ack_due else scripts.RENEW_SECONDS
        return super().get(callback, patience if timeout is None else min(timeout, patience))

    # --- Connections ---

    def watch(self, channel: Any) -> None:
        """Connect a channel's line where it is not, and wait for it from now on."""
        line, ident = channel.line, (channel, channel.line, _INBOX)
        if not line.is_open or self._chan_to_sock.get(ident) is not line.connection._sock:
            line.open()
            self._register(channel, line, _INBOX)
