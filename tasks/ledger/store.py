"""Running Lua on the server: scripts by their digest, many in one round trip."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import re
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Generic, TypeVar, overload

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tasks.contract.errors import PointsmanError, Unreachable

#: Seconds: a Redis that does not answer within these raises `Unreachable`.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
#: How often a broken connection is made again, and the seconds between. A command that timed out is not repeated: that
#: would multiply the wait.
RETRIES = 2
BACKOFF = 0.05
#: Words of commands above which they travel apart from the others.
BULK = 2_000

T = TypeVar("T")
U = TypeVar("U")
#: A command as the server takes it.
Words = tuple[Any, ...]
#: Is handed what `Store.run` would have returned, with errors among it.
Late = Callable[[list[Any]], None]

#: Seconds for which an answer is kept while Redis is away, and between two tries to write it.
WRITE_TIMEOUT = 120.0
WRITE_PAUSE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Command(Generic[T]):
    """Words for the server, and how its reply is read. Await it to send it alone; `Store.run` sends several at once."""

    store: Store
    words: Words
    read: Callable[[Any], T]

    def __await__(self) -> Generator[Any, None, T]:
        return self._send().__await__()

    async def _send(self) -> T:
        (value,) = await self.store.run(self)
        return value


class Commands(list[Command[T]]):
    """Several commands of one operation. Await it to send them alone, in one round trip."""

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._send().__await__()

    async def _send(self) -> list[T]:
        return list(await self[0].store.run(*self)) if self else []


class Script:
    """The steps of a Lua file beside this module, which follows `shared.lua` and the files of `before`.

    A step's arguments are the parameters of its Lua function (see `shared.lua`): their names are read from the source.
    Each step is a script of its own, without the other steps: the server would make their functions anew at each call,
    which was 15 % of the CPU of a job's way.
    """

    def __init__(self, name: str, *before: str) -> None:
        folder = files("tasks.ledger")
        text = "\n".join(folder.joinpath(file).read_text(encoding="utf-8") for file in ("shared.lua", *before, name))
        common = _STEP.sub("", text)
        self.name = name
        self.steps = {match["name"]: _Step.of(match, common) for match in _STEP.finditer(text)}

    def words(self, keys: Sequence[str], step: str, **arguments: Any) -> Words:
        """The command that runs a step.

        Raises:
            TypeError: if there is no such step, or an argument is missing or unknown.
        """
        if (found := self.steps.get(step)) is None:
            raise TypeError(f"{self.name} has no step {step!r}")
        names = found.parameters
        if len(names) != len(arguments) or any(name not in arguments for name in names):
            raise TypeError(f"step {step!r} takes {', '.join(names)}; it was given {', '.join(arguments)}")
        rest = arguments["rest"] if names[-1:] == ("rest",) else ()
        named = [_word(arguments[name]) for name in names if name != "rest"]
        return ("EVALSHA", found.digest, len(keys), *keys, *named, *rest)


#: A step in a Lua file.
_STEP = re.compile(
    r"^function step\.(?P<name>\w+)\((?P<parameters>[^)]*)\)(?:[^\n]* end\n|.*?^end\n)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class _Step:
    parameters: tuple[str, ...]
    source: str
    digest: str

    @classmethod
    def of(cls, match: re.Match[str], common: str) -> _Step:
        """The script of the step that `match` found; `common` is all of its file but the steps."""
        name, parameters = match["name"], tuple(re.findall(r"\w+", match["parameters"]))
        count = len(parameters)
        if parameters[-1:] == ("rest",):
            check = f"#ARGV < {count - 1}"
            call = f"local rest = {{}} for k = {count}, #ARGV do rest[#rest + 1] = ARGV[k] end ARGV[{count}] = rest"
        else:
            check, call = f"#ARGV ~= {count}", ""
        error = f"redis.error_reply('ERR step {name} takes {', '.join(parameters)}, not ' .. #ARGV .. ' words')"
        source = f"{common}\n{match[0]}\nif {check} then return {error} end {call}\n"
        source += f"return step.{name}(unpack(ARGV, 1, {count}))\n"
        return cls(parameters, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _word(value: Any) -> str | int | float:
    if value is None:
        return ""
    return int(value) if isinstance(value, bool) else value


async def repeat_while_unreachable(write: Callable[[], Awaitable[T]]) -> T:
    """Write an answer that is paid for: a ledger that is away for a moment must not lose it."""
    end = time.monotonic() + WRITE_TIMEOUT
    while True:
        try:
            return await write()
        except Unreachable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(WRITE_PAUSE)


class NotReady(RedisConnectionError):
    """The server answers, and can't do now what it can do at other times: it counts as one that does not answer."""


#: Such replies, by redis-py's type or by their first word: of a replica that is to be promoted, and of a server that
#: runs a script for long, has no memory or no disk left, or has lost others of its kind.
_NOT_READY = (ReadOnlyError, OutOfMemoryError, ClusterDownError, TryAgainError)
_NOT_READY_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNBLOCKED ")


def _translate(error: ResponseError) -> Exception:
    if isinstance(error, _NOT_READY) or str(error).startswith(_NOT_READY_WORDS):
        return NotReady(f"{type(error).__name__}: {error}")
    return error


class _Translating:
    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            raise _translate(error) from error


class _AwaitTranslating:
    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            raise _translate(error) from error


def translating(kind: type[Any]) -> type[Any]:
    """A class of connections of redis-py as one that raises `NotReady`; blocking or awaiting ones."""
    mixin = _AwaitTranslating if inspect.iscoroutinefunction(kind.read_response) else _Translating
    return type(kind.__name__, (mixin, kind), {})


def connect(url: str, *, connections: int = 64, decode_responses: bool = True) -> Redis:
    """Return a client whose waits are bounded. `url` as redis-py takes it: ``redis://``, ``rediss://``, ``unix://``.

    Where all connections are busy the next command waits for one: a burst is no failure.
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
    pool.connection_class = translating(pool.connection_class)
    return Redis.from_pool(pool)


class Store:
    """Sends commands in groups, and brings scripts to servers that forgot them (a restart does that).

    One round trip serves all callers of the same moment: while one group is on its way the next one gathers. Each
    caller waits for its own replies. Belongs to one event loop.
    """

    def __init__(self, redis: Redis, scripts: Sequence[Script]) -> None:
        self.redis = redis
        self._sources = [step.source for script in scripts for step in script.steps.values()]
        self._gathering: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None

    def step(
        self, script: Script, keys: Sequence[str], step: str, read: Callable[[Any], T], **arguments: Any
    ) -> Command[T]:
        """One step of a script, see `Script.words`."""
        return Command(self, script.words(keys, step, **arguments), read)

    @overload
    async def run(self, one: Command[T], /, *, late: Late | None = None) -> tuple[T]: ...
    @overload
    async def run(self, one: Command[T], two: Command[U], /, *, late: Late | None = None) -> tuple[T, U]: ...
    @overload
    async def run(self, *commands: Command[T], late: Late | None = None) -> Sequence[T]: ...
    @overload
    async def run(self, *commands: Command[Any] | Words, late: Late | None = None) -> Sequence[Any]: ...
    async def run(self, *commands: Command[Any] | Words, late: Late | None = None) -> Sequence[Any]:
        """Send all in one round trip; returns what their replies say, in order. The reply to mere words is not read.

        A caller that is cancelled meanwhile does not take its commands back; then `late` gets the values.

        Raises:
            Unreachable: if Redis does not answer within the bound, or is not ready (`NotReady`).
            PointsmanError: if a command failed on the server.
        """
        if not commands:
            return ()
        words = [each.words if isinstance(each, Command) else each for each in commands]
        unwanted = None if late is None else lambda replies: late([*map(_read, commands, replies)])
        try:
            replies = await self.ask(words, unwanted)
            unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # All of them: a group must not find some of its steps there and others missing, it runs in order.
                await self.ask([("SCRIPT", "LOAD", source) for source in self._sources])
                again = await self.ask([words[place] for place in unknown])
                for place, reply in zip(unknown, again, strict=True):
                    replies[place] = reply
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise Unreachable(_describe(error)) from error
        for reply in replies:
            if isinstance(reply, RedisError):
                # The server's text names keys and limits, never values.
                raise PointsmanError(f"Redis refused a command: {reply}") from reply
        return tuple(map(_read, commands, replies))

    async def ask(self, commands: Sequence[Words], late: Late | None = None) -> list[Any]:
        """The replies as redis-py reads them, errors among them; nothing is mapped or loaded.

        Raises:
            redis.exceptions.RedisError, OSError: if Redis does not answer within the bound.
        """
        if sum(map(len, commands)) > BULK:
            # In a group it would delay the others, heartbeats among them.
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
                # The loop is being closed.
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

    async def _exchange(self, commands: Sequence[Words]) -> list[Any]:
        """Send all, then read all replies. A reply that is an error stands among the others.

        Commands on a connection that broke are sent again: every step is safe to repeat.
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
                # A reply that is still on its way would be read as that of the next command.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)
            await asyncio.sleep(BACKOFF)
        raise AssertionError("unreachable")

    async def _exchange_on(self, connection: Any, commands: Sequence[Words]) -> list[Any]:
        callbacks = self.redis.response_callbacks
        replies: list[Any] = []
        try:
            # One bound for the group: redis-py's own would set a timer for every reply.
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.send_packed_command(b"".join([_packed(connection, command) for command in commands]))
                for command in commands:
                    try:
                        reply = await connection.read_response(timeout=math.inf)
                    except ResponseError as error:
                        replies.append(error)
                        continue
                    callback = callbacks.get(command[0])
                    replies.append(callback(reply) if callback is not None else reply)
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer within {ANSWER_TIMEOUT:g} s") from error
        return replies


def _packed(connection: Any, command: Words) -> bytes:
    try:
        # redis-py packs in Python, at eight times the cost.
        packed: bytes = hiredis.pack_command(command)
    except UnicodeEncodeError:
        packed = b"".join(connection.pack_command(*command))
    return packed


def _describe(error: Exception) -> str:
    if isinstance(error, NotReady):
        # The server's text names keys and limits, never values.
        return f"Redis is not ready: {error}"
    return f"Redis does not answer ({type(error).__name__}); is it running?"


@dataclass(slots=True)
class _Asked:
    commands: Sequence[Words]
    replies: asyncio.Future[list[Any]]
    late: Late | None


def _read(command: Command[Any] | Words, reply: Any) -> Any:
    return command.read(reply) if isinstance(command, Command) and not isinstance(reply, Exception) else reply
