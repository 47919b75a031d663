"""A Celery application with tasks of every kind, for any pool: ``celery -A tests.pools.app worker -P …``.

It is no part of Pointsman: it stands for what users of the pool may write.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import time
from pathlib import Path
from typing import Any

import redis.asyncio
from celery import chord, current_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from tasks.queue.address import redis_url
from worker.loop import event_loop
from worker.tasks import Application

URL = redis_url()
app = Application("pools", set_as_current=True)
app.conf.update(
    broker_url=URL.replace("unix://", "redis+socket://", 1),
    result_backend=f"worker.backend:AwaitingRedisBackend+{URL.replace('unix://', 'socket://', 1)}",
    broker_transport_options={"visibility_timeout": 4, "unacked_restore_interval": 1, "unacked_restore_throttle": 1},
    worker_pool="worker.pool:TaskPool",
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_default_queue=os.environ.get("POOLS_QUEUE", "pools"),
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    worker_soft_shutdown_timeout=float(os.environ.get("POOLS_GRACE", "0")),
    task_publish_retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
)

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="unset")


async def note(key: str, text: str) -> None:
    """Push a text to a list that the test reads."""
    client = redis.asyncio.Redis.from_url(URL)
    await client.rpush(key, text)
    await client.aclose()


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0.01)
    return a + b


@app.task
async def total(numbers: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(numbers)


@app.task
async def fail(text: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


@app.task
def fail_plain(text: str) -> None:
    raise ValueError(text)


@app.task
async def ignored() -> None:
    await asyncio.sleep(0)
    raise Ignore


@app.task
async def rejected() -> None:
    await asyncio.sleep(0)
    raise Reject("no", requeue=False)


@app.task(bind=True, max_retries=2)
async def third_time(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task(bind=True, autoretry_for=(ValueError,), max_retries=1, retry_backoff=False, default_retry_delay=0)
async def never(self: Any) -> None:
    await asyncio.sleep(0)
    raise ValueError("never")


@app.task(bind=True)
async def own(self: Any, rounds: int = 5) -> bool:
    """Whether the task finds itself after each await."""
    mine = self.request.id
    who.set(mine)
    for turn in range(rounds):
        await asyncio.sleep(0.001 * (turn % 3))
        if (self.request.id, current_task.request.id, who.get()) != (mine, mine, mine):
            return False
    return True


@app.task(bind=True)
async def family(self: Any) -> dict[str, Any]:
    """Publishes a child, which must know its parent and root."""
    await asyncio.sleep(0)
    child = parents.delay()
    return {"child": child.id, "me": self.request.id}


@app.task(bind=True)
def parents(self: Any) -> dict[str, Any]:
    return {"parent": self.request.parent_id, "root": self.request.root_id}


@app.task
async def inner_timeout() -> str:
    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(30)
    except TimeoutError:
        return "timed out"
    return "slept"


@app.task(soft_time_limit=1)
async def soft_limited() -> str:
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        # The task can still await: it was interrupted, not cancelled.
        async with asyncio.timeout(5):
            await asyncio.sleep(0.01)
        return "interrupted"
    return "slept"


@app.task(soft_time_limit=1)
async def soft_limited_unhandled() -> None:
    await asyncio.sleep(30)


@app.task(time_limit=1)
async def hard_limited() -> None:
    await asyncio.sleep(30)


@app.task(time_limit=1)
async def stubborn() -> None:
    """Catches one cancellation; the next one ends it."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await asyncio.sleep(30)


@app.task(bind=True)
async def long(self: Any, seconds: float = 60.0) -> str:
    await note("started", self.request.id)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(note("cancelled", self.request.id)))
        raise
    await note("finished", self.request.id)
    return "slept"


@app.task
async def kill_loop() -> None:
    """The loop itself dies, the first time."""
    client = redis.asyncio.Redis.from_url(URL)
    first = await client.incr("loops-killed") == 1
    await client.aclose()
    if first:
        asyncio.get_running_loop().call_soon(_die)
        await asyncio.sleep(30)


def _die() -> None:
    raise SystemExit(3)


@app.task
async def nap(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@app.task
async def fan(parts: int) -> None:
    """A chord from within a task on the loop."""
    chord(nap.s(0.01) for _ in range(parts))(note_total.s())


@app.task
async def note_total(numbers: list[int]) -> None:
    await note("totals", str(sum(numbers)))


def _stood() -> float:
    """Seconds that this thread was ready to run and had no core, as Linux counts them; 0 elsewhere."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


@signals.worker_ready.connect
def measure_loop_lag(sender: Any = None, **_: Any) -> None:
    """Record how late the loop wakes, if a test asks for it."""
    file = os.environ.get("POOLS_LAG_FILE")
    if file and sender is not None:
        event_loop().call(lambda: asyncio.ensure_future(_measure_lag(Path(file))))


async def _measure_lag(file: Path) -> None:
    lags: list[float] = []
    while True:
        before, stood = time.perf_counter(), _stood()
        await asyncio.sleep(0.005)
        # Without the time that other processes kept this thread from a core.
        lags.append(time.perf_counter() - before - 0.005 - (_stood() - stood))
        if len(lags) % 100 == 0:
            file.with_suffix(".new").write_text(json.dumps(lags))
            file.with_suffix(".new").rename(file)
