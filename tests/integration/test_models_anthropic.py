"""The client of Anthropic's Messages, against a server that Anthropic's own package takes for the real one."""

from __future__ import annotations

import anthropic
import pytest

from tasks.contract.errors import (
    BadReply,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ModelNotFound,
    ModelUnsuited,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Unauthorized,
)
from tasks.contract.job_fields import Message
from tasks.contract.result import Usage
from tests.providers.anthropic import ERRORS, TEXT, Anthropic
from tests.providers.asking import SCHEMA, ask, check_error, check_leaving, check_stream_error, follow
from tests.providers.serving import serve

USAGE = Usage(input_tokens=22, output_tokens=20, cached_tokens=7, reasoning_tokens=9)
NEW = {"api_version": "2026-10-21"}
TABLE = {
    "bad": (BadRequest, None, anthropic.BadRequestError),
    "context": (ContextTooLong, None, anthropic.BadRequestError),
    "context-output": (ContextTooLong, None, anthropic.BadRequestError),
    "credit": (QuotaExhausted, None, anthropic.BadRequestError),
    "spend-400": (QuotaExhausted, None, anthropic.BadRequestError),
    "key": (Unauthorized, None, anthropic.AuthenticationError),
    "billing": (QuotaExhausted, None, anthropic.APIStatusError),
    "forbidden": (Unauthorized, None, anthropic.PermissionDeniedError),
    "no-model": (ModelNotFound, None, anthropic.NotFoundError),
    "conflict": (Overloaded, None, anthropic.ConflictError),
    "large": (ModelUnsuited, None, anthropic.APIStatusError),
    "rate-limit": (RateLimited, 30.0, anthropic.RateLimitError),
    "spend": (QuotaExhausted, 5.0, anthropic.RateLimitError),
    "broken": (Overloaded, None, anthropic.InternalServerError),
    "gateway": (Overloaded, None, anthropic.InternalServerError),
    "overloaded": (Overloaded, None, anthropic.InternalServerError),
}


@pytest.fixture(scope="module")
def server():
    app = Anthropic()
    with serve(app) as url:
        yield app, url


@pytest.fixture(scope="module")
def url(server):
    return server[1]


@pytest.fixture(scope="module")
def official(url):
    with anthropic.Anthropic(base_url=url, api_key="sk-test", max_retries=0) as client:
        yield client


ASKED = {"max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}


def test_server_speaks_the_api_as_anthropic_s_package_reads_it(server, official):
    app, _ = server
    whole = official.messages.create(model="ok", **ASKED)
    assert app.last.headers["anthropic-version"] == "2026-10-21"
    assert ([block.type for block in whole.content], whole.stop_reason) == (["thinking", "text"], "end_turn")
    assert (whole.content[1].text, whole.usage.cache_read_input_tokens) == (TEXT, 7)
    with official.messages.stream(model="ok", **ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 20


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_anthropic_s_own_classes_and_map_to_ours(official, url, case):
    kind, wait, theirs = TABLE[case]
    with pytest.raises(theirs) as raised:
        official.messages.create(model=case, **ASKED)
    check_error(url, "anthropic", case, (kind, raised.value.status_code, wait))


def test_answer_has_its_usage_its_limits_and_its_first_byte(url):
    reply = ask(url, "anthropic", "ok")
    assert (reply.text, reply.finish_reason, reply.usage) == (TEXT, "stop", USAGE)
    limits = reply.rate_limits
    assert (limits.requests_limit, limits.requests_left, limits.requests_reset_s) == (1000, 999, 0.0)
    assert (limits.tokens_limit, limits.tokens_left) == (80000, 79000)
    assert limits.tokens_reset_s > 1e9
    assert reply.first_byte_s > 0


@pytest.mark.parametrize(("case", "finish"), [("long", "length"), ("window", "length"), ("stopped", "stop")])
def test_finish_reasons_are_in_openai_s_words(url, case, finish):
    assert ask(url, "anthropic", case).finish_reason == finish


def test_declined_answer_is_refused_content(url):
    with pytest.raises(ContentRefused, match="refusal"):
        ask(url, "anthropic", "refusal")
    with pytest.raises(ContentRefused, match="refusal"):
        follow(url, "anthropic", "refusal")


def test_system_messages_go_to_the_top_and_roles_take_turns(server):
    app, url = server
    turns = (
        Message(role="system", content="A"),
        Message(role="user", content="1"),
        Message(role="user", content="2"),
        Message(role="system", content="B"),
        Message(role="assistant", content=" "),
        Message(role="user", content="3"),
        Message(role="assistant", content="so "),
    )
    ask(url, "anthropic", "ok", messages=turns)
    assert app.last.body["system"] == "A\n\nB"
    assert app.last.body["messages"] == [
        {"role": "user", "content": "1\n\n2\n\n3"},
        {"role": "assistant", "content": "so"},
    ]
    ask(url, "anthropic", "ok", messages=(Message(role="system", content="A"),))
    assert app.last.body["messages"] == [{"role": "user", "content": "A"}]
    assert "system" not in app.last.body


def test_key_and_sampling_are_sent_as_the_version_requires(server):
    app, url = server
    ask(url, "anthropic", "ok", temperature=1.5, top_p=0.5, seed=3, stop=("x",), max_tokens=9)
    assert (app.last.headers["anthropic-version"], app.last.headers["x-api-key"]) == ("2023-06-01", "sk-test")
    assert "authorization" not in app.last.headers
    assert app.last.body.keys() == {"model", "max_tokens", "messages", "system", "temperature", "stop_sequences"}
    assert (app.last.body["temperature"], app.last.body["max_tokens"]) == (1.0, 9)
    ask(url, "anthropic", "ok", top_p=0.5)
    assert (app.last.body["top_p"], app.last.body["max_tokens"]) == (0.5, 4096)

    ask(url, "anthropic", "ok", model=NEW, temperature=1.5, top_p=0.5)
    assert app.last.headers["authorization"] == "Bearer sk-test"
    assert "x-api-key" not in app.last.headers
    assert app.last.body.keys() == {"model", "max_tokens", "messages", "system"}


def test_address_may_end_with_the_version(url):
    assert ask(f"{url}/v1/", "anthropic", "ok").text == TEXT


def test_stream_yields_the_pieces_and_then_the_whole_reply(url):
    pieces, reply = follow(url, "anthropic", "ok")
    assert pieces == list(TEXT)
    assert (reply.text, reply.finish_reason, reply.usage) == (TEXT, "stop", USAGE)
    assert reply.rate_limits.requests_left == 999


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("ends", BadReply, "ended its answer in the middle"),
        ("error-inside", Overloaded, "HTTP 529 .overloaded_error"),
        ("overloaded", Overloaded, "HTTP 529"),
    ],
)
def test_stream_that_goes_wrong_ends_with_its_error(url, case, kind, words):
    check_stream_error(url, "anthropic", case, kind, words)


def test_leaving_a_stream_closes_the_connection_at_once(server):
    check_leaving(*server, "anthropic", TEXT[0])


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (SCHEMA, "output_config"),
        ({"type": "object", "properties": {"name": {"type": "string"}}}, "tools"),
    ],
)
def test_schema_is_requested_in_the_strictest_way_there_is(server, schema, field):
    app, url = server
    reply = ask(url, "anthropic", "json", response_schema=schema)
    assert reply.text == '{"name": "Ada", "age": 36}'
    assert reply.finish_reason == "stop"
    assert field in app.last.body
