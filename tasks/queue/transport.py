"""kombu's Redis transport with another consumer's side, under URL schemes of its own.

``pointsman://`` for ``redis://``, ``pointsmans://`` for ``rediss://``, ``pointsman+socket://`` for a unix socket and
``pointsman-sentinel://`` for ``sentinel://``.
"""

from __future__ import annotations

import ssl
from importlib import import_module
from typing import Any

from kombu.exceptions import VersionMismatch
from kombu.utils.url import maybe_sanitize_url

from tasks.queue.channel import Channel
from tasks.queue.poller import LOOK_EVERY, Poller

__all__ = ["SentinelTransport", "TLSTransport", "RedisTransport"]

#: Their published types leave out what is needed here.
kombu: Any = import_module("kombu")
stock: Any = import_module("kombu.transport.redis")

#: The versions whose inner workings this builds on.
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
        # A unix socket has no URL that kombu could put together from its parts: then `as_uri` is asked. Only then, and
        # only of the instance: the class says that kombu shall take URLs apart.
        self.can_parse_url = "://" in (client.hostname or "")

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:  # noqa: FBT001, FBT002
        """The address in kombu's own words, for who looks at the queues from outside, as Flower does."""
        return "redis+" + (uri if include_password else maybe_sanitize_url(uri, mask=mask))

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)
        loop.call_repeatedly(LOOK_EVERY, self.cycle.look_again)


class TLSTransport(RedisTransport):
    def __init__(self, client: Any, **kwargs: Any) -> None:
        if not client.ssl:
            client.ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        super().__init__(client, **kwargs)


class SentinelChannel(Channel, stock.SentinelChannel):  # type: ignore[misc]
    """`Channel` at whichever server is the master now."""


class SentinelTransport(RedisTransport):
    default_port = stock.SentinelTransport.default_port
    Channel = SentinelChannel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # kombu's channel looks here for addresses of its own scheme.
        client.alt = [address.removeprefix("pointsman-") for address in client.alt]
