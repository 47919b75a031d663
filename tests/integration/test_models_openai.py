"""The client of OpenAI's API, against a server that OpenAI's own package takes for the real one."""

from __future__ import annotations

import asyncio
import re

import openai
import pytest

from tasks.contract.errors import (
    BadReply,
    BadRequest,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    ModelNotFound,
    ModelUnsuited,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TimedOut,
    Unauthorized,
)
from tasks.contract.job_fields import Message
from tasks.contract.result import RateLimits, Usage
from tests.harness import wait_for
from tests.providers.asking import (
    SCHEMA,
    ask,
    check_error,
    check_leaving,
    check_stream_error,
    clients,
    follow,
    request_of,
)
from tests.providers.openai import ERRORS, TEXT, OpenAI
from tests.providers.serving import serve

USAGE = Usage(input_tokens=22, output_tokens=12, cached_tokens=16, reasoning_tokens=8)
#: Of the question and `TEXT`, by tasks/contract/tokens.py.
ESTIMATED = Usage(input_tokens=15, output_tokens=11, estimated=True)
TABLE = {
    "rate-limit": (RateLimited, 7.0, openai.RateLimitError),
    "rate-limit-ms": (RateLimited, 1.5, openai.RateLimitError),
    "rate-limit-date": (RateLimited, 0.0, openai.RateLimitError),
    "quota": (QuotaExhausted, None, openai.RateLimitError),
    "credit": (QuotaExhausted, None, openai.RateLimitError),
    "org-spend": (QuotaExhausted, None, openai.RateLimitError),
    "project-spend": (QuotaExhausted, None, openai.RateLimitError),
    "org-usage": (QuotaExhausted, None, openai.RateLimitError),
    "tomorrow": (QuotaExhausted, 43200.0, openai.RateLimitError),
    "payment": (QuotaExhausted, None, openai.APIStatusError),
    "key": (Unauthorized, None, openai.AuthenticationError),
    "forbidden": (ModelUnsuited, None, openai.PermissionDeniedError),
    "no-model": (ModelNotFound, None, openai.NotFoundError),
    "bad": (BadRequest, None, openai.BadRequestError),
    "unprocessable": (BadRequest, None, openai.UnprocessableEntityError),
    "large": (ModelUnsuited, None, openai.APIStatusError),
    "context": (ContextTooLong, None, openai.BadRequestError),
    "vllm-context": (ContextTooLong, None, openai.BadRequestError),
    "vllm-no-model": (ModelNotFound, None, openai.NotFoundError),
    "ollama": (ModelNotFound, None, openai.NotFoundError),
    "filter": (ContentRefused, None, openai.BadRequestError),
    "policy": (ContentRefused, None, openai.BadRequestError),
    "timeout": (Overloaded, None, openai.APIStatusError),
    "conflict": (Overloaded, None, openai.ConflictError),
    "broken": (Overloaded, None, openai.InternalServerError),
    "gateway": (Overloaded, None, openai.InternalServerError),
    "overloaded": (Overloaded, 3.0, openai.InternalServerError),
}


@pytest.fixture(scope="module")
def server():
    app = OpenAI()
    with serve(app) as url:
        yield app, f"{url}/v1"


@pytest.fixture(scope="module")
def url(server):
    return server[1]


@pytest.fixture(scope="module")
def official(url):
    with openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        yield client


ASKED = [{"role": "user", "content": "hello"}]


def test_server_speaks_the_api_as_openai_s_package_reads_it(official):
    whole = official.chat.completions.create(model="ok", messages=ASKED)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (TEXT, "stop")
    assert whole.usage.prompt_tokens_details.cached_tokens == 16
    options = {"include_usage": True}
    chunks = list(official.chat.completions.create(model="ok", messages=ASKED, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage.total_tokens == 34
    vectors = official.embeddings.create(model="ok", input=["a", "bcd"], encoding_format="float")
    assert {item.index: item.embedding[0] for item in vectors.data} == {0: 1.0, 1: 3.0}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_openai_s_own_classes_and_map_to_ours(official, url, case):
    kind, wait, theirs = TABLE[case]
    with pytest.raises(openai.APIStatusError) as raised:
        official.chat.completions.create(model=case, messages=ASKED)
    assert type(raised.value) is theirs or theirs is openai.APIStatusError
    check_error(url, "openai", case, (kind, raised.value.status_code, wait))


def test_answer_has_its_usage_its_limits_and_its_first_byte(url):
    reply = ask(url, "openai", "ok")
    assert (reply.text, reply.finish_reason, reply.usage, reply.simulated) == (TEXT, "stop", USAGE, False)
    assert reply.rate_limits == RateLimits(60, 59, 0.012, 150000, 149984, 360.0)
    assert 0 < reply.first_byte_s < 30


def test_deviations_of_other_servers_are_read(url):
    assert ask(url, "openai", "parts").text == TEXT
    assert ask(url, "openai", "uncounted").usage == ESTIMATED
    assert ask(url, "openai", "long").finish_reason == "length"


@pytest.mark.parametrize("case", ["refusal", "filtered"])
def test_blocked_answer_is_refused_content(url, case):
    with pytest.raises(ContentRefused, match="blocks this answer"):
        ask(url, "openai", case)


def test_error_in_a_200_is_read_by_its_own_code(url):
    with pytest.raises(RateLimited):
        ask(url, "openai", "hidden-error")


def test_body_has_what_the_job_sets_and_nothing_else(server):
    app, url = server
    ask(url, "openai", "ok")
    assert app.last.body.keys() == {"model", "messages"}
    ask(url, "openai", "ok", temperature=0.5, top_p=0.9, max_tokens=7, seed=3, stop=("x",))
    expected = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 3, "stop": ["x"]}
    assert {name: app.last.body[name] for name in expected} == expected
    assert app.last.body["messages"][1] == {"role": "user", "content": "my secret text"}


@pytest.mark.parametrize("case", ["ok", "crlf", "crumbs", "no-done"])
def test_stream_is_read_however_it_is_cut(url, case):
    pieces, reply = follow(url, "openai", case)
    assert "".join(pieces) == reply.text == TEXT
    assert len(pieces) == len(TEXT)
    assert reply.finish_reason == "stop"
    assert reply.usage == (ESTIMATED if case == "no-done" else USAGE)
    if case == "ok":
        assert reply.rate_limits is not None
        assert reply.first_byte_s > 0


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("ends", BadReply, "ended its answer in the middle"),
        ("breaks", ConnectionFailed, "broke off"),
        ("error-inside", Overloaded, "HTTP 500 .overloaded"),
        ("filtered", ContentRefused, "blocks this answer"),
        ("unstreamed", BadReply, "application/json instead of a stream"),
        ("rate-limit", RateLimited, "HTTP 429"),
    ],
)
def test_stream_that_goes_wrong_ends_with_its_error(url, case, kind, words):
    check_stream_error(url, "openai", case, kind, words)


def test_timeouts_each_end_with_an_error_that_names_them(url):
    with pytest.raises(TimedOut, match=re.escape("did not answer within 0.3 s")):
        ask(url, "openai", "never", timeout=0.3)
    with pytest.raises(TimedOut, match=re.escape("sent no first byte within 0.3 s")):
        ask(url, "openai", "never", first_byte_timeout=0.3)
    with pytest.raises(TimedOut, match=re.escape("sent no first byte within 0.25 s")):
        follow(url, "openai", "never", model={"first_byte_timeout": 0.25})
    with pytest.raises(TimedOut, match=re.escape("did not answer within 0.4 s")):
        ask(url, "openai", "half", timeout=0.4, first_byte_timeout=0.39)
    with pytest.raises(TimedOut, match=re.escape("did not answer within 0.4 s")):
        follow(url, "openai", "stalls", timeout=0.4)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("breaks", "broke off"),
        ("html", "answered with text/html instead of JSON"),
        ("empty", "answered with nothing"),
        ("other", "no chat completion"),
    ],
)
def test_reply_that_is_no_answer_is_a_bad_reply(url, case, words):
    with pytest.raises((BadReply, ConnectionFailed), match=words):
        ask(url, "openai", case)


def test_leaving_a_stream_closes_the_connection_at_once(server):
    check_leaving(*server, "openai", TEXT[0])


def test_dropping_the_iterator_closes_the_connection_too(server):
    app, url = server
    app.left.clear()

    async def drop():
        async with clients(url, "openai") as made:
            async for _ in made.of("m").stream(request_of("stalls")):
                break
            assert await asyncio.to_thread(app.left.wait, 20)

    asyncio.run(drop())


@pytest.mark.parametrize("case", ["never", "half", "stalls"])
def test_cancelled_call_closes_its_connection(server, case):
    app, url = server
    app.left.clear()
    asked = len(app.requests)

    async def consume(client):
        if case != "stalls":
            return await client.complete(request_of(case))
        return [piece async for piece in client.stream(request_of(case))]

    async def cancel():
        async with clients(url, "openai") as made:
            task = asyncio.create_task(consume(made.of("m")))
            await asyncio.to_thread(wait_for, lambda: len(app.requests) > asked, "the request")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(app.left.wait, 20)

    asyncio.run(cancel())


def test_connection_is_used_again_after_answers_streams_and_errors(url):

    async def count():
        async with clients(url, "openai") as made:
            client = made.of("m")
            for _ in range(3):
                await client.complete(request_of("ok"))
                assert [item async for item in client.stream(request_of("ok"))]
                with pytest.raises(RateLimited):
                    await client.complete(request_of("rate-limit"))
            pool = made._transport._session.connector
            return sum(map(len, pool._conns.values()))

    assert asyncio.run(count()) == 1


def test_embeddings_come_in_the_order_of_the_texts_whatever_the_server_s(server):
    app, url = server
    texts = ["x" * length for length in range(150)]

    async def embed(texts, model="ok"):
        async with clients(url, "openai", model=model) as made:
            return await made.embeddings("m").embed(texts, timeout=30)

    before = len(app.requests)
    assert [vector[0] for vector in asyncio.run(embed(texts))] == [float(length) for length in range(150)]
    assert len(app.requests) - before == 3
    assert asyncio.run(embed([])) == []
    with pytest.raises(RateLimited):
        asyncio.run(embed(["a"], "rate-limit"))
    with pytest.raises(BadReply, match="no list of embeddings"):
        asyncio.run(embed(["a"], "other"))


def test_schema_is_requested_in_openai_s_way(server):
    app, url = server
    reply = ask(url, "openai", "json", response_schema=SCHEMA)
    assert reply.text == '{"name": "Ada", "age": 36}'
    wanted = app.last.body["response_format"]["json_schema"]
    assert (wanted["schema"], wanted["strict"]) == (SCHEMA, True)
    ask(url, "openai", "json", response_schema={"type": "object"})
    assert app.last.body["response_format"]["json_schema"]["strict"] is False


def test_other_roles_and_texts_of_all_kinds_reach_the_server_as_they_are(server):
    app, url = server
    text = 'Grüße "世界" \\ \u2028 😀'
    turns = (
        Message(role="user", content=text),
        Message(role="assistant", content="a"),
        Message(role="user", content="b"),
    )
    ask(url, "openai", "ok", messages=turns)
    assert [turn["content"] for turn in app.last.body["messages"]] == [text, "a", "b"]
