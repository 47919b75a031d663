"""A Celery application as its manual says: the threads pool, one shared `httpx.Client`, results stored.

``celery -A ops.bench.peers.celery_threads worker -P threads -c 100``
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
from celery import Celery, signals

from ops.bench.peers import stock_url
from ops.bench.peers.bare import REQUEST, content_of

_redis = stock_url(os.environ["BENCH_REDIS_URL"])
app = Celery("peer", broker=_redis, backend=_redis)
app.conf.update(
    # A durable call: its message is kept until it has ended, as ours is.
    task_acks_late=True,
    result_expires=3600,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)

_http = httpx.Client(
    base_url=os.environ.get("BENCH_MODEL_URL", ""),
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30),
    timeout=60,
    trust_env=False,
)


@app.task(name="peer.call")
def call(_number: int) -> str:
    return content_of(_http.post("/v1/chat/completions", json=REQUEST))


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    Path(os.environ["BENCH_READY_FILE"]).touch()
