"""Running Lua on the server: scripts by their digest, many in one round trip."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tasks.contract.errors import PointsmanError, Unreachable

__all__ = ["Command", "Script", "Store", "connect"]

#: Seconds: a Redis that doesn't answer within these is told as `Unreachable`, never waited for without end.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
#: A connection that broke is made again so often, with these seconds between. What timed out is not asked again: it
#: would multiply the wait, and who does not answer for half a minute will not do so on being asked twice.
RETRIES = 2
BACKOFF = 0.05
#: Words of commands above which they travel apart from the others.
BULK = 2_000

Command = tuple[Any, ...]
Late = Callable[[list[Any]], None]


class Script:
    """A Lua file beside this module."""

    def __init__(self, name: str) -> None:
        self.source = files("tasks.ledger").joinpath(name).read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], *args: Any) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


def connect(url: str, *, connections: int = 64, decode_responses: bool = True) -> Redis:
    """A client whose waits are bounded. `url` as redis-py takes it: ``redis://``, ``rediss://``, ``unix://``.

    Where all its connections are busy the next command waits for one: a burst is no failure.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=decode_responses,
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
    """Sends commands in groups, and brings scripts to servers that forgot them (a restart does that).

    One round trip serves all who ask at the same time: while one group is under way the next gathers. Each caller waits
    for its own replies. Belongs to one event loop.
    """

    def __init__(self, redis: Redis, scripts: Sequence[Script]) -> None:
        self.redis = redis
        self._sources = {script.digest: script.source for script in scripts}
        self._gathering: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None

    async def run(self, *commands: Command, late: Late | None = None) -> list[Any]:
        """The replies, in order.

        A caller that is cancelled meanwhile does not take its commands back. `late` is then handed the replies, any of
        which may be an error.

        Raises:
            Unreachable: if Redis does not answer within the bound.
            PointsmanError: if a command failed on the server, for example for want of memory.
        """
        try:
            replies = await self.ask(commands, late)
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                digests = {commands[place][1] for place in unknown}
                await self.ask([("SCRIPT", "LOAD", self._sources[digest]) for digest in digests])
                again = await self.ask([commands[place] for place in unknown])
                for place, reply in zip(unknown, again, strict=True):
                    replies[place] = reply
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unreachable(f"Redis does not answer ({type(error).__name__}); is it running?") from error
        for reply in replies:
            if isinstance(reply, RedisError):
                raise _told(reply) from reply
        return replies

    async def ask(self, commands: Sequence[Command], late: Late | None = None) -> list[Any]:
        """The replies as redis-py reads them, errors among them; nothing is mapped or loaded.

        Raises:
            redis.exceptions.RedisError, OSError: if Redis does not answer within the bound.
        """
        if sum(map(len, commands)) > BULK:
            # It would keep the others waiting, heartbeats among them.
            return await self._exchange(commands)
        asked = _Asked(commands, asyncio.get_running_loop().create_future(), late)
        self._gathering.append(asked)
        if self._sender is None:
            self._sender = asyncio.ensure_future(self._send_gathered())
        return await asked.replies

    async def _send_gathered(self) -> None:
        try:
            while self._gathering:
                group, self._gathering = self._gathering, []
                await self._send(group)
        finally:
            self._sender = None
            if self._gathering and not asyncio.get_running_loop().is_closed():
                # The loop is being closed: whoever still asks is told so.
                for asked in self._gathering:
                    asked.replies.cancel()
                self._gathering = []

    async def _send(self, group: Sequence[_Asked]) -> None:
        try:
            replies = await self._exchange([command for asked in group for command in asked.commands])
        except asyncio.CancelledError:
            for asked in group:
                asked.replies.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for asked in group:
                if not asked.replies.done():
                    asked.replies.set_exception(error)
            return
        first = 0
        for asked in group:
            end = first + len(asked.commands)
            if not asked.replies.done():
                asked.replies.set_result(replies[first:end])
            elif asked.late is not None:  # its caller was cancelled meanwhile
                asked.late(replies[first:end])
            first = end

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, then read all replies. A reply that is an error stands among the others.

        What was sent on a connection that broke is sent again: every step is safe to repeat.
        """
        pool = self.redis.connection_pool
        for again in range(RETRIES, -1, -1):
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                return await self._exchange_on(connection, commands)
            except RedisConnectionError:
                await connection.disconnect(nowait=True)
                if not again:
                    raise
            except BaseException:
                # Its replies would be taken for those of the next.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)
            await asyncio.sleep(BACKOFF)
        raise AssertionError("unreachable")

    async def _exchange_on(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        callbacks = self.redis.response_callbacks
        replies: list[Any] = []
        # One bound for the group: redis-py's own would set a timer for every reply.
        async with _bounded(ANSWER_TIMEOUT):
            await connection.send_packed_command(b"".join([_packed(connection, command) for command in commands]))
            for command in commands:
                try:
                    reply = await connection.read_response(timeout=math.inf)
                except ResponseError as error:
                    replies.append(error)
                    continue
                callback = callbacks.get(command[0])
                replies.append(callback(reply) if callback is not None else reply)
        return replies


def _packed(connection: Any, command: Command) -> bytes:
    try:
        # redis-py packs in Python, at eight times the cost.
        packed: bytes = hiredis.pack_command(command)
    except UnicodeEncodeError:
        packed = b"".join(connection.pack_command(*command))
    return packed


@dataclass(slots=True)
class _Asked:
    commands: Sequence[Command]
    replies: asyncio.Future[list[Any]]
    late: Late | None


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise RedisTimeoutError(f"no answer within {seconds:g} s") from error


def _told(error: RedisError) -> PointsmanError:
    # The server's word names keys and limits, never values.
    return PointsmanError(f"Redis refused a command: {error}")
