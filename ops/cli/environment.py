"""Where things are: which configuration, which state directory, which Redis, and the connections to it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer import AsyncProducer
    from tasks.config.config import Config
    from tasks.ledger import Ledger

__all__ = [
    "DEFAULT_CONFIG",
    "UP_FILE",
    "Running",
    "config_path",
    "load_config",
    "open_ledger",
    "open_producer",
    "reach",
    "running_up",
    "shown",
]

#: In the state directory: what `pointsman up` says of itself while it runs.
UP_FILE = "up.json"
DEFAULT_CONFIG = "pointsman.yaml"
#: Seconds that a command waits for Redis to answer for the first time.
PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Running:
    """A `pointsman up` that runs now."""

    pid: int
    config: str | None = None
    http: str | None = None
    flower: str | None = None


def running_up() -> Running | None:
    """The `pointsman up` of the state directory, or None: nobody wrote there, or its process is gone."""
    from tasks.queue.address import state_dir

    try:
        said = json.loads((state_dir() / UP_FILE).read_text(encoding="utf-8"))
        pid = int(said["pid"])
        os.kill(pid, 0)
    except PermissionError:
        pass  # it lives, and is somebody else's
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return Running(pid, said.get("config"), said.get("http"), said.get("flower"))


def config_path() -> Path:
    """``--config`` or POINTSMAN_CONFIG, else that of the running `pointsman up`, else ``pointsman.yaml`` here."""
    named = os.environ.get("POINTSMAN_CONFIG")
    if named:
        return Path(named)
    up = running_up()
    return Path(up.config if up and up.config else DEFAULT_CONFIG)


def load_config() -> Config:
    """The configuration; raises `ConfigError` for one that is missing or has problems."""
    from tasks.loading.load import load

    return load(config_path())


def shown(url: str) -> str:
    """An address as it may be shown: without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def reach(url: str, *, patience: float = PATIENCE) -> None:
    """Ask Redis once whether it is there, so that a command ends in seconds where it is not.

    Raises:
        Unreachable: with its address, if it doesn't answer within `patience` seconds or refuses us.
    """
    import asyncio

    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, RedisError

    from tasks.contract.errors import ConfigError, Unreachable

    try:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    except ValueError as error:
        raise ConfigError(f"POINTSMAN_REDIS_URL: {error}") from None
    try:
        async with asyncio.timeout(patience):
            await client.execute_command("PING")  # type: ignore[no-untyped-call]
    except AuthenticationError:
        raise Unreachable(f"Redis at {shown(url)} refuses the password (or the lack of one)") from None
    except (RedisError, OSError, TimeoutError) as error:
        why = f"no answer in {patience:g} s" if isinstance(error, TimeoutError) else _reason(error)
        raise Unreachable(f"Redis at {shown(url)} does not answer ({why})") from None
    finally:
        await client.aclose()


def _reason(error: BaseException) -> str:
    """The innermost cause in the system's words; the outer ones repeat the address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return str(error)


@asynccontextmanager
async def open_ledger(models: Sequence[str] = (), *, patience: float = PATIENCE) -> AsyncIterator[Ledger]:
    """The ledger, for commands that read; jobs can be read without any configuration."""
    from tasks.ledger import Ledger
    from tasks.queue.address import redis_url

    url = redis_url()
    await reach(url, patience=patience)
    ledger = Ledger(url, tuple(models))
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def open_producer() -> AsyncIterator[AsyncProducer]:
    """A producer, for commands that submit, wait and cancel."""
    from producer import AsyncProducer
    from tasks.queue.address import redis_url

    config = load_config()
    url = redis_url()
    await reach(url)
    async with AsyncProducer(config, redis=url) as producer:
        yield producer
