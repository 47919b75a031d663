"""kombu's Redis transport with the consumer's side of `tasks.queue.channel`, under URL schemes of its own.

``pointsman://`` for ``redis://``, ``pointsmans://`` for ``rediss://``, ``pointsman+socket://`` for a unix socket.
"""

from __future__ import annotations

import ssl
from importlib import import_module
from typing import Any

from kombu.exceptions import VersionMismatch
from kombu.utils.url import maybe_sanitize_url

from tasks.queue.channel import Channel
from tasks.queue.poller import RECHECK_EVERY, Poller

__all__ = ["RedisTransport", "TLSTransport"]

#: Their published types leave out what is needed here.
kombu: Any = import_module("kombu")
stock: Any = import_module("kombu.transport.redis")

#: The versions of kombu whose internals this relies on: from the first, below the second.
OLDEST, NEWER = (5, 7), (5, 8)


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
