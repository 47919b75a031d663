"""Two connections of a consumer: one that reserves, and one on which it hears that there is something to reserve.

The server tracks which lists the first has found empty, and tells the second at their next change (``CLIENT TRACKING``
with ``REDIRECT``): nothing is popped to wake a worker, so no message is ever in its hands before it is written down as
reserved; and an idle worker asks nothing.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from time import monotonic
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

__all__ = ["Connections"]

_SOURCE = files("tasks.queue").joinpath("reserve.lua").read_text(encoding="utf-8")
_DIGEST = hashlib.sha1(_SOURCE.encode(), usedforsecurity=False).hexdigest()

#: Where the server announces the changes of tracked keys to clients that speak the second protocol.
_CHANGES = "__redis__:invalidate"

#: Seconds without a sign after which the listening connection is asked for one, and after which it counts as dead.
ASK_AFTER = 10.0
DEAD_AFTER = 35.0


class Connections:
    """Belongs to one thread. Every method raises redis' connection errors; then it must be closed and made anew."""

    def __init__(self, pool: Any) -> None:
        """`pool` is a connection pool of redis-py, ours alone."""
        # Tracking by redirection is the second protocol's; redis-py may prefer the third.
        pool.connection_kwargs["protocol"] = 2
        self._pool = pool
        self._ear: Any = None
        self._hand: Any = None
        try:
            self._ear = pool.get_connection()
            self._hand = pool.get_connection()
            ident = _ask(self._ear, "CLIENT", "ID")
            _ask(self._ear, "SUBSCRIBE", _CHANGES)
            _ask(self._hand, "CLIENT", "TRACKING", "ON", "REDIRECT", ident, "NOLOOP")
        except BaseException:
            self.close()
            raise
        self._heard_at = monotonic()

    @property
    def connection(self) -> Any:
        """The listening one, under the name by which kombu's poller looks for it."""
        return self._ear

    @property
    def sock(self) -> Any:
        """What becomes readable when there is something to hear."""
        return self._ear._sock  # noqa: SLF001 - there is no public way

    def reserve(self, keys: list[str], args: list[Any]) -> list[Any]:
        """Run `reserve.lua`."""
        try:
            return list(_ask(self._hand, "EVALSHA", _DIGEST, len(keys), *keys, *args))
        except NoScriptError:
            # The server was restarted, or it is the first time.
            return list(_ask(self._hand, "EVAL", _SOURCE, len(keys), *keys, *args))

    def hear(self) -> None:
        """Take what was announced: that something changed is all that matters."""
        self._heard_at = monotonic()
        self._ear.read_response()
        while self._ear.can_read(timeout=0):
            self._ear.read_response()

    def check(self) -> None:
        """Ask for a sign of life if there was none for long.

        Raises:
            redis.exceptions.ConnectionError: if there was none even so: the network swallowed the connection.
        """
        silence = monotonic() - self._heard_at
        if silence > DEAD_AFTER:
            raise RedisConnectionError("the server gives no sign on the connection that waits for messages")
        if silence > ASK_AFTER:
            self._ear.send_command("PING", check_health=False)

    def expect_new_credentials(self) -> bool:
        """Whether a credential provider has new ones: they take effect with new connections."""
        return any(getattr(wire, "_re_auth_token", None) is not None for wire in (self._ear, self._hand))

    def close(self) -> None:
        for wire in (self._ear, self._hand):
            if wire is not None:
                wire.disconnect()
        self._pool.disconnect()


def _ask(wire: Any, *words: Any) -> Any:
    # A health check would make a new connection behind our back, one that tracks nothing.
    wire.send_command(*words, check_health=False)
    return wire.read_response()
