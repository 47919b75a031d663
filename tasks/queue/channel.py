"""The consumer's side of kombu's Redis transport, in groups: many messages reserved in one step, many acknowledged.

Keys and their values stay kombu's, so workers of both transports share their queues. There are three differences. A
message is written down as reserved before it leaves its list. An entry that can't be read goes to a quarantine instead
of ending the worker. And a message goes back to the list that it was taken from.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import monotonic
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import loads
from kombu.utils.scheduling import priority_cycle, round_robin_cycle, sorted_cycle

from tasks.ledger.store import translating
from tasks.queue.connections import MOST_QUARANTINED, Acknowledgements, Connections, ReservedMessage

log = logging.getLogger(__name__)

#: Its published types leave out what is needed here.
stock: Any = import_module("kombu.transport.redis")

#: Messages reserved in one step: the server spends well under a millisecond on them.
MOST_RESERVED = 64
#: So many acknowledgements are sent at once; fewer wait for more, `STEP_INTERVAL` seconds at most.
ENOUGH_ACKNOWLEDGED = 64
#: Seconds between two steps while the worker is busy: one step serves all messages that end in between.
STEP_INTERVAL = 0.002
#: Seconds spent on handing out messages before the loop goes on: a pool that runs tasks in place takes long.
HAND_OUT_FOR = 0.02
#: Seconds without polling after which an acknowledgement is sent by the thread that makes it: at shutdown no other
#: thread does.
POLLER_STALE_AFTER = 3.0

#: Entries that can't be read go to ``<queue>.quarantine``.
QUARANTINE = ".quarantine"

#: The orders of queues that `reserve.lua` knows, and whether queues take turns in them.
_ROUND_ROBIN: dict[type, bool] = {round_robin_cycle: True, priority_cycle: False, sorted_cycle: False}


class QoS(stock.QoS):  # type: ignore[misc]
    """The messages that are reserved and not acknowledged yet."""

    channel: Channel

    def append(self, message: Any, delivery_tag: str) -> None:
        # `reserve.lua` has written it down already.
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)
        self.channel.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        # Acknowledge what has ended first: its visibility timeout may have passed meanwhile.
        self.channel.send_acknowledgements()
        super().restore_visible(*args, **kwargs)

    @property
    def in_progress(self) -> int:
        return len(self._delivered) - len(self._dirty)


class Channel(stock.Channel):  # type: ignore[misc]
    """Reserves on `Connections` of its own, which are made at the first need and closed on any error."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._connections: Connections | None = None
        self._shared_client: Any = None
        #: Reserved, but not handed out yet.
        self._inbox: deque[ReservedMessage] = deque()
        self._receivers: dict[str, Callable[[ReservedMessage], None]] = {}
        #: False once all lists were found empty and no change was announced since.
        self._may_have_messages = True
        self._stepped_at = 0.0
        super().__init__(*args, **kwargs)
        client = self.connection.client
        self._pending = Acknowledgements(
            (client.hostname, client.port, client.virtual_host, self._key(self.unacked_key))
        )

    # -- consuming -------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001
        super().basic_consume(queue, no_ack, callback, *args, **kwargs)
        if queue not in self.active_fanout_queues:
            self._receivers[queue] = lambda reserved: self._receive_reserved(reserved, callback, no_ack=no_ack)
            self._may_have_messages = True

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        cancelled = super()._basic_cancel(consumer_tag)
        if queue not in self._active_queues:
            self._receivers.pop(queue, None)
        return cancelled

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        for reserved in self._run_step([queue], 1):
            message = self._take(reserved, no_ack=no_ack)
            if message is not None:
                return message
        return None

    def serve(self) -> bool:
        """Hand out messages, reserve more, send acknowledgements; returns whether a message was handed out."""
        busy = self._hand_out()
        while not self._inbox:
            wanted = self._may_have_messages and bool(self._receivers) and self.qos.can_consume()
            if not (wanted or self._pending):
                break
            if not self._is_step_due(wanted=wanted):
                self._poller.serve_again(STEP_INTERVAL)
                break
            queues = list(self._queue_cycle.consume(len(self.active_queues))) if wanted else []
            self._inbox.extend(self._run_step(queues, self._free_slots() if wanted else 0))
            if not self._hand_out():
                break
            busy = True
        if self._inbox:
            self._poller.serve_again(0)
        return busy

    def _hand_out(self) -> bool:
        """Give reserved messages to their consumers, for `HAND_OUT_FOR` seconds; returns whether there was one."""
        end = monotonic() + HAND_OUT_FOR
        busy = False
        while self._inbox:
            reserved = self._inbox.popleft()
            receiver = self._receivers.get(reserved.queue)
            if receiver is None:
                self.qos.restore_by_tag(reserved.tag)  # its consumer was cancelled meanwhile
                continue
            busy = True
            receiver(reserved)
            if monotonic() > end:
                break
        return busy

    def _receive_reserved(self, reserved: ReservedMessage, callback: Callable[[Any], None], *, no_ack: bool) -> None:
        message = self._take(reserved, no_ack=no_ack)
        if message is not None:
            callback(message)

    def _take(self, reserved: ReservedMessage, *, no_ack: bool) -> Any:
        """Read a message and note it as delivered; None for one that can't be read: it is moved to the quarantine."""
        try:
            text = reserved.raw.decode()
            # kombu's own reader restores dates and the like, at five times the cost.
            payload = loads(text) if "__type__" in text else json.loads(text)
            properties = payload["properties"]
            # The tag under which it is reserved: its own may be in use already, or missing.
            properties["delivery_tag"] = reserved.tag
            properties.setdefault("delivery_info", {"exchange": "", "routing_key": reserved.queue})
            message = self.Message(payload, channel=self)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            self._quarantine(reserved)
            return None
        if no_ack:
            self.acknowledge(reserved.tag)
        else:
            self.qos.append(message, reserved.tag)
        return message

    def _quarantine(self, reserved: ReservedMessage) -> None:
        key = self._key(reserved.queue + QUARANTINE)
        with self._unprefixed_client().pipeline() as pipe:
            pipe.lpush(key, reserved.raw)
            pipe.ltrim(key, 0, MOST_QUARANTINED - 1)
            pipe.zrem(self._key(self.unacked_index_key), reserved.tag)
            pipe.hdel(self._key(self.unacked_key), reserved.tag)
            pipe.execute()
        _warn_of_quarantined(reserved.queue, 1)

    # -- one step --------------------------------------------------------------------------------

    def _is_step_due(self, *, wanted: bool) -> bool:
        """Whether to go to the server now; else a later step serves more messages. `wanted`: there is room for one."""
        if monotonic() - self._stepped_at >= STEP_INTERVAL or len(self._pending) >= ENOUGH_ACKNOWLEDGED:
            return True
        # Without messages in progress, do not delay for batching.
        return wanted and self.qos.in_progress == 0

    def _free_slots(self) -> int:
        """How many messages may be reserved now."""
        # Celery replaces `can_consume` to disable prefetching.
        if "can_consume" in self.qos.__dict__ or type(self._queue_cycle) not in _ROUND_ROBIN:
            return 1  # the condition, or the order of queues, may change with each message
        prefetch = self.qos.prefetch_count
        return min(prefetch - self.qos.in_progress, MOST_RESERVED) if prefetch else MOST_RESERVED

    def _run_step(self, queues: list[str], most: int) -> list[ReservedMessage]:
        """Acknowledge the messages that have ended and reserve from these queues."""
        tags = self._pending.take()
        round_robin = _ROUND_ROBIN.get(type(self._queue_cycle), False)
        try:
            if self._connections is None:
                self._connections = Connections(self._get_pool())
                self._poller.listen(self, self._connections)
            messages, quarantined, more = self._connections.reserve(
                self._keys_of_step(queues), queues, most=most, round_robin=round_robin, acknowledged=tags
            )
        except BaseException:
            self._pending.put_back(tags)
            self._drop_connections()
            raise
        self._stepped_at = monotonic()
        if queues:
            self._may_have_messages = more
        if quarantined:
            _warn_of_quarantined(", ".join(queues), quarantined)
        for reserved in messages:
            self._queue_cycle.rotate(reserved.queue)
        return messages

    def _keys_of_step(self, queues: list[str]) -> list[str]:
        """The keys of `reserve.lua`, in its order."""
        names = [self.unacked_key, self.unacked_index_key, *(queue + QUARANTINE for queue in queues)]
        names += [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        return [self._key(name) for name in names]

    def recheck(self) -> None:
        """Look at the lists again without an announcement: a server can lose track of its listeners."""
        self._may_have_messages = True
        if self._connections is None:
            return
        try:
            if self._connections.has_new_credentials:
                self._drop_connections()
            else:
                self._connections.check()
        except self.connection_errors:
            self._drop_connections()
            raise

    def read_announcements(self) -> None:
        """Note that a list that was empty has changed."""
        self._may_have_messages = True
        if self._connections is not None:
            try:
                self._connections.read_announcements()
            except BaseException:
                self._drop_connections()
                raise

    def _drop_connections(self) -> None:
        connections, self._connections = self._connections, None
        self._may_have_messages = True
        if connections is not None:
            self._poller.forget(connections)
            connections.close()

    # -- acknowledging ---------------------------------------------------------------------------

    def acknowledge(self, tag: str) -> None:
        """Send an acknowledgement with the next step, or at once where none follows. Any thread may call this."""
        self._pending.add(tag)
        poller = self._poller if self.connection is not None else None
        if poller is None or monotonic() - poller.polled_at > POLLER_STALE_AFTER:
            self.send_acknowledgements()
        else:
            poller.wake()

    def send_acknowledgements(self) -> None:
        """Send all pending acknowledgements in round trips of their own."""
        while tags := self._pending.take():
            try:
                with self._unprefixed_client().pipeline(transaction=False) as pipe:
                    pipe.zrem(self._key(self.unacked_index_key), *tags)
                    pipe.hdel(self._key(self.unacked_key), *tags)
                    pipe.execute()
            except BaseException:
                self._pending.put_back(tags)
                raise

    # -- connections -----------------------------------------------------------------------------

    @property
    def _poller(self) -> Any:
        """The connection's `tasks.queue.transport.Poller`, which imports this module."""
        return self.connection.cycle

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        parameters = super()._connparams(*args, **kwargs)
        # A server that is not ready counts as one that does not answer: Celery connects again, where it would end.
        return {**parameters, "connection_class": translating(parameters["connection_class"])}

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _unprefixed_client(self) -> Any:
        """A client that adds no prefix to keys, over the channel's pool."""
        return stock.redis.Redis(connection_pool=self.pool)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client for all uses, where kombu makes one for each: its only state is its pool."""
        if client:
            yield client
            return
        if self._shared_client is None or self._shared_client.connection_pool is not self._pool:
            self._shared_client = self._create_client()
        yield self._shared_client

    def close(self) -> None:
        if not self.closed:
            self._restore_inbox()
            try:
                self.send_acknowledgements()
            except self.connection_errors as error:
                # The channel of the next connection sends them.
                log.warning("acknowledgements are late: the broker does not answer (%s)", type(error).__name__)
            self._drop_connections()
        super().close()

    def _restore_inbox(self) -> None:
        """Return the messages that were reserved and not handed out to their lists, in order."""
        try:
            for reserved in reversed(self._inbox):
                self.qos.restore_by_tag(reserved.tag)
        except self.connection_errors as error:
            log.warning("reserved messages are left to the visibility timeout (%s)", type(error).__name__)
        self._inbox.clear()

    def _after_fork(self) -> None:
        # They belong to the parent: the child must neither use nor close them.
        self._connections = None
        super()._after_fork()


def _warn_of_quarantined(queues: str, count: int) -> None:
    log.warning("%d entries of %s can't be read: see %s", count, queues, f"<queue>{QUARANTINE}")
