"""Celery's Redis result backend for tasks on the event loop: it awaits its commands there.

Celery's tracer counts a chord's parts, stores results and reads them through this backend, on the task's thread. In
this worker that is the loop's thread, where one blocking command would stop all calls and heartbeats of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
from celery.backends.redis import RedisBackend
from redis.client import Pipeline

from tasks.ledger.store import Store, Words, connect, translating
from tasks.queue.address import redis_url
from worker.loop import in_task, wait_here

#: Connections of one loop; further commands wait for one.
CONNECTIONS = 32


class _Client(redis.Redis):
    """redis-py's client; it awaits its commands where the caller is a task on the loop."""

    awaiting: redis.asyncio.Redis
    grouping: Store

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if in_task():
            if options or " " in args[0]:  # redis-py splits such a name
                return wait_here(_coroutine(self.awaiting.execute_command(*args, **options)))  # type: ignore[no-untyped-call]
            return wait_here(self._grouped(args))
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def _grouped(self, command: Words) -> Any:
        """Send a command with those of other tasks in one round trip: the parts of a chord end by the hundred."""
        (reply,) = await self.grouping.ask([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> _Pipeline:  # noqa: FBT002 - redis-py's signature
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.awaiting = self.awaiting
        return pipeline


class _Pipeline(Pipeline):
    awaiting: redis.asyncio.Redis

    def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - redis-py's signature
        if not in_task():
            return super().execute(raise_on_error)
        try:
            return wait_here(self._await_all([args for args, _ in self.command_stack], raise_on_error=raise_on_error))
        finally:
            self.reset()

    async def _await_all(self, commands: Sequence[Any], *, raise_on_error: bool) -> list[Any]:
        async with self.awaiting.pipeline(transaction=bool(self.transaction)) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute(raise_on_error))


class AwaitingRedisBackend(RedisBackend):
    """``result_backend = "worker.backend:AwaitingRedisBackend+redis://…"``, for a `worker.tasks.Application`."""

    connection_errors: tuple[type[Exception], ...]

    def _get_client(self) -> Callable[..., _Client]:
        return self._make_client

    def _get_pool(self, **options: Any) -> Any:
        pool = super()._get_pool(**options)  # type: ignore[misc]
        pool.connection_class = translating(pool.connection_class)
        return pool

    def _make_client(self, **options: Any) -> _Client:
        client = _Client(**options)
        # Connects at its first command, on the loop that runs the command.
        client.awaiting = connect(redis_url(), connections=CONNECTIONS, decode_responses=False)
        client.grouping = Store(client.awaiting, ())
        return client

    def ensure(self, fun: Callable[..., Any], args: Any, **policy: Any) -> Any:
        """Retry while Redis is unreachable; between two tries the loop serves other tasks."""
        if not in_task():
            return super().ensure(fun, args, **policy)
        policy = {**self.retry_policy, **policy}
        most, pause = policy.get("max_retries"), float(policy.get("interval_start", 0))
        tries = 0
        while True:
            try:
                return fun(*args)
            except self.connection_errors:
                tries += 1
                if most is not None and tries > most:
                    raise
            wait_here(_coroutine(asyncio.sleep(pause)))
            pause = min(pause + float(policy.get("interval_step", 0.2)), float(policy.get("interval_max", 1)))


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable
