"""The Celery application, the same for all processes: the form of its messages, its queues, and what waits in them.

The messages of a queue wait in Redis lists. The sweeper reads them before it publishes a message again.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from tasks.ledger.store import Store
from tasks.queue.address import broker_url, result_url

#: kombu's names for the lists of a queue: ``q`` for priority 0, which goes first, then ``q<separator><priority>``.
_SEPARATOR = "\x06\x16"
PRIORITIES = (0, 3, 6, 9)

_MODEL = "model."
ROUTE = "route"
JOIN = "join"

#: Seconds until the broker hands an unacknowledged message to another worker. The sweeper recovers a dead worker's
#: calls within seconds; this timeout only tidies up after it, so it is longer than any call.
VISIBILITY_TIMEOUT = 3900

#: Most messages that are read: of a longer queue, the caller must assume that it holds every message.
MOST_READ = 20_000

#: A task's own id: it is in the headers, before any other "id".
_ID = re.compile(r'"id": ?"([^"]+)"')

#: By scheme: the class of our transport, and the scheme that kombu shows in an address, where any reader of Redis
#: queues understands it.
_TRANSPORTS = {
    "pointsman": ("tasks.queue.transport:RedisTransport", "redis"),
    "pointsmans": ("tasks.queue.transport:TLSTransport", "rediss"),
}
for _scheme, (_class, _shown) in _TRANSPORTS.items():
    TRANSPORT_ALIASES[_scheme] = _class
    Connection.resolve_aliases[_scheme] = _shown


def model_queue(model: str) -> str:
    return f"{_MODEL}{model}"


def model_of_queue(queue: str) -> str | None:
    """The model whose calls are in this queue; None for the queues of routing and joining."""
    return queue.removeprefix(_MODEL) if queue.startswith(_MODEL) else None


def list_of(queue: str, priority: int = 0) -> str:
    """The Redis list of a queue's messages of one priority; that of the default priority has the queue's own name."""
    return f"{queue}{_SEPARATOR}{priority}" if priority else queue


def lists_of(queue: str) -> list[str]:
    return [list_of(queue, priority) for priority in PRIORITIES]


class Entry(NamedTuple):
    """A message that waits: its task's id, its list, and its exact text."""

    id: str
    list: str
    message: str


async def ahead(store: Store, queue: str, *, skip: int = 0, most: int) -> list[Entry]:
    """The messages that wait in a queue, in the order in which they are taken: `most` after the first `skip`."""
    found: list[Entry] = []
    for name in lists_of(queue):
        # The next message to be taken is the last of the list.
        messages, length = await store.run(("LRANGE", name, -(skip + most - len(found)), -(skip + 1)), ("LLEN", name))
        skip = max(0, skip - length)
        for message in reversed(messages):
            match = _ID.search(message)
            if match:
                found.append(Entry(match.group(1), name, message))
        if len(found) >= most:
            break
    return found


async def depth(store: Store, *queues: str) -> int:
    """The number of messages that wait in these queues, over all priorities; reserved ones are not among them."""
    return sum(await store.run(*(("LLEN", name) for queue in queues for name in lists_of(queue))))


async def waiting_ids(store: Store, queue: str) -> frozenset[str] | None:
    """The task ids of all messages in a queue, or None if there are too many to read."""
    if await depth(store, queue) > MOST_READ:
        return None
    replies = await store.run(*(("LRANGE", name, 0, -1) for name in lists_of(queue)))
    matches = (_ID.search(message) for messages in replies for message in messages)
    return frozenset(match.group(1) for match in matches if match)


def make_app(name: str, redis: str, *, models: tuple[str, ...] = (), kind: type[Celery] = Celery) -> Celery:
    """An application on this Redis (a URL in the form of redis-py), with the queues of these models."""
    app = kind(name, set_as_current=True)
    app.conf.update(
        broker_url=broker_url(redis),
        result_backend=result_url(redis),
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
        },
        # JSON alone, in both directions.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # A message is acknowledged when its call has ended, and a worker reserves only messages that it can run.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # The ledger is the truth; Celery's results serve the chords alone.
        task_ignore_result=True,
        result_expires=86_400,
        result_chord_expires=7 * 86_400,
        # What Flower shows.
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_track_started=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_proc_alive_timeout=30.0,
        task_default_queue=ROUTE,
        task_queues=[_queue(name) for name in (ROUTE, JOIN, *map(model_queue, models))],
        task_create_missing_queues=True,
        task_routes=_routes,
        timezone="UTC",
    )
    return app


def _queue(name: str) -> Queue:
    """A queue with an exchange of its own: a shared one would copy each message to all queues bound to it."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _routes(name: str, *_args: Any, **_kwargs: Any) -> dict[str, str] | None:
    """The queue of a message that names none. Only calls name one, since each model has its own."""
    if name in {"tasks.join", "tasks.finish_part"}:
        return {"queue": JOIN}
    return {"queue": ROUTE} if name.startswith("tasks.") else None
