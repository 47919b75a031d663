"""Answers by a JSON Schema, over HTTP: unwrapped, repaired once, or refused."""

from __future__ import annotations

import pytest

from tasks.contract.errors import AnswerCut, Overloaded, SchemaMismatch, TimedOut
from tests.providers.asking import SCHEMA, ask, follow
from tests.providers.openai import OpenAI
from tests.providers.serving import serve

ADA = '{"name": "Ada", "age": 36}'


@pytest.fixture(scope="module")
def server():
    app = OpenAI()
    with serve(app) as url:
        yield app, f"{url}/v1"


def test_answer_in_a_code_fence_is_unwrapped(server):
    app, url = server
    before = len(app.requests)
    assert ask(url, "openai", "json-fenced", response_schema=SCHEMA).text == ADA
    assert len(app.requests) - before == 1


@pytest.mark.parametrize(
    ("case", "problem"),
    [("json-repaired", "age: 'thirty' is not of type 'integer'"), ("json-repaired-text", "the answer: is not JSON")],
)
def test_wrong_answer_is_repaired_once_and_both_attempts_are_counted(server, case, problem):
    app, url = server
    before = len(app.requests)
    reply = ask(url, "openai", case, response_schema=SCHEMA)
    assert len(app.requests) - before == 2
    assert reply.text == ADA
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (44, 24)
    shown = app.last.body["messages"]
    assert [turn["role"] for turn in shown] == ["system", "user", "assistant", "user"]
    assert problem in shown[-1]["content"]


def test_repair_that_is_wrong_too_is_a_mismatch_that_quotes_nothing(server):
    app, url = server
    before = len(app.requests)
    with pytest.raises(SchemaMismatch, match="does not satisfy response_schema at required") as caught:
        ask(url, "openai", "json-never", response_schema=SCHEMA)
    assert len(app.requests) - before == 2
    assert "secret" not in str(caught.value)
    assert caught.value.usage is not None
    assert (caught.value.usage.input_tokens, caught.value.usage.output_tokens) == (44, 24)


def test_answer_that_was_cut_off_is_not_repaired(server):
    app, url = server
    before = len(app.requests)
    with pytest.raises(AnswerCut, match="raise max_tokens") as caught:
        ask(url, "openai", "long", response_schema=SCHEMA)
    assert (caught.value.bound, caught.value.usage.output_tokens > 0) == (None, True)
    assert len(app.requests) - before == 1


def test_answer_whose_repair_failed_is_counted_too(server):
    app, url = server
    before = len(app.requests)
    with pytest.raises(Overloaded) as caught:
        ask(url, "openai", "json-breaks", response_schema=SCHEMA)
    assert len(app.requests) - before == 2
    assert caught.value.usage is not None
    assert (caught.value.usage.input_tokens, caught.value.usage.output_tokens) == (22, 12)


def test_stream_with_a_schema_yields_the_checked_answer_in_one_piece(server):
    _, url = server
    pieces, reply = follow(url, "openai", "json-repaired", response_schema=SCHEMA)
    assert pieces == [reply.text] == [ADA]


def test_timeout_bounds_both_attempts(server):
    _, url = server
    with pytest.raises(TimedOut):
        ask(url, "openai", "never", response_schema=SCHEMA, timeout=0.2)
