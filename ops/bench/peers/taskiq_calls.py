"""A taskiq application as its manual says: an asyncio task over one shared client, results in Redis.

``taskiq worker ops.bench.peers.taskiq_calls:broker --workers 1 --max-async-tasks 400``; ``BENCH_TASKIQ`` chooses the
broker: ``list`` or ``stream``.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
from taskiq import TaskiqEvents, TaskiqState
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from ops.bench.peers.bare import REQUEST, client, content_of

_url = os.environ["BENCH_REDIS_URL"]
_brokers = {"list": ListQueueBroker, "stream": RedisStreamBroker}
_results: RedisAsyncResultBackend[str] = RedisAsyncResultBackend(
    redis_url=_url, result_ex_time=3600, serializer=JSONSerializer()
)
broker = _brokers[os.environ["BENCH_TASKIQ"]](_url).with_result_backend(_results)
_state: dict[str, httpx.AsyncClient] = {}


@broker.on_event(TaskiqEvents.WORKER_STARTUP)  # type: ignore[untyped-decorator]
async def _open(_taskiq: TaskiqState) -> None:
    _state["http"] = client()
    Path(os.environ["BENCH_READY_FILE"]).touch()  # noqa: ASYNC240 - once, at the start


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)  # type: ignore[untyped-decorator]
async def _close(_taskiq: TaskiqState) -> None:
    await _state["http"].aclose()


@broker.task(task_name="peer.call")  # type: ignore[untyped-decorator]
async def call(_number: int) -> str:
    return content_of(await _state["http"].post("/v1/chat/completions", json=REQUEST))
