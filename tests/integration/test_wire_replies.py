"""Every reply of tests/wire through our clients over HTTP, and those that the providers' own types are witness of."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import shared
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tasks.contract.errors import ModelError
from tasks.contract.model_client import ModelReply
from tasks.contract.result import Usage
from tests.providers.asking import ask, follow
from tests.providers.serving import serve
from tests.wire import SCHEMA, Replaying, WireReply, read_replies, whole_replies

TYPES: dict[str, type[BaseModel]] = {
    "openai": ChatCompletion,
    "anthropic": AnthropicMessage,
    "gemini": GenerateContentResponse,
}


@pytest.fixture(scope="module")
def url():
    with serve(Replaying()) as url:
        yield url


def addresses(url: str, reply: WireReply) -> str:
    return f"{url}/v1" if reply.provider == "openai" else url


def check_usage(reply: WireReply, usage: Usage | None) -> None:
    if reply.usage is not None:
        assert usage is not None
        counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
        assert counts == tuple(reply.usage)
    if reply.estimated:
        assert usage is not None
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0
    if reply.usage is not None or reply.estimated:
        assert usage is not None
        assert usage.estimated is reply.estimated


def check(reply: WireReply, get: Any) -> None:
    if reply.error:
        with pytest.raises(ModelError) as caught:
            get()
        error = caught.value
        assert error.code == reply.error, error
        assert reply.says in str(error)
        assert reply.says_not not in str(error)
        assert error.retry_after == pytest.approx(reply.wait) or not reply.wait
        check_usage(reply, error.usage)
        return
    answered: ModelReply = get()
    assert (answered.text, answered.finish_reason) == (reply.answer, reply.finish)
    assert answered.reasoning == reply.reasoning
    check_usage(reply, answered.usage)


@pytest.mark.parametrize("reply", whole_replies(), ids=lambda reply: reply.model)
def test_reply_leads_to_its_answer_or_its_error(url, reply):
    schema = {"response_schema": SCHEMA} if reply.schema else {}
    check(reply, lambda: ask(addresses(url, reply), reply.provider, reply.model, **schema))


@pytest.mark.parametrize("reply", read_replies("streams"), ids=lambda reply: reply.model)
def test_stream_leads_to_its_answer_or_its_error(url, reply):
    check(reply, lambda: follow(addresses(url, reply), reply.provider, reply.model)[1])


@pytest.mark.parametrize(
    "reply", [reply for reply in whole_replies() if reply.status != 200], ids=lambda reply: reply.model
)
def test_stream_reads_an_error_as_the_whole_answer_does(url, reply):
    check(reply, lambda: follow(addresses(url, reply), reply.provider, reply.model)[1])


@pytest.mark.parametrize("reply", [reply for reply in whole_replies() if reply.typed], ids=lambda reply: reply.model)
def test_typed_reply_satisfies_the_types_of_its_provider(reply):
    TYPES[reply.provider].model_validate(reply.body)


@pytest.mark.parametrize(
    "reply", [reply for reply in whole_replies() if reply.error_type], ids=lambda reply: reply.model
)
def test_typed_error_satisfies_the_types_of_its_provider(reply):
    error = shared.ErrorResponse.model_validate(reply.body).error
    assert type(error).__name__.removesuffix("Object") == reply.error_type.removesuffix("Object")


def test_corpus_is_large_and_names_its_sources():
    replies = whole_replies()
    assert len(replies) >= 120
    assert all(reply.source and (reply.answer is None) is bool(reply.error) for reply in replies)
    assert len({reply.model for reply in replies}) == len(replies)
