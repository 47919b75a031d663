"""The address of Redis: from the environment, or of the server that `pointsman up` runs in its state directory."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from tasks.config.secrets import read_secret
from tasks.contract.errors import ConfigError

#: A file of the state directory with one line: the URL of that directory's embedded server.
ADDRESS_FILE = "redis.url"
DEFAULT_REDIS = "redis://127.0.0.1:6379/0"

#: Schemes in Celery's spelling, and those of `tasks.queue.transport`.
_OUR_SCHEMES = {
    "redis": "pointsman",
    "rediss": "pointsmans",
    "redis+socket": "pointsman+socket",
}


def state_dir() -> Path:
    """``POINTSMAN_STATE_DIR``, or ``pointsman`` under the XDG state home."""
    named = os.environ.get("POINTSMAN_STATE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "pointsman"


def redis_url() -> str:
    """``POINTSMAN_REDIS_URL`` (or the file named by ``POINTSMAN_REDIS_URL_FILE``), else the embedded server's.

    Raises:
        ConfigError: for a URL that starts with neither redis:// nor rediss:// nor unix://.
    """
    url = read_secret("POINTSMAN_REDIS_URL")
    if url is None:
        address = state_dir() / ADDRESS_FILE
        url = address.read_text(encoding="utf-8").strip() if address.is_file() else DEFAULT_REDIS
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError("POINTSMAN_REDIS_URL: must start with redis://, rediss:// or unix://")
    return url


def hide_password(url: str) -> str:
    """Return an address without its password, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def broker_url(url: str) -> str:
    """The address for Celery's messages: of our own transport, or of kombu's with ``POINTSMAN_TRANSPORT=kombu``.

    Raises:
        ConfigError: for any other value of that variable.
    """
    transport = os.environ.get("POINTSMAN_TRANSPORT") or "pointsman"
    if transport not in {"pointsman", "kombu"}:
        raise ConfigError(f"POINTSMAN_TRANSPORT: {transport!r} is not known; allowed: pointsman, kombu")
    scheme, separator, rest = result_url(url).partition("://")
    return (scheme if transport == "kombu" else _OUR_SCHEMES.get(scheme, scheme)) + separator + rest


def result_url(url: str) -> str:
    """The same address in Celery's spelling, for its results."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    # Celery has another name for the number of the database.
    words = [word.replace("db=", "virtual_host=", 1) if word.startswith("db=") else word for word in query.split("&")]
    if scheme == "unix":
        return f"redis+socket://{place}" + (f"?{'&'.join(words)}" if query else "")
    return url


def is_loopback(host: str) -> bool:
    """Whether a numeric address or a name is reached from this machine only; no name but ``localhost`` is."""
    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
