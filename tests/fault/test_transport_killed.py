"""A consumer that is killed at any moment loses no message: each was handled, is reserved, or still waits."""

from __future__ import annotations

import json
import subprocess
import sys

import redis

from ops.embedded.valkey import ValkeyServer
from tests import redis_keys
from tests.harness import REPOSITORY, wait_for

MESSAGES = 3000
KILLS = 4

CONSUMER = """
import sys
import redis
from kombu import Connection, Queue
from tasks.queue import app
from tasks.queue.address import broker_url

store = redis.Redis.from_url(sys.argv[1])

def handle(body, message):
    store.sadd("handled", body)
    message.ack()

with Connection(broker_url(sys.argv[1]), transport_options={"visibility_timeout": 3600}) as connection:
    channel = connection.channel()
    channel.basic_qos(0, 50, False)
    with connection.Consumer([Queue("work")], callbacks=[handle], channel=channel):
        while True:
            connection.drain_events()
"""


def test_killed_consumer_loses_no_message(tmp_path):
    with ValkeyServer(tmp_path / "state") as server, redis.Redis.from_url(server.url, decode_responses=True) as store:
        store.lpush("work", *(_message(number) for number in range(MESSAGES)))
        for kill in range(1, KILLS + 1):
            goal = kill * MESSAGES // (KILLS + 2)
            process = subprocess.Popen([sys.executable, "-c", CONSUMER, server.url], cwd=REPOSITORY)
            try:
                wait_for(lambda goal=goal: store.scard("handled") > goal, "some messages")
            finally:
                process.kill()
                process.wait()
            reserved = [json.loads(entry)[0] for entry in store.hvals(redis_keys.RESERVED)]
            known = {int(number) for number in store.smembers("handled")}
            known |= {_number(message) for message in reserved}
            known |= {_number(json.loads(raw)) for raw in store.lrange("work", 0, -1)}
            assert known == set(range(MESSAGES))
            assert store.zcard(redis_keys.RESERVED_INDEX) == len(reserved)


def _message(number: int) -> str:
    properties = {"delivery_tag": f"tag{number}", "delivery_info": {"exchange": "", "routing_key": "work"}}
    return json.dumps(
        {
            "body": str(number),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {},
            "properties": properties,
        }
    )


def _number(message: dict[str, str]) -> int:
    return int(message["body"])
