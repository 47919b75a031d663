"""Replies that are made to hurt: each ends with an answer or with an error that says why, and the process lives."""

from __future__ import annotations

import pytest

from tasks.contract.errors import BadReply
from tasks.contract.result import Usage
from tests.providers.asking import ask, follow
from tests.providers.serving import Answer, Provider, Request, serve, sse
from tests.wire.hostile import ANSWERS, DEEP, DIGITS, FAILURES, TEXTS


class Hostile(Provider):
    def answer(self, request: Request) -> Answer:
        case = request.body["model"]
        if request.body.get("stream"):
            return STREAMS[case][0]
        return ANSWERS.get(case) or FAILURES[case][0]


def chunk(content: str) -> bytes:
    return f'data: {{"choices": [{{"delta": {{"content": {content}}}, "finish_reason": null}}]}}\n\n'.encode()


END = sse({"choices": [{"delta": {}, "finish_reason": "stop"}]}, end=(b"data: [DONE]\n\n",))
DIGITS_EVENT = f'data: {{"usage": {{"prompt_tokens": {DIGITS}}}}}\n\n'.encode()
STREAMS = {
    "deep": (Answer(events=[b"data: " + DEEP.encode() + b"\n\n"]), BadReply, "no JSON object"),
    "endless-line": (Answer(events=[b"data: " + b"x" * 1_000_000] * 40), BadReply, "more than"),
    "half-surrogates": (Answer(events=[chunk('"\\ud83d"'), chunk('"\\ude00"'), *END]), "😀", ""),
    "digits": (Answer(events=[chunk('"Fair."'), DIGITS_EVENT, *END]), "Fair.", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def url():
    with serve(Hostile()) as url:
        yield f"{url}/v1"


@pytest.mark.parametrize("case", ANSWERS)
def test_good_answer_survives_what_stands_beside_it(url, case):
    reply = ask(url, "openai", case)
    assert reply.text == TEXTS.get(case, "Fair.")
    assert reply.text.encode()
    assert reply.usage.estimated is case.endswith("in-usage")
    assert 0 < reply.usage.input_tokens < 1000
    assert 0 < reply.usage.output_tokens < 10_000_000


@pytest.mark.parametrize("case", FAILURES)
def test_hostile_reply_fails_with_its_reason(url, case):
    _, kind, words = FAILURES[case]
    with pytest.raises(kind, match=words) as caught:
        ask(url, "openai", case)
    wait_s = caught.value.retry_after
    assert wait_s is None or 0 <= wait_s < float("inf")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("case", STREAMS)
def test_hostile_stream_ends_with_its_answer_or_its_reason(url, case):
    _, expected, words = STREAMS[case]
    if isinstance(expected, str):
        assert follow(url, "openai", case)[1].text == expected
        return
    with pytest.raises(expected, match=words):
        follow(url, "openai", case)


def test_clients_answer_after_all_of_it(url):
    assert ask(url, "openai", "packed").usage == Usage(input_tokens=9, output_tokens=5)
