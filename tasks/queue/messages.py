"""Celery's messages, written without Celery: protocol 2 in the envelope that kombu's Redis transport reads.

`app.send_task` takes half a millisecond for a message, this module a fiftieth of that. A test compares the messages of
both.
"""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from celery import Celery
from celery.utils.nodenames import anon_nodename
from celery.utils.time import utcoffset

from tasks.ledger.store import Words
from tasks.queue.app import list_of

#: Messages in one LPUSH: some 200 kB, which keeps the server a millisecond.
MOST_PUSHED = 200
#: Events in one message; receivers take a list of events in one step.
MOST_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Task:
    """One message. `root` is the id of the job's first message, `parent` that of the step that sends this one."""

    name: str
    id: str
    queue: str
    kwargs: Mapping[str, Any]
    root: str
    parent: str | None = None
    priority: int = 0
    #: The chord that the task is a part of, and its place in the chord.
    chord: Chord | None = None
    group_index: int | None = None


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord: the id of its group, and the callback that Celery sends once all parts have ended (a JSON signature)."""

    group: str
    callback: str

    @classmethod
    def create(cls, group: str, callback: Task, *, reply_to: str) -> Chord:
        signature: dict[str, Any] = {
            "task": callback.name,
            "args": [],
            "kwargs": dict(callback.kwargs),
            "options": {
                "task_id": callback.id,
                "queue": callback.queue,
                "root_id": callback.root,
                "reply_to": reply_to,
                "group_id": group,
            },
            "subtask_type": None,
            # The callback reads the ledger, so Celery need not pass it the parts' results.
            "immutable": True,
        }
        return cls(group, json.dumps(signature))


class MessageWriter:
    """Writes messages, and the Redis commands that publish them, for one process."""

    def __init__(self, app: Celery, *, db: int = 0) -> None:
        """`db` is the number of the Redis database: it is part of the name of the channel for events."""
        conf = app.conf
        self._app: Any = app  # its stubs know no clock
        self._origin = anon_nodename()
        self._prefix = (conf.broker_transport_options or {}).get("global_keyprefix", "")
        self._sends_events = bool(conf.task_send_sent_event)
        fanout = (conf.broker_transport_options or {}).get("fanout_prefix", True)
        channel_prefix = (fanout if isinstance(fanout, str) else "/{db}.") if fanout else ""
        self._exchange = conf.event_exchange
        self._channel = f"{self._prefix}{channel_prefix.format(db=db)}{self._exchange}/task.multi"

    @property
    def reply_to(self) -> str:
        return str(self._app.thread_oid)

    def publish_commands(self, tasks: Iterable[Task]) -> list[Words]:
        """The commands that add these messages to their lists, in order, and publish the events ``task-sent``."""
        tasks = list(tasks)
        reply_to, tag_prefix = self.reply_to, token_hex(16)
        lists: dict[str, list[str]] = {}
        for place, task in enumerate(tasks):
            key = self._prefix + list_of(task.queue, task.priority)
            lists.setdefault(key, []).append(
                _message(task, origin=self._origin, reply_to=reply_to, tag=f"{tag_prefix}.{place}")
            )
        pushes: list[Words] = [
            ("LPUSH", key, *messages[start : start + MOST_PUSHED])
            for key, messages in lists.items()
            for start in range(0, len(messages), MOST_PUSHED)
        ]
        if not self._sends_events:
            return pushes
        return pushes + [
            ("PUBLISH", self._channel, self._events_message(tasks[start : start + MOST_EVENTS]))
            for start in range(0, len(tasks), MOST_EVENTS)
        ]

    def open_chord_commands(self, chord: Chord, size: int) -> list[Words]:
        """The commands that report to Celery's Redis backend how many parts a chord has."""
        backend: Any = self._app.backend
        # As `set_chord_size` of the backend: remove the claim of an earlier chord of this id, then write the size.
        claim, key = (backend.get_key_for_group(chord.group, suffix) for suffix in (".c", ".s"))
        expires = backend.chord_expires
        return [("DEL", claim), ("SET", key, size, *(("EX", expires) if expires else ()))]

    def _events_message(self, tasks: Sequence[Task]) -> str:
        """The events ``task-sent`` of several tasks in one message, in the form of Celery's buffering dispatcher."""
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
    chord = task.chord.callback if task.chord is not None else "null"
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
