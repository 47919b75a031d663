"""Replies that are made to hurt, of OpenAI's API: good answers beside nonsense, and failures with their reasons."""

from __future__ import annotations

import gzip
import json

from tasks.contract.errors import BadReply, ConnectionFailed, ContextTooLong, ModelError, Overloaded, RateLimited
from tests.providers.serving import Answer
from worker.models.http import MOST_BYTES

LONG = "The clause is fair. " * 400_000
DEEP = "[" * 10_000 + "]" * 10_000
DIGITS = "9" * 10_000


def completion(content: str, *, usage: str = '{"prompt_tokens": 9, "completion_tokens": 5}', more: str = "") -> bytes:
    choice = f'{{"index": 0, "message": {{"role": "assistant", "content": {content}}}, "finish_reason": "stop"}}'
    return f'{{"choices": [{choice}], "usage": {usage}{more}}}'.encode()


def bomb(size: int) -> Answer:
    packed = gzip.compress(b'{"choices": "' + b"x" * size + b'"}')
    return Answer(body=packed, headers={"content-encoding": "gzip"})


def wait(value: str, status: int = 503) -> Answer:
    return Answer(status, {"error": {"message": "x"}}, {"retry-after": value})


ANSWERS = {
    "long": Answer(body=completion(json.dumps(LONG))),
    "digits-beside": Answer(body=completion('"Fair."', more=f', "created": {DIGITS}')),
    "digits-in-usage": Answer(body=completion('"Fair."', usage=f'{{"prompt_tokens": {DIGITS}}}')),
    "nan-in-usage": Answer(body=completion('"Fair."', usage='{"prompt_tokens": NaN, "completion_tokens": -Infinity}')),
    "surrogate": Answer(body=completion('"Fa\\ud800ir."')),
    "surrogate-pair": Answer(body=completion('"\\ud83d\\ude00"')),
    "surrogate-raw": Answer(body=completion('"Fair."').replace(b"Fair", b"Fa\xed\xa0\x80ir")),
    "byte-order-mark": Answer(body=b"\xef\xbb\xbf" + completion('"Fair."')),
    "utf-16": Answer(body=completion('"Fair."').decode().encode("utf-16")),
    "nul": Answer(body=completion('"Fa\\u0000ir."')),
    "packed": Answer(body=gzip.compress(completion('"Fair."')), headers={"content-encoding": "gzip"}),
    "odd-limits": Answer(
        body=completion('"Fair."'),
        headers={
            "x-ratelimit-limit-requests": "-5",
            "x-ratelimit-remaining-requests": "9" * 400,
            "x-ratelimit-reset-requests": "1e999s",
            "x-ratelimit-remaining-tokens": "NaN",
            "retry-after": "NaN",
        },
    ),
}
TEXTS = {
    "long": LONG,
    "surrogate": "Fa\ufffdir.",
    "surrogate-pair": "😀",
    "surrogate-raw": "Fa\ufffdir.",
    "nul": "Fa\x00ir.",
}
FAILURES = {
    "deep": (Answer(body=completion(DEEP)), BadReply, "nested too deeply"),
    "deep-error": (Answer(500, DEEP.encode()), Overloaded, "HTTP 500"),
    "deep-metadata": (
        Answer(400, {"error": {"code": 400, "metadata": {"raw": '{"error":' + DEEP + "}"}}}),
        ModelError,
        "HTTP 400",
    ),
    "digits-in-error": (Answer(400, f'{{"error": {{"code": {DIGITS}}}}}'.encode()), ModelError, "HTTP 400"),
    "too-long": (Answer(body=b'"' + b"x" * (MOST_BYTES + 1) + b'"'), BadReply, "more than"),
    "bomb": (bomb(MOST_BYTES * 8), BadReply, "more than"),
    "bomb-with-error": (
        Answer(502, gzip.compress(b" " * MOST_BYTES * 4), {"content-encoding": "gzip"}),
        ModelError,
        "more than|HTTP 502",
    ),
    "packed-badly": (Answer(body=b"\x1f\x8bnothing", headers={"content-encoding": "gzip"}), ConnectionFailed, "broke"),
    "unknown-packing": (Answer(body=b"abc", headers={"content-encoding": "zstd"}), ModelError, "broke|JSON"),
    "json-string": (Answer(body=b'"slow down"'), BadReply, "no object"),
    "json-number": (Answer(body=b"429"), BadReply, "no object"),
    "json-list": (Answer(body=b"[1]"), BadReply, "no object"),
    "not-utf-8": (Answer(body=b'{"choices": "\xff\xfe"}'), BadReply, "broken JSON"),
    "content-number": (Answer(body=completion("5")), BadReply, "no chat completion"),
    "content-deep": (Answer(body=completion('{"a": 1}')), BadReply, "no chat completion"),
    "retry-nan": (wait("NaN"), Overloaded, "HTTP 503"),
    "retry-negative": (wait("-1"), Overloaded, "HTTP 503"),
    "retry-infinite": (wait("1e400"), Overloaded, "HTTP 503"),
    "retry-past": (wait("Wed, 21 Oct 2015 07:28:00 GMT", 429), RateLimited, "HTTP 429"),
    "retry-far": (wait("Wed, 21 Oct 99999 07:28:00 GMT", 429), RateLimited, "HTTP 429"),
    "retry-words": (wait("a while", 429), RateLimited, "HTTP 429"),
    "retry-digits": (wait("9" * 5000, 503), Overloaded, "HTTP 503"),
    "phrase-at-the-end-of-much": (
        Answer(400, {"error": "a" * 19_000 + " the prompt is too long for the context window"}),
        ContextTooLong,
        "HTTP 400",
    ),
}
