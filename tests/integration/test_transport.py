"""The common behaviour of kombu's Redis transport and ours, and what ours adds."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from queue import Empty

import pytest
import redis
from kombu import Connection, Exchange, Queue

from tasks.queue import app as _registered  # noqa: F401 - importing registers the transport
from tasks.queue.address import broker_url
from tests import redis_keys
from tests.harness import DEADLINE, wait_for

BOTH = ("kombu", "pointsman")


class Broker:
    """A real server, and connections to it by either transport."""

    def __init__(self, server, monkeypatch):
        self.url = server.url
        self.redis = redis.Redis.from_url(server.url, decode_responses=True)
        self.redis.flushall()
        self._monkeypatch = monkeypatch
        self._open = []

    def connect(self, transport, **options):
        self._monkeypatch.setenv("POINTSMAN_TRANSPORT", transport)
        connection = Connection(broker_url(self.url), transport_options={"visibility_timeout": 3600, **options})
        self._open.append(connection)
        return connection

    def publish(self, queue, bodies, *, prefix="", **options):
        """Messages by kombu's own producer."""
        connection = self.connect("kombu", **({"global_keyprefix": prefix} if prefix else {}))
        producer = connection.Producer()
        for body in bodies:
            producer.publish(body, routing_key=queue.name, exchange="", declare=[queue], serializer="json", **options)

    def close(self):
        for connection in self._open:
            connection.release()
        self.redis.close()


class Consumer:
    def __init__(self, connection, queues, *, prefetch=0, no_ack=False):
        self.connection = connection
        self.channel = connection.channel()
        self.seen = []
        self.channel.basic_qos(0, prefetch, False)
        self.consumer = connection.Consumer(queues, callbacks=[self._take], channel=self.channel, no_ack=no_ack)
        self.consumer.consume()

    def _take(self, body, message):
        self.seen.append((body, message))

    @property
    def bodies(self):
        return [body for body, _ in self.seen]

    def drain(self, until, what="the messages"):
        """Handle events until the condition holds."""
        end = time.monotonic() + DEADLINE
        while not until():
            assert time.monotonic() < end, f"{what}: only {len(self.seen)} came"
            try:
                self.connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue

    def drain_all(self):
        """Handle events until none has come for a while."""
        while True:
            try:
                self.connection.drain_events(timeout=0.3)
            except TimeoutError:
                return


def queue(name):
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


@pytest.fixture
def broker(server, monkeypatch):
    place = Broker(server, monkeypatch)
    yield place
    place.close()


def reserved(broker, prefix=""):
    index, table = (
        broker.redis.zcard(prefix + redis_keys.RESERVED_INDEX),
        broker.redis.hlen(prefix + redis_keys.RESERVED),
    )
    assert index == table
    return table


def wait_for_reserved(broker, count):
    """Both change one after the other, so they may differ before the wait ends."""
    store, index, table = broker.redis, redis_keys.RESERVED_INDEX, redis_keys.RESERVED
    wait_for(lambda: (store.zcard(index), store.hlen(table)) == (count, count), f"{count} reserved messages")


@pytest.mark.parametrize("transport", BOTH)
def test_messages_of_a_queue_arrive_in_order(broker, transport):
    broker.publish(queue("a"), range(200))
    consumer = Consumer(broker.connect(transport), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 200)
    assert consumer.bodies == list(range(200))


@pytest.mark.parametrize("transport", BOTH)
def test_messages_of_higher_priority_go_first(broker, transport):
    for priority in (9, 6, 3, 0, 4):
        broker.publish(queue("a"), [[priority, number] for number in range(5)], priority=priority)
    consumer = Consumer(broker.connect(transport), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 25)
    assert [body[0] for body in consumer.bodies] == [0] * 5 + [3] * 5 + [4] * 5 + [6] * 5 + [9] * 5


@pytest.mark.parametrize("transport", BOTH)
def test_queues_take_turns_so_that_a_long_one_starves_none(broker, transport):
    broker.publish(queue("a"), ["a"] * 1000)
    broker.publish(queue("b"), ["b"] * 20)
    consumer = Consumer(broker.connect(transport), [queue("a"), queue("b")])
    consumer.drain(lambda: consumer.bodies.count("b") == 20)
    assert [place for place, body in enumerate(consumer.bodies) if body == "b"][-1] <= 40


@pytest.mark.parametrize("transport", BOTH)
@pytest.mark.parametrize("strategy", ["priority", "sorted"])
def test_queues_keep_a_configured_order(broker, transport, strategy):
    broker.publish(queue("b"), ["b"] * 70)
    broker.publish(queue("a"), ["a"] * 70)
    consumer = Consumer(broker.connect(transport, queue_order_strategy=strategy), [queue("b"), queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 140)
    first, second = ("b", "a") if strategy == "priority" else ("a", "b")
    assert consumer.bodies == [first] * 70 + [second] * 70


@pytest.mark.parametrize("transport", BOTH)
def test_prefetch_count_bounds_reserved_messages(broker, transport):
    broker.publish(queue("a"), range(100))
    consumer = Consumer(broker.connect(transport), [queue("a")], prefetch=10)
    consumer.drain_all()
    assert (len(consumer.seen), reserved(broker), broker.redis.llen("a")) == (10, 10, 90)
    for _, message in consumer.seen[:3]:
        message.ack()
    consumer.drain_all()
    assert (len(consumer.seen), reserved(broker), broker.redis.llen("a")) == (13, 10, 87)


@pytest.mark.parametrize("transport", BOTH)
def test_replaced_can_consume_is_called_for_every_message(broker, transport):
    """Celery disables prefetching like this: it replaces `can_consume` of one object."""
    broker.publish(queue("a"), range(100))
    consumer = Consumer(broker.connect(transport), [queue("a")])
    consumer.channel.qos.can_consume = lambda: len(consumer.seen) < 10
    consumer.drain_all()
    assert (len(consumer.seen), reserved(broker)) == (10, 10)


@pytest.mark.parametrize("transport", BOTH)
def test_acknowledged_and_rejected_messages_are_gone(broker, transport):
    broker.publish(queue("a"), range(100))
    consumer = Consumer(broker.connect(transport), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 100)
    for number, (_, message) in enumerate(consumer.seen):
        message.ack() if number % 2 else message.reject()
    consumer.drain_all()
    assert (reserved(broker), broker.redis.llen("a")) == (0, 0)


@pytest.mark.parametrize("transport", BOTH)
def test_requeued_messages_are_delivered_again_and_marked(broker, transport):
    broker.publish(queue("a"), range(3))
    consumer = Consumer(broker.connect(transport), [queue("a")], prefetch=3)
    consumer.drain(lambda: len(consumer.seen) == 3)
    assert not consumer.seen[1][1].headers.get("redelivered")
    consumer.seen[1][1].requeue()
    consumer.drain(lambda: len(consumer.seen) == 4)
    body, message = consumer.seen[3]
    assert (body, message.headers["redelivered"], message.delivery_info["redelivered"]) == (1, True, True)
    assert (reserved(broker), broker.redis.llen("a")) == (3, 0)


@pytest.mark.parametrize("transport", BOTH)
def test_messages_of_a_dead_consumer_return_past_the_visibility_timeout(broker, transport):
    broker.publish(queue("a"), range(5))
    dead = Consumer(broker.connect(transport), [queue("a")])
    dead.drain(lambda: len(dead.seen) == 5)
    dead.connection.transport.cycle.close()  # from now on it does nothing
    for tag in broker.redis.hkeys(redis_keys.RESERVED):
        broker.redis.zadd(redis_keys.RESERVED_INDEX, {tag: time.time() - 100})
    heir = Consumer(
        broker.connect(transport, visibility_timeout=50, unacked_restore_throttle=1), [queue("a")], prefetch=5
    )
    heir.drain(lambda: len(heir.seen) == 5)
    assert sorted(heir.bodies) == list(range(5))
    assert all(message.headers["redelivered"] for _, message in heir.seen)


@pytest.mark.parametrize("transport", BOTH)
def test_closing_a_channel_returns_its_reserved_messages(broker, transport):
    broker.publish(queue("a"), range(50))
    consumer = Consumer(broker.connect(transport), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 50)
    for _, message in consumer.seen[:20]:
        message.ack()
    consumer.connection.release()
    assert (reserved(broker), broker.redis.llen("a")) == (0, 30)


@pytest.mark.parametrize("transport", BOTH)
def test_queue_is_counted_and_purged(broker, transport):
    broker.publish(queue("a"), range(7))
    broker.publish(queue("a"), range(5), priority=6)
    channel = broker.connect(transport).channel()
    assert queue("a")(channel).queue_declare(passive=True).message_count == 12
    assert queue("a")(channel).purge() == 12
    assert broker.redis.keys("a*") == []


@pytest.mark.parametrize("transport", BOTH)
def test_basic_get_returns_a_single_message(broker, transport):
    broker.publish(queue("a"), ["one"])
    channel = broker.connect(transport).channel()
    message = queue("a")(channel).get()
    assert (message.payload, reserved(broker)) == ("one", 1)
    message.ack()
    wait_for_reserved(broker, 0)
    assert queue("a")(channel).get() is None


@pytest.mark.parametrize("transport", BOTH)
def test_consumer_without_acknowledgements_leaves_nothing_reserved(broker, transport):
    broker.publish(queue("a"), range(100))
    consumer = Consumer(broker.connect(transport), [queue("a")], no_ack=True)
    consumer.drain(lambda: len(consumer.seen) == 100)
    consumer.drain_all()
    assert (reserved(broker), broker.redis.llen("a")) == (0, 0)


@pytest.mark.parametrize("transport", BOTH)
def test_broadcasts_reach_every_consumer(broker, transport):
    exchange = Exchange("news", type="fanout")
    readers = [
        Consumer(broker.connect(transport), [Queue(f"reader{number}", exchange, auto_delete=True)], no_ack=True)
        for number in range(2)
    ]
    for reader in readers:
        with suppress(TimeoutError):
            reader.connection.drain_events(timeout=1)  # subscribes; kombu counts the answer as an event
    broker.connect(transport).Producer().publish("hello", exchange=exchange, declare=[exchange])
    for reader in readers:
        reader.drain(lambda reader=reader: reader.bodies == ["hello"])


@pytest.mark.parametrize("transport", BOTH)
def test_keys_have_the_configured_prefix(broker, transport):
    broker.publish(queue("a"), range(10), prefix="p:")
    consumer = Consumer(broker.connect(transport, global_keyprefix="p:"), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 10)
    assert (reserved(broker, "p:"), [key for key in broker.redis.keys("*") if not key.startswith("p:")]) == (10, [])
    for _, message in consumer.seen:
        message.ack()
    consumer.drain_all()
    assert reserved(broker, "p:") == 0


def test_consumers_of_both_transports_share_a_queue(broker):
    broker.publish(queue("a"), range(500))
    consumers = [Consumer(broker.connect(transport), [queue("a")], prefetch=4) for transport in BOTH]
    taken, stop = [], threading.Event()

    def work(consumer):
        while not stop.is_set():
            with suppress(TimeoutError):
                consumer.connection.drain_events(timeout=0.05)
            while consumer.seen:
                body, message = consumer.seen.pop()
                taken.append(body)
                message.ack()

    threads = [threading.Thread(target=work, args=(consumer,)) for consumer in consumers]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(taken) >= 500, "the end of all")
    wait_for_reserved(broker, 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert Counter(taken) == Counter(range(500))


def test_acknowledgements_of_other_threads_are_sent_and_free_slots(broker):
    broker.publish(queue("a"), range(300))
    consumer = Consumer(broker.connect("pointsman"), [queue("a")], prefetch=20)
    consumer.drain(lambda: len(consumer.seen) == 20)
    stop = threading.Event()
    done = []

    def acknowledge():
        while not stop.is_set():
            if len(done) < len(consumer.seen):
                consumer.seen[len(done)][1].ack()
                done.append(1)
            else:
                time.sleep(0.001)

    thread = threading.Thread(target=acknowledge)
    thread.start()
    consumer.drain(lambda: len(consumer.seen) == 300)
    wait_for(lambda: len(done) == 300, "the acknowledgements")
    stop.set()
    thread.join()
    consumer.drain_all()
    assert (consumer.bodies, reserved(broker)) == (list(range(300)), 0)


def test_idle_consumer_sends_nothing_until_a_message_wakes_it(broker):
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    with pytest.raises(TimeoutError):
        consumer.connection.drain_events(timeout=0.5)
    before = broker.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    published = []

    def publish():
        published.append(time.monotonic())
        broker.publish(queue("a"), ["wake up"])

    timer = threading.Timer(1.0, publish)
    timer.start()
    consumer.connection.drain_events(timeout=DEADLINE)
    assert consumer.bodies == ["wake up"]
    # One step for the message, and perhaps one that the clock has caused.
    assert broker.redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2
    timer.join()


BAD = {
    "no JSON": "nonsense",
    "nothing": "",
    "an array": "[]",
    "a number": "17",
    "no properties": '{"body": "e30=", "headers": {}}',
    "properties that are none": '{"body": "e30=", "headers": {}, "properties": 4}',
    "headers that are none": '{"body": "e30=", "headers": null, "properties": {}}',
    "a body that is no text": '{"body": 4, "headers": {}, "properties": {}}',
    "a body that is no base64": '{"body": "e", "headers": {}, "properties": {"body_encoding": "base64"}}',
    "an unknown encoding": '{"body": "e30=", "headers": {}, "properties": {"body_encoding": "none such"}}',
    "properties that are an array": '{"body": "e30=", "headers": {}, "properties": []}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_quarantine_takes_an_unreadable_entry_and_others_go_on(broker, bad, caplog):
    broker.publish(queue("a"), range(5))
    broker.redis.lpush("a", bad)
    broker.publish(queue("a"), range(5, 10))
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 10)
    assert (consumer.bodies, reserved(broker), broker.redis.llen("a")) == (list(range(10)), 10, 0)
    assert broker.redis.lrange(redis_keys.quarantine("a"), 0, -1) == [bad]
    assert "1 entries of a can't be read" in caplog.text
    assert not bad or bad not in caplog.text


def test_quarantine_of_many_entries_delivers_the_message_behind_them(broker):
    broker.redis.lpush("a", *["nonsense"] * 1500)
    broker.publish(queue("a"), ["good"])
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    consumer.drain(lambda: consumer.bodies == ["good"])
    assert broker.redis.llen(redis_keys.quarantine("a")) == 1000


@pytest.mark.parametrize(
    "change", ["no tag", "the same tag", "half a surrogate pair", "empty arrays and large numbers"]
)
def test_unusual_message_is_delivered_and_restored_unchanged(broker, change):
    broker.publish(queue("a"), [1, 2])
    first, second = (json.loads(raw) for raw in broker.redis.lrange("a", 0, -1))
    if change == "no tag":
        del first["properties"]["delivery_tag"]
    elif change == "the same tag":
        first["properties"]["delivery_tag"] = second["properties"]["delivery_tag"]
    elif change == "half a surrogate pair":
        first["headers"]["note"] = "\\ \ud83d \\ud83d"
    else:
        first["headers"]["note"] = {"list": [], "number": 12345678901234567890, "float": 0.1}
    broker.redis.delete("a")
    raws = [json.dumps(first), json.dumps(second)]
    broker.redis.rpush("a", *raws)
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 2)
    assert sorted(consumer.bodies) == [1, 2]
    entries = [json.loads(entry) for entry in broker.redis.hvals(redis_keys.RESERVED)]
    assert sorted(json.dumps(entry[0]) for entry in entries) == sorted(raws)
    assert [entry[1:] for entry in entries] == [["", "a"]] * 2


def test_moved_message_is_restored_to_the_list_that_held_it(broker):
    broker.publish(queue("a"), ["work"])
    broker.redis.lmove("a", "b", "RIGHT", "LEFT")
    consumer = Consumer(broker.connect("pointsman"), [queue("b")])
    consumer.drain(lambda: consumer.bodies == ["work"])
    consumer.connection.release()
    assert (broker.redis.llen("a"), broker.redis.llen("b")) == (0, 1)


def test_cancelled_consumer_leaves_its_messages_in_the_queue(broker):
    consumer = Consumer(broker.connect("pointsman"), [queue("a"), queue("b")])
    with pytest.raises(TimeoutError):
        consumer.connection.drain_events(timeout=0.2)
    consumer.consumer.cancel_by_queue("a")
    broker.publish(queue("a"), ["a"])
    broker.publish(queue("b"), ["b"])
    consumer.drain(lambda: consumer.bodies == ["b"])
    consumer.drain_all()
    assert (consumer.bodies, broker.redis.llen("a")) == (["b"], 1)


def test_queue_whose_key_is_no_list_does_not_stop_the_others(broker):
    consumer = Consumer(broker.connect("pointsman"), [queue("a"), queue("b")])
    broker.redis.set("a", "no list")
    broker.publish(queue("b"), ["b"])
    consumer.drain(lambda: consumer.bodies == ["b"])


def test_message_stays_in_its_list_if_it_can_not_be_reserved(broker):
    broker.publish(queue("a"), range(5))
    broker.redis.set(redis_keys.RESERVED, "no hash")
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        consumer.connection.drain_events(timeout=1)
    assert broker.redis.llen("a") == 5
    broker.redis.delete(redis_keys.RESERVED)
    consumer.drain(lambda: len(consumer.seen) == 5)


def test_cut_connection_raises_and_the_next_sends_its_acknowledgements(broker):
    broker.publish(queue("a"), range(10))
    consumer = Consumer(broker.connect("pointsman"), [queue("a")])
    consumer.drain(lambda: len(consumer.seen) == 10)
    for kind in ("normal", "pubsub"):
        broker.redis.client_kill_filter(_type=kind, skipme=True)
    for _, message in consumer.seen:
        message.ack()
    with pytest.raises((*consumer.connection.connection_errors, Empty)) as raised:
        consumer.connection.drain_events(timeout=1)
    assert not isinstance(raised.value, (socket.timeout, Empty))
    # As Celery does: a new connection, a new channel.
    again = Consumer(broker.connect("pointsman"), [queue("a")])
    broker.publish(queue("a"), ["after"])
    again.drain(lambda: again.bodies == ["after"])
    wait_for_reserved(broker, 1)
    assert _waiting_clients(broker) <= 2


def _waiting_clients(broker):
    return sum(client["flags"].startswith("P") or "t" in client["flags"] for client in broker.redis.client_list())


def test_connections_are_closed_with_the_consumer(broker):
    for _ in range(3):
        consumer = Consumer(broker.connect("pointsman"), [queue("a")])
        with pytest.raises(TimeoutError):
            consumer.connection.drain_events(timeout=0.1)
        assert _waiting_clients(broker) == 2
        consumer.connection.release()
        wait_for(lambda: _waiting_clients(broker) == 0, "the end of the connections")
