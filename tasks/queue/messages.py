"""Celery's messages, written by hand: protocol 2 in the envelope that kombu's Redis transport reads.

A message of `app.send_task` costs half a millisecond; these say the same (a test compares them) for a fiftieth of it.
What is alike in a batch is written once, and an id is all that differs between two messages of a kind.
"""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from celery.utils.nodenames import anon_nodename
from celery.utils.time import utcoffset

from tasks.ledger.store import Words

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["PRIORITIES", "SEPARATOR", "Chord", "MessageWriter", "Task", "list_of", "lists_of"]

#: kombu's names for the lists of a queue: ``q`` for priority 0, which goes first, then ``q<separator><priority>``.
SEPARATOR = "\x06\x16"
PRIORITIES = (0, 3, 6, 9)

#: Messages in one LPUSH: some 200 kB, which keeps the server a millisecond.
MOST_PUSHED = 200
#: Events in one announcement; receivers of a list take it in one step.
MOST_ANNOUNCED = 200


def list_of(queue: str, priority: int = 0) -> str:
    return f"{queue}{SEPARATOR}{priority}" if priority else queue


def lists_of(queue: str) -> list[str]:
    return [list_of(queue, priority) for priority in PRIORITIES]


@dataclass(frozen=True, slots=True)
class Task:
    """One message. `root` is the message that the job's way began with, `parent` the step that sends this one."""

    name: str
    id: str
    queue: str
    kwargs: Mapping[str, Any]
    root: str
    parent: str | None = None
    priority: int = 0
    #: The chord that the task is a part of, and its place there.
    chord: Chord | None = None
    group_index: int | None = None


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord: the id of its group, and the message that is sent once all parts have ended, as a signature in JSON."""

    group: str
    body: str

    @classmethod
    def of(cls, group: str, body: Task, *, reply_to: str) -> Chord:
        signature: dict[str, Any] = {
            "task": body.name,
            "args": [],
            "kwargs": dict(body.kwargs),
            "options": {
                "task_id": body.id,
                "queue": body.queue,
                "root_id": body.root,
                "reply_to": reply_to,
                "group_id": group,
            },
            "subtask_type": None,
            # The callback reads the ledger: it is not handed the parts' summaries.
            "immutable": True,
        }
        return cls(group, json.dumps(signature))


class MessageWriter:
    """What the messages of one process have in common."""

    def __init__(self, app: Celery, *, db: int = 0) -> None:
        """`db` is the number of the Redis database: the channel that events go by is named after it."""
        conf = app.conf
        self._app: Any = app  # its stubs know no clock
        self._origin = anon_nodename()
        self._prefix = (conf.broker_transport_options or {}).get("global_keyprefix", "")
        self._announces = bool(conf.task_send_sent_event)
        fanout = (conf.broker_transport_options or {}).get("fanout_prefix", True)
        before = (fanout if isinstance(fanout, str) else "/{db}.") if fanout else ""
        self._exchange = conf.event_exchange
        self._channel = f"{self._prefix}{before.format(db=db)}{self._exchange}/task.multi"

    @property
    def reply_to(self) -> str:
        return str(self._app.thread_oid)

    def commands(self, tasks: Iterable[Task]) -> list[Words]:
        """What puts these messages into their lists, each list's in order, and tells the receivers of events."""
        tasks = list(tasks)
        reply_to, stem = self.reply_to, token_hex(16)
        lists: dict[str, list[str]] = {}
        for place, task in enumerate(tasks):
            key = self._prefix + list_of(task.queue, task.priority)
            lists.setdefault(key, []).append(
                _message(task, origin=self._origin, reply_to=reply_to, tag=f"{stem}.{place}")
            )
        pushes: list[Words] = [
            ("LPUSH", key, *messages[start : start + MOST_PUSHED])
            for key, messages in lists.items()
            for start in range(0, len(messages), MOST_PUSHED)
        ]
        return pushes + self._announcements(tasks)

    def opening(self, chord: Chord, size: int) -> list[Words]:
        """What makes a chord known to Celery's Redis backend: how many parts it waits for."""
        backend: Any = self._app.backend
        # `set_chord_size`: the claim of an earlier chord of this id goes, then the size is written.
        claim, key = (backend.get_key_for_group(chord.group, suffix) for suffix in (".c", ".s"))
        expires = backend.chord_expires
        return [("DEL", claim), ("SET", key, size, *(("EX", expires) if expires else ()))]

    def _announcements(self, tasks: Sequence[Task]) -> list[Words]:
        if not self._announces:
            return []
        return [
            ("PUBLISH", self._channel, self._announcement(tasks[start : start + MOST_ANNOUNCED]))
            for start in range(0, len(tasks), MOST_ANNOUNCED)
        ]

    def _announcement(self, tasks: Sequence[Task]) -> str:
        """``task-sent`` of several tasks in one message, as Celery's dispatcher sends what it has buffered."""
        hostname, offset, pid, now = self._origin, utcoffset(), os.getpid(), time.time()
        events = [
            {
                "hostname": hostname,
                "utcoffset": offset,
                "pid": pid,
                "clock": self._app.clock.forward(),
                "uuid": task.id,
                "root_id": task.root,
                "parent_id": task.parent,
                "name": task.name,
                "args": "()",
                "kwargs": repr(dict(task.kwargs)),
                "retries": 0,
                "eta": None,
                "expires": None,
                "queue": task.queue,
                "exchange": "",
                "routing_key": task.queue,
                "timestamp": now,
                "type": "task-sent",
            }
            for task in tasks
        ]
        return json.dumps(
            {
                "body": b64encode(json.dumps(events).encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {"hostname": hostname},
                "properties": {
                    "delivery_mode": 1,
                    "delivery_info": {"exchange": self._exchange, "routing_key": "task.multi"},
                    "priority": 0,
                    "body_encoding": "base64",
                    "delivery_tag": token_hex(16),
                },
            }
        )


def _message(task: Task, *, origin: str, reply_to: str, tag: str) -> str:
    kwargs = dict(task.kwargs)
    chord = task.chord.body if task.chord is not None else "null"
    body = f'[[], {json.dumps(kwargs)}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": {chord}}}]'
    name, queue, ident = json.dumps(task.name), json.dumps(task.queue), json.dumps(task.id)
    group = json.dumps(task.chord.group) if task.chord is not None else "null"
    return (
        f'{{"body": "{b64encode(body.encode()).decode()}", "content-encoding": "utf-8", '
        f'"content-type": "application/json", "headers": {{"lang": "py", "task": {name}, "id": {ident}, '
        f'"shadow": null, "eta": null, "expires": null, "group": {group}, '
        f'"group_index": {"null" if task.group_index is None else task.group_index}, "retries": 0, '
        f'"timelimit": [null, null], "root_id": {json.dumps(task.root)}, "parent_id": {json.dumps(task.parent)}, '
        f'"argsrepr": "()", "kwargsrepr": {json.dumps(repr(kwargs))}, "origin": {json.dumps(origin)}, '
        f'"ignore_result": true, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {{}}}}, '
        f'"properties": {{"correlation_id": {ident}, "reply_to": "{reply_to}", "delivery_mode": 2, '
        f'"delivery_info": {{"exchange": "", "routing_key": {queue}}}, "priority": {task.priority}, '
        f'"body_encoding": "base64", "delivery_tag": "{tag}"}}}}'
    )
