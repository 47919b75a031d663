"""The surroundings of a command: the configuration file, the running `pointsman up`, Redis, and the workers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.up.processes import Running
    from producer import AsyncProducer
    from tasks.config.config import Config
    from tasks.ledger import Ledger

DEFAULT_CONFIG = "pointsman.yaml"
#: Seconds in which Redis must answer for the first time.
REDIS_TIMEOUT = 3.0


def running_up() -> Running | None:
    """Return the `pointsman up` of the state directory; None if none runs."""
    from ops.up.processes import read_running
    from tasks.queue.address import state_dir

    return read_running(state_dir())


def config_path() -> Path:
    """``--config`` or POINTSMAN_CONFIG, else that of the running `pointsman up`, else ``pointsman.yaml`` here."""
    named = os.environ.get("POINTSMAN_CONFIG")
    if named:
        return Path(named)
    up = running_up()
    return Path(up.config if up and up.config else DEFAULT_CONFIG)


def load_config() -> Config:
    """Load the configuration; raise `ConfigError` if it is missing or has problems."""
    from tasks.loading.load import load

    return load(config_path())


async def check_redis(url: str, *, timeout: float = REDIS_TIMEOUT) -> None:
    """Ping Redis once, so that a command fails within seconds if Redis is away.

    Raises:
        Unreachable: with its address, if Redis doesn't answer within `timeout` seconds or refuses the password.
    """
    import asyncio

    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, RedisError

    from tasks.contract.errors import ConfigError, Unreachable
    from tasks.queue.address import hide_password

    try:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    except ValueError as error:
        raise ConfigError(f"POINTSMAN_REDIS_URL: {error}") from None
    try:
        async with asyncio.timeout(timeout):
            await client.execute_command("PING")  # type: ignore[no-untyped-call]
    except AuthenticationError:
        raise Unreachable(f"Redis at {hide_password(url)} refuses the password (or the lack of one)") from None
    except (RedisError, OSError, TimeoutError) as error:
        why = f"no answer in {timeout:g} s" if isinstance(error, TimeoutError) else _reason(error)
        raise Unreachable(f"Redis at {hide_password(url)} does not answer ({why})") from None
    finally:
        await client.aclose()


def _reason(error: BaseException) -> str:
    """Return the innermost cause in the words of the system; outer errors repeat the address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return str(error)


@asynccontextmanager
async def open_ledger(models: Sequence[str] = (), *, timeout: float = REDIS_TIMEOUT) -> AsyncIterator[Ledger]:
    """Open the ledger, for commands that read. Reading jobs needs no configuration."""
    from tasks.ledger import Ledger
    from tasks.queue.address import redis_url

    url = redis_url()
    await check_redis(url, timeout=timeout)
    ledger = Ledger(url, tuple(models))
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def open_producer() -> AsyncIterator[AsyncProducer]:
    """Open a producer, for commands that submit, wait and cancel."""
    from producer import AsyncProducer
    from tasks.queue.address import redis_url

    config = load_config()
    url = redis_url()
    await check_redis(url)
    async with AsyncProducer(config, redis=url) as producer:
        yield producer


#: Seconds in which a worker must answer. Their number is unknown, so `find_workers` always waits that long.
ANSWER_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `slots` are the calls it runs at once, None if its answer lacks them."""

    name: str
    queues: tuple[str, ...]
    slots: int | None = None


async def find_workers(redis: str, *, timeout: float = ANSWER_TIMEOUT) -> list[Worker]:
    """Return the worker processes that answer within `timeout` seconds. Takes that long."""
    import asyncio

    from tasks.queue.app import make_app

    with make_app("pointsman-cli", redis) as app:
        inspect = app.control.inspect(timeout=timeout)
        # Side by side: each question takes the whole timeout.
        answers: Any = await asyncio.gather(*map(asyncio.to_thread, (inspect.active_queues, inspect.stats)))
    queues, stats = (answer or {} for answer in answers)
    return [
        Worker(
            name,
            tuple(queue["name"] for queue in consumed),
            (stats.get(name) or {}).get("pool", {}).get("max-concurrency"),
        )
        for name, consumed in sorted(queues.items())
    ]


def workers_of(queue: str, workers: list[Worker]) -> list[Worker]:
    return [worker for worker in workers if queue in worker.queues]
