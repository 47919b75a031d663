"""kombu's Redis transport with the consumer's side of `tasks.queue.channel`, under URL schemes of its own.

Its poller waits for all channels of a connection at once: for messages, for broadcasts, and for other threads of the
worker. The URL schemes are ``pointsman://`` for ``redis://``, ``pointsmans://`` for ``rediss://``, and
``pointsman+socket://`` for a unix socket.
"""

from __future__ import annotations

import socket
import ssl
import threading
from importlib import import_module
from queue import Empty
from time import monotonic
from typing import Any

from kombu.exceptions import VersionMismatch
from kombu.utils.url import maybe_sanitize_url

from tasks.queue.channel import Channel
from tasks.queue.connections import Connections

#: Their published types leave out what is needed here.
kombu: Any = import_module("kombu")
stock: Any = import_module("kombu.transport.redis")

#: The versions of kombu whose internals this relies on: from the first, below the second.
OLDEST, NEWER = (5, 7), (5, 8)

#: Seconds between two checks of the lists without an announcement: a second safety net, at next to no load.
RECHECK_EVERY = 5.0

_MESSAGES = "MESSAGES"
_WAKER = "WAKER"


class Waker:
    """A socket pair by which one thread wakes another that polls sockets (the self-pipe).

    `sock` becomes readable at `notify`, which any thread may call, and unreadable at `clear`.
    """

    #: kombu's poller looks for the connection of each entry that it polls.
    connection = None

    def __init__(self) -> None:
        self.sock, self._sender = socket.socketpair()
        self.sock.setblocking(False)
        self._sender.setblocking(False)

    def notify(self) -> None:
        try:
            self._sender.send(b"!")
        except (BlockingIOError, OSError):
            return  # the buffer is full, so `sock` is readable; or the waker is closed

    def clear(self) -> None:
        try:
            while len(self.sock.recv(1024)) == 1024:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        self.sock.close()
        self._sender.close()


class Poller(stock.MultiChannelPoller):  # type: ignore[misc]
    """kombu's poller with `Channel.serve` in place of BRPOP. Serves Celery's event loop and `drain_events` alike."""

    _channels: set[Channel]

    def __init__(self) -> None:
        super().__init__()
        self._waker: Waker | None = None
        self._thread = 0
        #: When the channels were last served; the loop does so at least once a second.
        self.polled_at = float("-inf")
        #: Whether the channels are served soon anyway, so that no thread needs to wake this one.
        self._soon = False
        self._delay: float | None = None
        self._rechecked_at = monotonic()
        #: Celery's event loop, where there is one.
        self.hub: Any = None

    # -- called by channels and by other threads -------------------------------------------------

    def wake(self) -> None:
        """Have the channels served soon; from any thread."""
        if not self._soon and threading.get_ident() != self._thread and self._waker is not None:
            self._soon = True
            self._waker.notify()

    def serve_again(self, seconds: float) -> None:
        """Have the channels served again after so many seconds; from the loop's thread."""
        self._delay = seconds if self._delay is None else min(seconds, self._delay)

    def listen(self, channel: Channel, connections: Connections) -> None:
        self._attach(channel, connections, _MESSAGES)

    def forget(self, connections: Connections) -> None:
        for key, sock in list(self._chan_to_sock.items()):
            if key[1] is connections:
                del self._chan_to_sock[key]
                for fd, known in list(self._fd_to_chan.items()):
                    if known == (key[0], key[2]):
                        del self._fd_to_chan[fd]
                        self._detach(fd, sock)

    # -- polling ---------------------------------------------------------------------------------

    def on_poll_start(self) -> bool:
        """Serve every channel; returns whether a message was handed out."""
        self._note_start()
        busy = False
        for channel in list(self._channels):
            if channel.active_queues:
                if self._waker is None:
                    self._waker = Waker()
                    self._attach(None, self._waker, _WAKER)
                busy = channel.serve() or busy
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)
        if busy:
            # Celery leaves acknowledgements to the loop's next round, which would first wait for an event.
            self.serve_again(0)
        if self._delay is not None:
            self._soon = True
            if self.hub is not None and self._delay > 0:
                self.hub.call_later(self._delay, lambda: None)  # only wakes the loop
            elif self.hub is not None and self._waker is not None:
                self._waker.notify()
        return busy

    def _note_start(self) -> None:
        self._thread = threading.get_ident()
        self.polled_at = monotonic()
        self._delay, self._soon = None, False

    def on_readable(self, fileno: int) -> Any:
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == _WAKER:
            if self._waker is not None:
                self._waker.clear()
            return None
        if kind == _MESSAGES:
            channel.read_announcements()
            return None
        return super().on_readable(fileno)

    def handle_event(self, fileno: int, event: int) -> Any:
        known = self._fd_to_chan.get(fileno)
        if known is not None and known[1] in {_WAKER, _MESSAGES}:
            # Reading shows an error, too.
            return self.on_readable(fileno)
        return super().handle_event(fileno, event)

    def get(self, callback: Any, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's signature
        """Hand out reserved messages, or wait for one, without an event loop.

        Raises:
            queue.Empty: if there was none.
        """
        self._in_protected_read = True
        try:
            self.maybe_refresh_binding_expiry()
            if self.on_poll_start():
                return None
            pauses = [RECHECK_EVERY, *(pause for pause in (timeout, self._delay) if pause is not None)]
            for fileno, event in self.poller.poll(min(pauses)) or ():
                if known := self.handle_event(fileno, event):
                    return known
            if monotonic() - self._rechecked_at >= RECHECK_EVERY:
                self.recheck()
            if self.on_poll_start():
                return None
            self.maybe_restore_messages()
            raise Empty
        finally:
            self._in_protected_read = False
            while self.after_read:
                self.after_read.pop()()

    def recheck(self) -> None:
        """Have every channel look at its lists, whether a change was announced or not."""
        self._rechecked_at = monotonic()
        for channel in list(self._channels):
            if channel.active_queues:
                channel.recheck()

    def close(self) -> None:
        super().close()
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    # -- file descriptors ------------------------------------------------------------------------

    def _attach(self, channel: Channel | None, source: Waker | Connections, kind: str) -> None:
        self._fd_to_chan[source.sock.fileno()] = (channel, kind)
        self._chan_to_sock[(channel, source, kind)] = source.sock
        self.poller.register(source.sock, self.eventflags)

    def _detach(self, fd: int, sock: Any) -> None:
        try:
            if self.hub is not None:
                self.hub.remove_reader(fd)
            else:
                self.poller.unregister(sock if sock.fileno() >= 0 else fd)
        except (KeyError, ValueError, OSError):
            return  # it was closed, so the kernel has forgotten it


class RedisTransport(stock.Transport):  # type: ignore[misc]
    Channel = Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        version = (kombu.VERSION.major, kombu.VERSION.minor)
        if not OLDEST <= version < NEWER:
            raise VersionMismatch(
                f"kombu {kombu.__version__} is installed, this transport needs kombu>=5.7,<5.8; "
                "install that, or set POINTSMAN_TRANSPORT=kombu to use kombu's own"
            )
        super().__init__(client, **kwargs)
        self.cycle = Poller()
        # kombu can't put the URL of a unix socket together from its parts, so it must call `as_uri` for one. Set on the
        # instance alone: the class's value has kombu take URLs apart.
        self.can_parse_url = "://" in (client.hostname or "")

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:  # noqa: FBT001, FBT002
        """The address with kombu's own scheme, for programs that look at the queues from outside, as Flower does."""
        return "redis+" + (uri if include_password else maybe_sanitize_url(uri, mask=mask))

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)
        loop.call_repeatedly(RECHECK_EVERY, self.cycle.recheck)


class TLSTransport(RedisTransport):
    def __init__(self, client: Any, **kwargs: Any) -> None:
        if not client.ssl:
            client.ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        super().__init__(client, **kwargs)
