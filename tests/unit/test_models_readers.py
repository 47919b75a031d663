"""Whatever stands in a body, a reader of answers ends with a text, or with one of our errors."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import (
    ModelError,
    PermanentModelError,
    RetryableModelError,
    UnusableModelError,
)
from tasks.contract.model_client import ModelRequest
from tests.providers.asking import QUESTION
from tests.wire import PROVIDERS, SCHEMA, read_replies
from worker.models.anthropic import MessageReader
from worker.models.endings import ANTHROPIC, GEMINI, OPENAI
from worker.models.error_report import says_error
from worker.models.faults import read_error, read_error_body
from worker.models.gemini import ContentReader
from worker.models.openai import CompletionReader
from worker.models.provider import AnswerReader

READERS: dict[str, type[AnswerReader]] = {
    "openai": CompletionReader,
    "anthropic": MessageReader,
    "gemini": ContentReader,
}
BODIES = {
    provider: [reply.body for reply in read_replies(provider) if isinstance(reply.body, dict) and reply.status == 200]
    for provider in PROVIDERS
}
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 3.5, float("nan"), float("inf"), 10**40, "", " ", "x", "stop", "\ud800", [], {}, [[]],
     [None], {"a": None}, {"text": 5}, {"type": "text"}, {"message": "x"}, [{"type": "tool_use"}], "a" * 5000]
)  # fmt: skip


def read(provider: str, body: Any) -> None:
    request = ModelRequest("m", QUESTION, 30.0, response_schema=SCHEMA)
    reader = READERS[provider]("m", request)
    try:
        reader.take(body)
        reply = reader.reply()
    except ModelError as caught:
        reply, error = None, caught
    if reply is None:
        assert isinstance(error, RetryableModelError | UnusableModelError | PermanentModelError)
        assert len(str(error)) < 600
        usage = reader.usage()
        assert usage is None or usage.input_tokens > 0
    else:
        assert reply.text.strip()
        assert reply.text.encode()
        assert reply.finish_reason in {"stop", "length"}
        assert reply.usage.input_tokens > 0
        assert reply.usage.output_tokens > 0


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value inside a body."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_reader_of_a_body_with_one_odd_value_ends_with_text_or_error(data):
    provider = data.draw(st.sampled_from(PROVIDERS))
    body = copy.deepcopy(data.draw(st.sampled_from(BODIES[provider])))
    *way, last = data.draw(st.sampled_from(list(places(body))))
    place = body
    for key in way:
        place = place[key]
    place[last] = data.draw(ODD)
    read(provider, body)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PROVIDERS), st.data())
def test_reader_of_another_provider_s_body_ends_with_text_or_error(provider, data):
    read(provider, data.draw(st.sampled_from([body for bodies in BODIES.values() for body in bodies])))


@pytest.mark.parametrize(("provider", "table"), [("openai", OPENAI), ("anthropic", ANTHROPIC), ("gemini", GEMINI)])
def test_reader_takes_listed_endings_alone_for_an_answer(provider, table):
    good = {"openai": BODIES["openai"][0], "anthropic": BODIES["anthropic"][0], "gemini": BODIES["gemini"][0]}[provider]
    field = {"openai": ("choices", 0, "finish_reason"), "anthropic": ("stop_reason",),
             "gemini": ("candidates", 0, "finishReason")}[provider]  # fmt: skip
    words = {*OPENAI, *ANTHROPIC, *GEMINI, "error", "abort", "pause_turn", "cancelled", "timeout", "unknown", "load"}
    for word in words:
        body = copy.deepcopy(good)
        place: Any = body
        for key in field[:-1]:
            place = place[key]
        place[field[-1]] = word
        reader = READERS[provider]("m", ModelRequest("m", QUESTION, 30.0))
        reader.take(body)
        if table.get(word) in {"stop", "length", "tools"}:
            assert reader.reply().finish_reason == ("length" if table[word] == "length" else "stop")
        else:
            with pytest.raises(ModelError):
                reader.reply()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([200, 400, 401, 402, 403, 404, 413, 429, 451, 500, 503]), st.data())
def test_error_with_one_odd_value_is_one_of_ours(status, data):
    bodies = [reply.body for provider in PROVIDERS for reply in read_replies(provider) if reply.status != 200]
    body = copy.deepcopy(data.draw(st.sampled_from([body for body in bodies if isinstance(body, dict)])))
    *way, last = data.draw(st.sampled_from(list(places(body))))
    place = body
    for key in way:
        place = place[key]
    place[last] = data.draw(ODD)
    error = read_error_body("m", body) if status == 200 else read_error("m", status, json.dumps(body).encode(), [])
    assert isinstance(error, RetryableModelError | UnusableModelError | PermanentModelError)
    assert "secret" not in str(error)
    says_error(body, "choices")


@pytest.mark.parametrize(
    "words",
    ["your credit balance is too low", "model not exist", "invalid api key", "insufficient_quota", "no such model"],
)
@pytest.mark.parametrize("status", [200, 400, 413, 422, 429, 500])
def test_prompt_that_a_message_quotes_closes_no_model(words, status):
    body = {"error": {"message": f"could not read 'my text: {words}'", "type": "invalid_request_error"}}
    error = read_error_body("m", body) if status == 200 else read_error("m", status, json.dumps(body).encode(), [])
    assert not isinstance(error, UnusableModelError)
