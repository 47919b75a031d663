"""Running Lua on the server: scripts by their digest, many in one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tasks.errors import PointsmanError, Unreachable

__all__ = ["Command", "Script", "Store", "connect"]

#: Seconds: a Redis that doesn't answer within these is told as `Unreachable`, never waited for without end.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
#: A connection that broke is made again so often, with these seconds between. What timed out is not asked again: it
#: would multiply the wait, and who does not answer for half a minute will not do so on being asked twice.
RETRIES = 2
BACKOFF = 0.05

Command = tuple[Any, ...]


class Script:
    """A Lua file beside this module."""

    def __init__(self, name: str) -> None:
        self.source = files("tasks.ledger").joinpath(name).read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], *args: Any) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


def connect(url: str, *, connections: int = 64) -> Redis:
    """A client whose waits are bounded. `url` as redis-py takes it: ``redis://``, ``rediss://``, ``unix://``.

    Where all its connections are busy the next command waits for one: a burst is no failure.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        # A model may answer with half a surrogate pair, which is no UTF-8: its answer is kept, with a "?" there.
        encoding_errors="replace",
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        max_connections=connections,
        timeout=ANSWER_TIMEOUT,
        retry=Retry(ExponentialBackoff(base=BACKOFF), RETRIES, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


class Store:
    """Sends commands in one round trip and brings scripts to servers that forgot them (a restart does that)."""

    def __init__(self, redis: Redis, scripts: Sequence[Script]) -> None:
        self.redis = redis
        self._sources = {script.digest: script.source for script in scripts}

    async def run(self, *commands: Command) -> list[Any]:
        """The replies, in order.

        Raises:
            Unreachable: if Redis does not answer within the bound.
            PointsmanError: if a command failed on the server, for example for want of memory.
        """
        try:
            replies = await self._send(commands)
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                for digest in {commands[place][1] for place in unknown}:
                    await self.redis.script_load(self._sources[digest])
                again = await self._send([commands[place] for place in unknown])
                for place, reply in zip(unknown, again, strict=True):
                    replies[place] = reply
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unreachable(f"Redis does not answer ({type(error).__name__}); is it running?") from error
        for reply in replies:
            if isinstance(reply, RedisError):
                raise _told(reply) from reply
        return replies

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self.redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return [error]
        async with self.redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error=False))


def _told(error: RedisError) -> PointsmanError:
    # The server's word names keys and limits, never values.
    return PointsmanError(f"Redis refused a command: {error}")
