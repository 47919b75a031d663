"""Replies of a server that is not ready count as no answer: everything waits for it, and HTTP answers 503."""

from __future__ import annotations

import asyncio

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from tasks.ledger.store import NotReady, translating


class Blocking:
    def __init__(self, reply):
        self.error = BaseParser.parse_error(reply)

    def read_response(self):
        raise self.error


class Awaiting(Blocking):
    async def read_response(self):
        raise self.error


def read(kind, reply):
    answer = translating(kind)(reply).read_response()
    if kind is Awaiting:
        asyncio.run(answer)


@pytest.mark.parametrize("kind", [Blocking, Awaiting])
@pytest.mark.parametrize(
    "reply",
    [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: ab, on @user_script:12.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "UNBLOCKED force unblock from blocking operation, instance state changed",
    ],
)
def test_reply_of_a_server_that_is_not_ready_is_a_lost_connection(kind, reply):
    with pytest.raises(NotReady) as caught:
        read(kind, reply)
    assert reply.partition(" ")[2] in str(caught.value)


@pytest.mark.parametrize("kind", [Blocking, Awaiting])
@pytest.mark.parametrize("reply", ["NOSCRIPT No matching script.", "ERR unknown command", "WRONGTYPE x", "BUSYKEY x"])
def test_other_errors_stay_what_they_are(kind, reply):
    with pytest.raises(ResponseError):
        read(kind, reply)
