"""Publishes chords on command: ours through `tasks.queue.publisher`, Celery's by ``chord.apply_async``.

``BENCH_PUBLISH`` is ``ours`` or ``celery``. Says what CPU (user and system, seconds) it spent itself: the kernel's own
count for other processes goes in steps of 10 ms, and a chord takes less than ten of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from celery import Celery, chord, group

from ops.bench.peers import stock_url
from ops.bench.process import answer, orders
from tasks.ledger import Ledger
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher

MODEL = "model"


def _celery(url: str) -> Callable[[int, int], None]:
    broker = stock_url(url)
    app = Celery("publish", broker=broker, backend=broker)
    app.conf.update(result_expires=3600, task_ignore_result=True)
    part = app.signature("tasks.call", immutable=True, options={"queue": f"model.{MODEL}"})

    def publish(number: int, parts: int) -> None:
        header = [
            part.clone(kwargs={"job_id": f"job{number}", "index": index, "wave": 0}, task_id=f"job{number}.{index}.0")
            for index in range(parts)
        ]
        body = app.signature("tasks.join", kwargs={"job_id": f"job{number}", "wave": 0}, options={"queue": "join"})
        chord(group(header, app=app), body, app=app).apply_async()

    return publish


def _ours(url: str, runner: asyncio.Runner) -> Callable[[int, int], None]:
    async def bind() -> Publisher:
        return Publisher(Ledger(url, (MODEL,)).store, make_app("publish", url, models=(MODEL,)))

    publisher = runner.run(bind())

    def publish(number: int, parts: int) -> None:
        runner.run(publisher.send_chord(f"job{number}", 0, [(index, MODEL) for index in range(parts)]))

    return publish


def main() -> None:
    url = os.environ["BENCH_REDIS_URL"]
    with asyncio.Runner() as runner:
        publish = _ours(url, runner) if os.environ["BENCH_PUBLISH"] == "ours" else _celery(url)
        for order in orders():
            before = time.process_time()
            for number in range(order["chords"]):
                publish(order["first"] + number, order["parts"])
            answer(cpu_s=time.process_time() - before)
    # Celery's results unsubscribe when they are destroyed, which fails, loudly, while the interpreter ends.
    os._exit(0)


if __name__ == "__main__":
    main()
