"""Which requests are answered: those with a key or, where no keys are configured, those of this machine.

The file that ``POINTSMAN_API_KEYS_FILE`` names holds the hash of one key a line, ``sha256:`` and 64 hex digits; empty
lines and comments (``#``) are ignored. ``printf %s "$KEY" | sha256sum`` makes a hash. It is read once, at the start.

Without keys the server listens on a loopback address only, and answers only requests whose ``Host`` is a name of this
machine. Otherwise a web page could have its own name resolve to 127.0.0.1 and read jobs through its visitor's browser.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.types import Scope

from producer.api.problems import ProblemDetails
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError
from tasks.queue.address import is_loopback

KEYS_FILE = "POINTSMAN_API_KEYS_FILE"

#: For probes: they show only whether the server works.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
#: A browser sends no bearer token, but asks its user for a password: a key is accepted as one.
PASSWORD_PATHS = frozenset({"/"})

_LINE = re.compile(r"sha256:([0-9a-fA-F]{64})")


class RequestGuard:
    """Decides about a request from its headers alone, before its body is read."""

    def __init__(self, digests: Sequence[bytes]) -> None:
        """`digests` are the SHA-256 of the keys; without any, requests must name this machine as their host."""
        self._digests = tuple(digests)

    @classmethod
    def for_address(cls, host: str, address: str, environ: Mapping[str, str] = os.environ) -> RequestGuard:
        """The guard of a server on `host`, which resolves to `address`.

        Raises:
            ConfigError: if the address can be reached from elsewhere and no keys are configured.
        """
        named = environ.get(KEYS_FILE)
        if named:
            return cls(read_keys(Path(named)))
        if not is_loopback(address):
            raise ConfigError(
                f"--host {host} can be reached from other machines, and no API keys are configured; "
                f"name a file of hashed keys in {KEYS_FILE}, or use --host 127.0.0.1"
            )
        return cls(())

    def check(self, scope: Scope) -> ProblemDetails | None:
        """The problem for which this request is refused; None to let it pass."""
        path = scope["path"]
        if path in OPEN_PATHS:
            return None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if not self._digests:
            return _check_host(headers)
        given = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), "")
        password = path in PASSWORD_PATHS
        key = _key_of(given, password=password)
        if key is not None and self._knows(key):
            return None
        return ProblemDetails(
            401,
            "unauthorized",
            "the API key is missing" if not given else "the API key is not known",
            "Authorization",
            "send Authorization: Bearer KEY",
            {"www-authenticate": ('Basic realm="pointsman (any name, the key as password)"' if password else "Bearer")},
        )

    def _knows(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode()).digest()
        found = False
        for known in self._digests:
            # No early end: the time must not show which key was similar.
            found |= hmac.compare_digest(digest, known)
        return found


def read_keys(path: Path) -> list[bytes]:
    """The digests of a file of keys.

    Raises:
        ConfigError: if it can't be read, holds no key, or has a line that is no hash. The line is not quoted: it may
            be a key that was not hashed.
    """
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{KEYS_FILE}: {path}: can't be read ({type(error).__name__})") from None
    digests: list[bytes] = []
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            raise ConfigError(f"{path}:{number}: is no hashed key; write sha256: and the 64 hex digits of its SHA-256")
        digests.append(bytes.fromhex(match.group(1)))
    if not digests:
        raise ConfigError(f"{path}: holds no key; write sha256: and the 64 hex digits of a key's SHA-256")
    return digests


def _check_host(headers: Sequence[tuple[bytes, bytes]]) -> ProblemDetails | None:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if hosts and all(is_loopback(_without_port(host)) for host in hosts):
        return None
    return ProblemDetails(
        421,
        "wrong_host",
        "without API keys, only requests to a name of this machine are answered",
        "Host",
        f"use 127.0.0.1 or localhost, or configure keys with {KEYS_FILE}",
    )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _key_of(authorization: str, *, password: bool) -> str | None:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic" and password:
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None
