"""The messages that wait in a queue's Redis lists. The sweeper reads them before it publishes a message again."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.ledger.store import Store
from tasks.queue.app import lists_of

__all__ = ["Entry", "ahead", "depth", "waiting_ids"]

#: Most messages that are read: of a longer queue, the caller must assume that it holds every message.
MOST_READ = 20_000

#: A task's own id: it is in the headers, before any other "id".
_ID = re.compile(r'"id": ?"([^"]+)"')


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
