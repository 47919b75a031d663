"""A task that does nothing, on Celery's own Redis transport or on the one of Pointsman, as ``BENCH_TRANSPORT`` says.

It counts, and says after every ``BENCH_TELL_EVERY``-th message in the file ``BENCH_COUNT_FILE`` how many there were.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

from ops.bench.peers import stock_url
from tasks.queue.address import broker_url
from tasks.queue.app import VISIBILITY_TIMEOUT

_redis = os.environ["BENCH_REDIS_URL"]
app = Celery("noop", broker={"stock": stock_url(_redis), "ours": broker_url(_redis)}[os.environ["BENCH_TRANSPORT"]])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH"]),
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
)
_count = 0


@app.task(name="peer.noop")
def noop(_number: int) -> None:
    global _count  # noqa: PLW0603 - the solo pool runs one task at a time
    _count += 1
    if _count % int(os.environ["BENCH_TELL_EVERY"]) == 0:
        Path(os.environ["BENCH_COUNT_FILE"]).write_text(str(_count))


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    Path(os.environ["BENCH_READY_FILE"]).touch()
