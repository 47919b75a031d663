"""Our messages equal Celery's own, and its receivers read our events."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from celery import chord, group

from tasks.contract.job import CallId
from tasks.ledger import WAVE, Admitted
from tasks.queue.app import make_app
from tests.harness import DEADLINE, close_app, part_call, publish

JOB = "0" * 26
ROOT = f"{JOB}.route"


@pytest.fixture
def app(server):
    made = make_app("celery-itself", server.url)
    yield made
    close_app(made)


def taken(store):
    """Take all messages by list, decoded, without the fields that differ between any two."""
    found = {}
    for key in sorted(store.keys("*")):
        if store.type(key) == "list":
            found[key] = [_comparable(json.loads(raw)) for raw in store.lrange(key, 0, -1)]
    store.flushall()
    return found


def _comparable(message):
    message["body"] = json.loads(base64.b64decode(message["body"]))
    message["headers"].pop("origin")
    for name in ("delivery_tag", "reply_to"):
        assert message["properties"].pop(name)
    callback = message["body"][2]["chord"]
    if callback is not None:
        callback["options"].pop("reply_to", None)
    return message


def send(app, name, task_id, queue, kwargs, **options):
    app.send_task(name, kwargs=kwargs, task_id=task_id, queue=queue, ignore_result=True, root_id=ROOT, **options)


def test_route_message_equals_celery_s_at_each_priority(store, app, server):
    for priority, number in (("high", 0), ("normal", 3), ("low", 6)):
        publish(server.url, lambda to, priority=priority: to.send_routes([(JOB, priority)]))
        ours = taken(store)
        send(app, "tasks.route", ROOT, "route", {"job_id": JOB}, priority=number)
        assert ours == taken(store)


def test_fanout_join_and_single_call_messages_equal_celery_s(store, app, server):
    publish(server.url, lambda to: to.send_fanout(JOB))
    publish(server.url, lambda to: to.send_join(JOB, wave=1))
    publish(server.url, lambda to: to.send_calls([Admitted(CallId(JOB, 0), "fast")]))
    ours = taken(store)
    send(app, "tasks.fanout", f"{JOB}.fanout.0", "route", {"job_id": JOB, "wave": 0}, parent_id=ROOT)
    send(app, "tasks.join", f"{JOB}.join.1", "join", {"job_id": JOB, "wave": 1})
    send(app, "tasks.call", f"{JOB}.0", "model.fast", {"job_id": JOB, "index": 0}, parent_id=ROOT)
    assert ours == taken(store)


def _chord(app, wave, models):
    header = [
        app.signature(
            "tasks.call",
            kwargs={"job_id": JOB, "index": index, "wave": wave},
            options={
                "task_id": f"{JOB}.{index}.{wave}", "queue": f"model.{model}", "ignore_result": True,
                "root_id": ROOT, "parent_id": f"{JOB}.fanout.{wave}",
            },
            immutable=True,
        )
        for index, model in enumerate(models, start=wave * WAVE)
    ]  # fmt: skip
    body = app.signature(
        "tasks.join",
        kwargs={"job_id": JOB, "wave": wave},
        options={"task_id": f"{JOB}.join.{wave}", "queue": "join", "root_id": ROOT},
        immutable=True,
    )
    chord(group(header, app=app), body, app=app).apply_async()


def test_chord_messages_and_size_equal_celery_s_except_the_id(store, app, server):
    models = ["fast", "slow", "fast"]
    publish(server.url, lambda to: to.send_chord(JOB, 1, list(enumerate(models, start=WAVE))))
    (ours_key,) = store.keys("celery-taskset-meta-*")
    ours_size, ours_ttl = store.get(ours_key), store.ttl(ours_key)
    ours = taken(store)
    _chord(app, 1, models)
    (key,) = store.keys("celery-taskset-meta-*")
    assert (ours_size, ours_key) == (store.get(key), f"celery-taskset-meta-{JOB}.wave.1.s")
    assert abs(ours_ttl - store.ttl(key)) <= 5
    their_id = key.removeprefix("celery-taskset-meta-").removesuffix(".s")
    # Celery counts the places of a group from 0; ours are those in the job.
    theirs = taken(store)
    for message in (message for messages in theirs.values() for message in messages):
        message["headers"]["group_index"] += WAVE
    assert json.dumps(ours) == json.dumps(theirs).replace(their_id, f"{JOB}.wave.1")


def test_repeated_call_of_a_chord_equals_the_first(store, server):
    publish(server.url, lambda to: to.send_chord(JOB, 1, [(WAVE, "fast")]))
    first = taken(store)
    publish(server.url, lambda to: to.send_calls([Admitted(part_call(JOB, WAVE), "fast")]))
    assert taken(store) == first


def test_chord_of_a_thousand_parts_keeps_their_order(store, server):
    publish(server.url, lambda to: to.send_chord(JOB, 0, list(enumerate(["fast", "slow"] * 500))))
    lists = taken(store)
    for model, first in (("fast", 0), ("slow", 1)):
        indices = [message["body"][1]["index"] for message in lists[f"model.{model}"]]
        assert indices[::-1] == list(range(first, 1000, 2))


def test_task_sent_events_reach_celery_s_receiver_for_every_message(store, app, server):
    seen = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": seen.append})
        with receiver.consumer_context(wakeup=False) as (listening, _, _):
            # The subscription is answered before anything is published.
            with contextlib.suppress(TimeoutError):
                listening.drain_events(timeout=1)
            publish(server.url, lambda to: to.send_routes([(JOB, "normal"), ("1" * 26, "low")]))
            while len(seen) < 2:
                listening.drain_events(timeout=DEADLINE)
    assert [(event["uuid"], event["name"], event["queue"]) for event in seen] == [
        (ROOT, "tasks.route", "route"), ("1" * 26 + ".route", "tasks.route", "route")
    ]  # fmt: skip
