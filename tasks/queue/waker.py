"""A socket pair by which one thread wakes another that polls sockets (the self-pipe)."""

from __future__ import annotations

import socket

__all__ = ["Waker"]


class Waker:
    """`sock` becomes readable at `notify`, which any thread may call, and unreadable at `clear`."""

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
