"""Waits for all channels of a connection at once: for messages, for broadcasts, and for other threads of the worker."""

from __future__ import annotations

import socket
import threading
from importlib import import_module
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.queue.channel import Channel
    from tasks.queue.connections import Connections

__all__ = ["LOOK_EVERY", "Waker", "Poller"]

#: Seconds between two looks at the lists where nothing was heard: a net below the net, and next to no load.
LOOK_EVERY = 5.0

#: Its published types leave out what is needed here.
stock: Any = import_module("kombu.transport.redis")

_MESSAGES = "MESSAGES"
_BELL = "BELL"


class Waker:
    """A socket that another thread can make readable."""

    #: kombu's poller looks for the connection of what it polls.
    connection = None

    def __init__(self) -> None:
        self.sock, self._rope = socket.socketpair()
        self.sock.setblocking(False)
        self._rope.setblocking(False)

    def ring(self) -> None:
        try:
            self._rope.send(b"!")
        except (BlockingIOError, OSError):
            return  # it rings already, or nobody listens any more

    def hush(self) -> None:
        try:
            while len(self.sock.recv(1024)) == 1024:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        self.sock.close()
        self._rope.close()


class Poller(stock.MultiChannelPoller):  # type: ignore[misc]
    """kombu's, with `Channel.turn` in place of BRPOP. Serves Celery's event loop and `drain_events` alike."""

    def __init__(self) -> None:
        super().__init__()
        self._bell: Waker | None = None
        self._thread = 0
        #: When it had its last turn; the loop gives it one at least each second.
        self.turned_at = float("-inf")
        #: Whether a turn is near anyway, so that nobody needs to ring.
        self._coming = False
        self._again: float | None = None
        self._looked_at = monotonic()
        #: Celery's event loop, where there is one.
        self.hub: Any = None

    # -- what others ask -------------------------------------------------------------------------

    def ring(self) -> None:
        """Have a turn made soon; from any thread."""
        if not self._coming and threading.get_ident() != self._thread and self._bell is not None:
            self._coming = True
            self._bell.ring()

    def come_again(self, seconds: float) -> None:
        """Have a turn made after so long; from the loop's thread."""
        self._again = seconds if self._again is None else min(seconds, self._again)

    def listen(self, channel: Channel, wires: Connections) -> None:
        self._attach(channel, wires, _MESSAGES)

    def forget(self, wires: Any) -> None:
        for key, sock in list(self._chan_to_sock.items()):
            if key[1] is wires:
                del self._chan_to_sock[key]
                for fd, known in list(self._fd_to_chan.items()):
                    if known == (key[0], key[2]):
                        del self._fd_to_chan[fd]
                        self._detach(fd, sock)

    # -- turns -----------------------------------------------------------------------------------

    def on_poll_start(self) -> bool:
        """One turn for every channel; returns whether a message was handed out."""
        self._begin()
        busy = False
        for channel in list(self._channels):
            if channel.active_queues:
                if self._bell is None:
                    self._bell = Waker()
                    self._attach(None, self._bell, _BELL)
                busy = channel.turn() or busy
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)
        if busy:
            # Celery leaves acknowledgements to the loop's next round, which would wait for an event before.
            self.come_again(0)
        if self._again is not None:
            self._coming = True
            if self.hub is not None:
                self._wake_hub(self._again)
        return busy

    def _begin(self) -> None:
        self._thread = threading.get_ident()
        self.turned_at = monotonic()
        self._again, self._coming = None, False

    def _wake_hub(self, seconds: float) -> None:
        if seconds > 0:
            self.hub.call_later(seconds, _nothing)
        elif self._bell is not None:
            self._bell.ring()

    def on_readable(self, fileno: int) -> Any:
        known = self._fd_to_chan.get(fileno)
        if known is not None and known[1] == _BELL:
            if self._bell is not None:
                self._bell.hush()
            return None
        if known is not None and known[1] == _MESSAGES:
            known[0].hear()
            return None
        return super().on_readable(fileno)

    def handle_event(self, fileno: int, event: int) -> Any:
        known = self._fd_to_chan.get(fileno)
        if known is not None and known[1] in {_BELL, _MESSAGES}:
            # An error shows when it is read.
            return self.on_readable(fileno)
        return super().handle_event(fileno, event)

    def get(self, callback: Any, timeout: float | None = None) -> Any:  # noqa: ARG002 - as kombu has it
        """Hand out what there is, or wait for it, without an event loop.

        Raises:
            queue.Empty: if there was nothing.
        """
        self._in_protected_read = True
        try:
            self.maybe_refresh_binding_expiry()
            if self.on_poll_start():
                return None
            pauses = [LOOK_EVERY, *(pause for pause in (timeout, self._again) if pause is not None)]
            for fileno, event in self.poller.poll(min(pauses)) or ():
                if known := self.handle_event(fileno, event):
                    return known
            if monotonic() - self._looked_at >= LOOK_EVERY:
                self.look_again()
            if self.on_poll_start():
                return None
            self.maybe_restore_messages()
            raise Empty
        finally:
            self._in_protected_read = False
            while self.after_read:
                self.after_read.pop()()

    def look_again(self) -> None:
        self._looked_at = monotonic()
        for channel in list(self._channels):
            if channel.active_queues:
                channel.look_again()

    def close(self) -> None:
        super().close()
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    # -- file descriptors ------------------------------------------------------------------------

    def _attach(self, channel: Any, what: Any, kind: str) -> None:
        self._fd_to_chan[what.sock.fileno()] = (channel, kind)
        self._chan_to_sock[(channel, what, kind)] = what.sock
        self.poller.register(what.sock, self.eventflags)

    def _detach(self, fd: int, sock: Any) -> None:
        try:
            if self.hub is not None:
                self.hub.remove_reader(fd)
            else:
                self.poller.unregister(sock if sock.fileno() >= 0 else fd)
        except (KeyError, ValueError, OSError):
            return  # it was closed: the kernel has forgotten it


def _nothing() -> None:
    """Only wakes the loop."""
