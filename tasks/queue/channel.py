"""The consumer's side of kombu's Redis transport, in groups: many messages reserved in one step, many acknowledged.

Keys and what they hold stay kombu's, so workers of both transports share their queues. What differs: a message is
written down as reserved before it leaves its list, an entry that can't be read is put aside instead of ending the
worker, and a message goes back to the list that it was taken from.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from contextlib import contextmanager, suppress
from importlib import import_module
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kombu.transport import virtual
from kombu.utils.json import loads
from kombu.utils.scheduling import priority_cycle, round_robin_cycle, sorted_cycle

from tasks.queue.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasks.queue.poller import Poller

__all__ = ["QUARANTINE", "Channel", "QoS"]

log = logging.getLogger(__name__)

#: Its published types leave out what is needed here.
stock: Any = import_module("kombu.transport.redis")

#: Messages reserved in one step: the server spends well under a millisecond on them.
MOST_RESERVED = 64
#: Acknowledgements sent in one step.
MOST_ACKNOWLEDGED = 256
#: So many of them are sent at once; fewer wait for company, `PACE` seconds at most.
ENOUGH_ACKNOWLEDGED = 64
#: Seconds between two steps while the worker is busy: what ends in between goes in one.
PACE = 0.002
#: Seconds spent on handing out messages before the loop gets its turn: a pool that runs tasks in place takes long.
SLICE = 0.02
#: Seconds without a turn of the loop after which who acknowledges sends it himself: at shutdown nobody else does.
STALE = 3.0

#: Entries that can't be read go to ``<queue>.quarantine``, the latest so many.
QUARANTINE = ".quarantine"
MOST_QUARANTINED = 1000

#: The orders in which `reserve.lua` knows how to take turns.
_TURNS: dict[type, bool] = {round_robin_cycle: True, priority_cycle: False, sorted_cycle: False}


class Reserved(NamedTuple):
    queue: str
    tag: str
    raw: bytes


class QoS(stock.QoS):  # type: ignore[misc]
    """What is reserved and not acknowledged yet."""

    channel: Channel

    def append(self, message: Any, delivery_tag: str) -> None:
        # `reserve.lua` has written it down already.
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)
        self.channel.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        # First what has ended: its visibility timeout may have passed meanwhile.
        self.channel.send_acknowledgements()
        super().restore_visible(*args, **kwargs)

    @property
    def in_hand(self) -> int:
        return len(self._delivered) - len(self._dirty)

    @property
    def is_watched(self) -> bool:
        """Whether somebody put conditions of their own on consuming, as Celery does to disable prefetching."""
        return "can_consume" in self.__dict__


class Channel(stock.Channel):  # type: ignore[misc]
    """Reserves on `Connections` of its own, which are made at the first need and closed on any error."""

    QoS = QoS

    #: By server: acknowledgements to be sent. They outlive a connection, and with it the channel, that broke.
    _unsent: ClassVar[dict[tuple[Any, ...], deque[str]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._wires: Connections | None = None
        self._kept: Any = None
        self._stem = token_hex(8) + "."
        self._number = 0
        #: Reserved, but not handed out yet.
        self._inbox: deque[Reserved] = deque()
        self._receivers: dict[str, Callable[[Reserved], None]] = {}
        #: False once all lists were found empty and nothing was heard since.
        self._look = True
        self._stepped_at = 0.0
        super().__init__(*args, **kwargs)
        client = self.connection.client
        server = (client.hostname, client.port, client.virtual_host, self._key(self.unacked_key))
        self._pending = self._unsent.setdefault(server, deque())

    # -- consuming -------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001
        super().basic_consume(queue, no_ack, callback, *args, **kwargs)
        if queue not in self.active_fanout_queues:
            self._receivers[queue] = lambda reserved: self._receive_reserved(reserved, callback, no_ack=no_ack)
            self._look = True

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        cancelled = super()._basic_cancel(consumer_tag)
        if queue not in self._active_queues:
            self._receivers.pop(queue, None)
        return cancelled

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002 - kombu's
        for reserved in self._step([queue], 1):
            message = self._read(reserved)
            if message is not None:
                if no_ack:
                    self.acknowledge(reserved.tag)
                else:
                    self.qos.append(message, reserved.tag)
                return message
        return None

    def turn(self) -> bool:
        """Do what there is to do now; returns whether a message was handed out."""
        busy = self._hand_out()
        while not self._inbox:
            look = self._look and bool(self._receivers) and self.qos.can_consume()
            if not (look or self._pending):
                break
            if not self._is_time(look=look):
                self._poller.come_again(PACE)
                break
            queues = self._turns() if look else []
            self._inbox.extend(self._step(queues, self._room() if look else 0))
            if not self._hand_out():
                break
            busy = True
        if self._inbox:
            self._poller.come_again(0)
        return busy

    def _hand_out(self) -> bool:
        """Give reserved messages to their consumers, for a while."""
        end = monotonic() + SLICE
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

    def _receive_reserved(self, reserved: Reserved, callback: Callable[[Any], None], *, no_ack: bool) -> None:
        message = self._read(reserved)
        if message is None:
            return
        if no_ack:
            self.acknowledge(reserved.tag)
        else:
            self.qos.append(message, reserved.tag)
        callback(message)

    def _read(self, reserved: Reserved) -> Any:
        """The message, or None for one that can't be read: it is in the quarantine then."""
        try:
            text = reserved.raw.decode()
            # kombu's own reader brings back dates and the like, at five times the cost.
            payload = loads(text) if "__type__" in text else json.loads(text)
            properties = payload["properties"]
            # The tag under which it is reserved: its own may be taken, or missing.
            properties["delivery_tag"] = reserved.tag
            properties.setdefault("delivery_info", {"exchange": "", "routing_key": reserved.queue})
            return self.Message(payload, channel=self)
        except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError):
            self._quarantine(reserved)
            return None

    def _quarantine(self, reserved: Reserved) -> None:
        key = self._key(reserved.queue + QUARANTINE)
        with self._plain().pipeline() as pipe:
            pipe.lpush(key, reserved.raw)
            pipe.ltrim(key, 0, MOST_QUARANTINED - 1)
            pipe.zrem(self._key(self.unacked_index_key), reserved.tag)
            pipe.hdel(self._key(self.unacked_key), reserved.tag)
            pipe.execute()
        self._warn(reserved.queue, 1)

    def _warn(self, queues: str, count: int) -> None:
        log.warning("%d entries of %s can't be read: see %s", count, queues, f"<queue>{QUARANTINE}")

    # -- one step --------------------------------------------------------------------------------

    def _is_time(self, *, look: bool) -> bool:
        """Whether to go to the server now, or to wait for company."""
        if monotonic() - self._stepped_at >= PACE or len(self._pending) >= ENOUGH_ACKNOWLEDGED:
            return True
        # Who has nothing in hand waits for nobody.
        return look and self.qos.in_hand == 0

    def _room(self) -> int:
        """How many messages may be reserved now."""
        if self.qos.is_watched or type(self._queue_cycle) not in _TURNS:
            return 1  # each is asked for: only who set the condition, or the order, knows
        prefetch = self.qos.prefetch_count
        return min(prefetch - self.qos.in_hand, MOST_RESERVED) if prefetch else MOST_RESERVED

    def _turns(self) -> list[str]:
        return list(self._queue_cycle.consume(len(self.active_queues)))

    def _step(self, queues: list[str], room: int) -> list[Reserved]:
        """Acknowledge what has ended and reserve from these queues."""
        tags = self._take_pending()
        keys = [self._key(self.unacked_key), self._key(self.unacked_index_key)]
        keys += [self._key(queue + QUARANTINE) for queue in queues]
        keys += [self._key(self._q_for_pri(queue, priority)) for priority in self.priority_steps for queue in queues]
        takes_turns = int(_TURNS.get(type(self._queue_cycle), False))
        args = [room, self._stem, self._number, takes_turns, len(queues), MOST_QUARANTINED, *queues, *tags]
        try:
            if self._wires is None:
                self._wires = Connections(self._get_pool())
                self._poller.listen(self, self._wires)
            bad, more, *flat = self._wires.reserve(keys, args)
        except BaseException:
            # A tag is removed twice without harm: whether the server got them doesn't matter.
            self._pending.extendleft(reversed(tags))
            self._drop_wires()
            raise
        self._stepped_at = monotonic()
        if queues:
            self._look = bool(more)
        if bad:
            self._warn(", ".join(queues), bad)
        taken = [
            Reserved(queues[int(queue) - 1], tag.decode(), raw)
            for queue, tag, raw in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]
        self._number += len(taken)
        for reserved in taken:
            self._queue_cycle.rotate(reserved.queue)
        return taken

    def look_again(self) -> None:
        """From time to time, whether anything was heard or not: a server can forget whom to tell."""
        self._look = True
        if self._wires is None:
            return
        try:
            if self._wires.expect_new_credentials():
                self._drop_wires()
            else:
                self._wires.check()
        except self.connection_errors:
            self._drop_wires()
            raise

    def hear(self) -> None:
        """Something changed in a list that was empty."""
        self._look = True
        if self._wires is not None:
            try:
                self._wires.hear()
            except BaseException:
                self._drop_wires()
                raise

    def _drop_wires(self) -> None:
        wires, self._wires = self._wires, None
        self._look = True
        if wires is not None:
            self._poller.forget(wires)
            wires.close()

    # -- acknowledging ---------------------------------------------------------------------------

    def acknowledge(self, tag: str) -> None:
        """Any thread may call this. It is sent with the next step, or at once where none comes."""
        self._pending.append(tag)
        poller = self._poller if self.connection is not None else None
        if poller is None or monotonic() - poller.turned_at > STALE:
            self.send_acknowledgements()
        else:
            poller.ring()

    def send_acknowledgements(self) -> None:
        """Send what waits, in a round trip of its own."""
        while tags := self._take_pending():
            try:
                with self._plain().pipeline(transaction=False) as pipe:
                    pipe.zrem(self._key(self.unacked_index_key), *tags)
                    pipe.hdel(self._key(self.unacked_key), *tags)
                    pipe.execute()
            except BaseException:
                self._pending.extendleft(reversed(tags))
                raise

    def _take_pending(self) -> list[str]:
        tags: list[str] = []
        with suppress(IndexError):
            while len(tags) < MOST_ACKNOWLEDGED:
                tags.append(self._pending.popleft())
        return tags

    # -- connections -----------------------------------------------------------------------------

    @property
    def _poller(self) -> Poller:
        poller: Poller = self.connection.cycle
        return poller

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _plain(self) -> Any:
        """A client that puts no prefix before keys, over the channel's pool."""
        return stock.redis.Redis(connection_pool=self.pool)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client, where kombu makes one for each use: it keeps no state but its pool."""
        if client:
            yield client
            return
        if self._kept is None or self._kept.connection_pool is not self._pool:
            self._kept = self._create_client()
        yield self._kept

    def close(self) -> None:
        if not self.closed:
            self._give_back(self._inbox)
            try:
                self.send_acknowledgements()
            except self.connection_errors as error:
                # They stay in line for the connection that comes after this one.
                log.warning("acknowledgements are late: the broker does not answer (%s)", type(error).__name__)
            self._drop_wires()
        super().close()

    def _give_back(self, inbox: Iterable[Reserved]) -> None:
        try:
            for reserved in reversed(list(inbox)):
                self.qos.restore_by_tag(reserved.tag)
        except self.connection_errors as error:
            log.warning("reserved messages are left to the visibility timeout (%s)", type(error).__name__)
        self._inbox.clear()

    def _after_fork(self) -> None:
        # The parent's: a child must neither talk on them nor end what the parent has in line.
        self._wires = None
        super()._after_fork()
