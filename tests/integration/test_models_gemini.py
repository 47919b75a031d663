"""The client of Gemini's generateContent, against a server that Google's own package takes for the real one."""

from __future__ import annotations

import pytest
from google import genai
from google.genai import errors

from tasks.contract.errors import (
    BadReply,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ModelNotFound,
    ModelUnsuited,
    NoAnswer,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Unauthorized,
)
from tasks.contract.job_fields import Message
from tasks.contract.result import Usage
from tests.providers.asking import SCHEMA, ask, check_error, check_leaving, check_stream_error, follow
from tests.providers.gemini import ERRORS, TEXT, Gemini
from tests.providers.serving import serve

USAGE = Usage(input_tokens=30, output_tokens=17, cached_tokens=20, reasoning_tokens=6)
TABLE = {
    "bad": (BadRequest, None),
    "key": (Unauthorized, None),
    "location": (ModelUnsuited, None),
    "context": (ContextTooLong, None),
    "unauthenticated": (Unauthorized, None),
    "forbidden": (Unauthorized, None),
    "no-model": (ModelNotFound, None),
    "rate-limit": (RateLimited, 34.5),
    "daily": (QuotaExhausted, 34.5),
    "tomorrow": (QuotaExhausted, 40000.0),
    "broken": (Overloaded, None),
    "overloaded": (Overloaded, None),
    "gateway": (Overloaded, None),
}


@pytest.fixture(scope="module")
def server():
    app = Gemini()
    with serve(app) as url:
        yield app, url


@pytest.fixture(scope="module")
def url(server):
    return server[1]


@pytest.fixture(scope="module")
def official(url):
    client = genai.Client(api_key="sk-test", http_options={"base_url": url})
    yield client
    client.close()


def test_server_speaks_the_api_as_google_s_package_reads_it(official):
    whole = official.models.generate_content(model="ok", contents="hello")
    assert (whole.text, whole.candidates[0].finish_reason.value) == (TEXT, "STOP")
    assert whole.usage_metadata.thoughts_token_count == 6
    chunks = list(official.models.generate_content_stream(model="ok", contents="hello"))
    assert "".join(chunk.text for chunk in chunks) == TEXT
    assert chunks[-1].usage_metadata.total_token_count == 47
    blocked = official.models.generate_content(model="blocked", contents="hello")
    assert blocked.prompt_feedback.block_reason.value == "PROHIBITED_CONTENT"


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_google_s_own_classes_and_map_to_ours(official, url, case):
    kind, wait = TABLE[case]
    with pytest.raises(errors.APIError) as raised:
        official.models.generate_content(model=case, contents="hello")
    assert type(raised.value) is (errors.ClientError if raised.value.code < 500 else errors.ServerError)
    check_error(url, "gemini", case, (kind, raised.value.code, wait))


def test_answer_has_no_thoughts_but_its_usage_counts_them(url):
    reply = ask(url, "gemini", "ok")
    assert (reply.text, reply.finish_reason, reply.usage) == (TEXT, "stop", USAGE)
    assert (reply.rate_limits, reply.first_byte_s > 0) == (None, True)
    assert ask(url, "gemini", "long").finish_reason == "length"


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("blocked", ContentRefused, "blocks this input .PROHIBITED_CONTENT"),
        ("safety", ContentRefused, "blocks this answer .SAFETY"),
        ("recitation", ContentRefused, "blocks this answer .RECITATION"),
        ("odd", NoAnswer, "no answer that can be read .OTHER"),
        ("other", BadReply, "no generated content"),
    ],
)
def test_answer_that_was_blocked_says_why(url, case, kind, words):
    with pytest.raises(kind, match=words):
        ask(url, "gemini", case)


def test_request_is_gemini_s(server):
    app, url = server
    turns = (
        Message(role="system", content="A"),
        Message(role="user", content="1"),
        Message(role="assistant", content="2"),
        Message(role="user", content="3"),
    )
    ask(url, "gemini", "ok", messages=turns)
    assert app.last.path == "/v1beta/models/ok:generateContent"
    assert app.last.body == {
        "systemInstruction": {"parts": [{"text": "A"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "1"}]},
            {"role": "model", "parts": [{"text": "2"}]},
            {"role": "user", "parts": [{"text": "3"}]},
        ],
    }
    ask(f"{url}/v1", "gemini", "models/ok", temperature=0.5, top_p=0.9, max_tokens=7, seed=3, stop=("x",))
    assert app.last.path == "/v1/models/ok:generateContent"
    assert app.last.body["generationConfig"] == {
        "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 7, "seed": 3, "stopSequences": ["x"],
    }  # fmt: skip


def test_stream_yields_the_pieces_and_then_the_whole_reply(url):
    pieces, reply = follow(url, "gemini", "ok")
    assert pieces == list(TEXT)
    assert (reply.text, reply.finish_reason, reply.usage) == (TEXT, "stop", USAGE)


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("ends", BadReply, "in the middle"),
        ("safety", ContentRefused, "SAFETY"),
        ("error-inside", Overloaded, "HTTP 503 .UNAVAILABLE"),
        ("rate-limit", RateLimited, "HTTP 429"),
    ],
)
def test_stream_that_goes_wrong_ends_with_its_error(url, case, kind, words):
    check_stream_error(url, "gemini", case, kind, words)


def test_leaving_a_stream_closes_the_connection_at_once(server):
    check_leaving(*server, "gemini", TEXT[0])


def test_schema_is_requested_in_gemini_s_way(url):
    assert ask(url, "gemini", "json", response_schema=SCHEMA).text == '{"name": "Ada", "age": 36}'
