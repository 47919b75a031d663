"""Which messages wait in a queue: what the sweeper must know before it publishes one again.

Reads the lists that kombu's Redis transport keeps: one a priority, the default priority under the queue's own name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.ledger.store import Store
from tasks.queue.messages import lists_of

__all__ = ["Entry", "ahead", "depth", "waiting_ids"]

#: More messages than this are not read: the queue is long, and what is looked for is taken to stand in it.
MOST_READ = 20_000

_ID = re.compile(r'"id": ?"([^"]+)"')


class Entry(NamedTuple):
    """A message that waits: its task's id, the list it is in, and itself, to the letter."""

    id: str
    list: str
    message: str


async def ahead(store: Store, queue: str, *, skip: int = 0, most: int) -> list[Entry]:
    """Messages that wait in a queue, in the order in which they are taken: `most` after the first `skip`."""
    found: list[Entry] = []
    for name in lists_of(queue):
        # The next to be taken stands at the end.
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
    """Messages that wait in these queues, over all priorities; those that a worker has reserved are not among them."""
    return sum(await store.run(*(("LLEN", name) for queue in queues for name in lists_of(queue))))


async def waiting_ids(store: Store, queue: str) -> frozenset[str] | None:
    """The task ids of all messages in a queue, or None if there are too many to read."""
    if await depth(store, queue) > MOST_READ:
        return None
    replies = await store.run(*(("LRANGE", name, 0, -1) for name in lists_of(queue)))
    found: set[str] = set()
    for messages in replies:
        for message in messages:
            # The task's own id stands in its headers, before any other "id".
            match = _ID.search(message)
            if match:
                found.add(match.group(1))
    return frozenset(found)
