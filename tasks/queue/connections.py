"""Two connections of a consumer: one reserves and acknowledges messages, the other hears of messages to reserve.

The server tracks which lists the first connection has found empty, and notifies the second at their next change
(``CLIENT TRACKING`` with ``REDIRECT``). Nothing is popped to wake a worker, so each message is written down as reserved
before it leaves its list. An idle worker sends nothing.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import suppress
from importlib.resources import files
from secrets import token_hex
from time import monotonic
from typing import Any, ClassVar, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

_SOURCE = files("tasks.queue").joinpath("reserve.lua").read_text(encoding="utf-8")
_DIGEST = hashlib.sha1(_SOURCE.encode(), usedforsecurity=False).hexdigest()

#: Where the server announces the changes of tracked keys to clients of RESP2.
_CHANGES = "__redis__:invalidate"

#: Entries that a queue's quarantine keeps: the latest.
MOST_QUARANTINED = 1000

#: Acknowledgements sent in one step.
MOST_ACKNOWLEDGED = 256

#: Seconds of silence after which the listening connection is sent a PING, and after which it counts as dead.
PING_AFTER = 10.0
DEAD_AFTER = 35.0


class ReservedMessage(NamedTuple):
    queue: str
    #: Under which the server counts it as reserved.
    tag: str
    raw: bytes


class Connections:
    """Belongs to one thread. Every method raises redis-py's connection errors; then close it and make a new one."""

    def __init__(self, pool: Any) -> None:
        """`pool` is a connection pool of redis-py that nothing else uses."""
        # Tracking by redirection needs RESP2; redis-py may prefer RESP3.
        pool.connection_kwargs["protocol"] = 2
        self._pool = pool
        #: Tags are unlike those of any other connection.
        self._tag_prefix = token_hex(8) + "."
        self._next_number = 0
        self._listening: Any = None
        self._reserving: Any = None
        try:
            self._listening = pool.get_connection()
            self._reserving = pool.get_connection()
            client_id = _call(self._listening, "CLIENT", "ID")
            _call(self._listening, "SUBSCRIBE", _CHANGES)
            _call(self._reserving, "CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "NOLOOP")
        except BaseException:
            self.close()
            raise
        self._heard_at = monotonic()

    @property
    def connection(self) -> Any:
        """The listening connection, under the name by which kombu's poller looks for it."""
        return self._listening

    @property
    def sock(self) -> Any:
        """The socket that becomes readable when a list has changed."""
        return self._listening._sock  # noqa: SLF001 - there is no public way

    def reserve(
        self, keys: list[str], queues: list[str], *, most: int, round_robin: bool, acknowledged: list[str]
    ) -> tuple[list[ReservedMessage], int, bool]:
        """Acknowledge messages and reserve up to `most` others, in one step.

        `keys` are in the order of `reserve.lua`; with `round_robin` the queues take turns, message by message.

        Returns the messages, how many unreadable entries were moved to the quarantine, and whether the lists may hold
        more messages: where False, their next change is announced.
        """
        args = [most, self._tag_prefix, self._next_number, int(round_robin), MOST_QUARANTINED, len(queues)]
        words = (len(keys), *keys, *args, *queues, *acknowledged)
        try:
            reply = _call(self._reserving, "EVALSHA", _DIGEST, *words)
        except NoScriptError:
            # The first run, or the first after a restart of the server.
            reply = _call(self._reserving, "EVAL", _SOURCE, *words)
        quarantined, more, *flat = reply
        messages = [
            ReservedMessage(queues[int(queue) - 1], tag.decode(), raw)
            for queue, tag, raw in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]
        self._next_number += len(messages)
        return messages, quarantined, bool(more)

    def read_announcements(self) -> None:
        """Discard what was announced: the only fact that matters is that a list has changed."""
        self._heard_at = monotonic()
        self._listening.read_response()
        while self._listening.can_read(timeout=0):
            self._listening.read_response()

    def check(self) -> None:
        """Send a PING after a long silence; its reply arrives as an announcement does.

        Raises:
            redis.exceptions.ConnectionError: if the PING got no reply: the network has dropped the connection.
        """
        silence = monotonic() - self._heard_at
        if silence > DEAD_AFTER:
            raise RedisConnectionError("the server is silent on the connection that waits for messages")
        if silence > PING_AFTER:
            self._listening.send_command("PING", check_health=False)

    @property
    def has_new_credentials(self) -> bool:
        """Whether a credential provider has brought new credentials, which take effect with new connections."""
        return any(getattr(one, "_re_auth_token", None) is not None for one in (self._listening, self._reserving))

    def close(self) -> None:
        for connection in (self._listening, self._reserving):
            if connection is not None:
                connection.disconnect()
        self._pool.disconnect()


class Acknowledgements:
    """The tags of ended messages that one server still counts as reserved. Any thread may use it.

    All channels of a process to the same server share their tags. So the tags outlive a connection that broke: the
    channel that comes after it sends them.
    """

    _by_server: ClassVar[dict[tuple[object, ...], deque[str]]] = {}

    def __init__(self, server: tuple[object, ...]) -> None:
        self._tags = self._by_server.setdefault(server, deque())

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, tag: str) -> None:
        self._tags.append(tag)

    def take(self) -> list[str]:
        """Remove and return the oldest tags, as many as one step sends."""
        tags: list[str] = []
        with suppress(IndexError):
            while len(tags) < MOST_ACKNOWLEDGED:
                tags.append(self._tags.popleft())
        return tags

    def put_back(self, tags: list[str]) -> None:
        """Return the tags of a step that failed. The server may have removed them: a second removal is harmless."""
        self._tags.extendleft(reversed(tags))


def _call(connection: Any, *words: Any) -> Any:
    # A health check could reconnect unseen, and the new connection would track nothing.
    connection.send_command(*words, check_health=False)
    return connection.read_response()
