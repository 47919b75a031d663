"""Servers that refuse parameters, over HTTP: left out or renamed at once, remembered, and never against the job."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.contract.errors import BadRequest
from tasks.contract.model_client import ModelReply
from tests.providers.asking import SCHEMA, clients, request_of
from tests.providers.serving import Answer, Provider, Request, serve, sse

USAGE = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
ADA = '{"name": "Ada", "age": 36}'
LIST = {"type": "array", "items": {"type": "string"}}
YES_NO: Any = {"type": "string", "enum": ["yes", "no"]}


def unsupported(field: str) -> Answer:
    message = f"Unsupported parameter: '{field}' is not supported with this model."
    return Answer(400, {"error": {"message": message, "param": field, "code": "unsupported_parameter"}})


def forbidden(field: str) -> Answer:
    detail = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}
    return Answer(422, {"detail": [detail]})


class Picky(Provider):
    """Refuses the fields in `refuses`, and roots of schemas that are no objects; answers with `text`."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: dict[str, Answer] = {}
        self.text: Any = "hello"
        self.finish = "stop"

    def answer(self, request: Request) -> Answer:
        body = request.body
        for field, refusal in self.refuses.items():
            if field in body or (field == "system" and body["messages"][0]["role"] == "system"):
                return refusal
        if (form := body.get("response_format", {}).get("json_schema")) and form["schema"].get("type") != "object":
            message = "Invalid schema for response_format 'answer': schema must be a JSON Schema of type \"object\""
            return Answer(400, {"error": {"message": message, "param": "response_format", "code": None}})
        text = self.text(body) if callable(self.text) else self.text
        if body.get("stream"):
            chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
            return Answer(events=sse(chunk, end=(b"data: [DONE]\n\n",)))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish}
        return Answer(body={"choices": [choice], "usage": USAGE})


@pytest.fixture(scope="module")
def serving():
    app = Picky()
    with serve(app) as url:
        yield app, f"{url}/v1"


@pytest.fixture
def picky(serving):
    app, _ = serving
    app.__init__()
    return app


@pytest.fixture
def ask(serving, picky):
    """Asks one model once for each set of fields, in one process; a failure is returned."""

    def go(*requests: dict[str, Any], model: dict[str, Any] | None = None) -> list[ModelReply | BadRequest]:
        async def run() -> list[ModelReply | BadRequest]:
            replies: list[ModelReply | BadRequest] = []
            async with clients(serving[1], "openai", **(model or {})) as made:
                for fields in requests:
                    try:
                        replies.append(await made.of("m").complete(request_of("x", **fields)))
                    except BadRequest as error:
                        replies.append(error)
            return replies

        return asyncio.run(run())

    return go


def test_max_tokens_is_sent_under_its_other_name_and_remembered(picky, ask):
    picky.refuses = {"max_tokens": unsupported("max_tokens")}
    ask({"max_tokens": 50}, {"max_tokens": 60})
    names = [{name: one.body[name] for name in one.body if name.startswith("max_")} for one in picky.requests]
    assert names == [{"max_tokens": 50}, {"max_completion_tokens": 50}, {"max_completion_tokens": 60}]


def test_max_completion_tokens_is_sent_under_its_older_name(picky, ask):
    picky.refuses = {"max_completion_tokens": forbidden("max_completion_tokens")}
    ask({"max_tokens": 50}, model={"dialect": "openai"})
    assert picky.last.body["max_tokens"] == 50


def test_max_tokens_is_never_left_out(picky, ask):
    picky.refuses = {name: unsupported(name) for name in ("max_tokens", "max_completion_tokens")}
    (error,) = ask({"max_tokens": 50})
    assert "takes no bound on the tokens of its answer, by neither name" in str(error)
    assert len(picky.requests) == 2


@pytest.mark.parametrize("refusal", [unsupported, forbidden])
@pytest.mark.parametrize("field", ["seed", "temperature", "top_p"])
def test_parameter_that_the_job_did_not_set_is_left_out_and_remembered(picky, ask, refusal, field):
    picky.refuses = {field: refusal(field)}
    fields = {"seed": 3, "temperature": 0.5, "top_p": 0.5}
    replies = ask(fields, fields)
    assert [reply.text for reply in replies] == ["hello", "hello"]
    assert [field in one.body for one in picky.requests] == [True, False, False]
    assert all(other in picky.last.body for other in fields if other != field)


def test_several_refused_parameters_are_left_out_in_one_attempt(picky, ask):
    picky.refuses = {name: forbidden(name) for name in ("seed", "temperature", "max_tokens")}
    (reply,) = ask({"seed": 3, "temperature": 0.5, "max_tokens": 9})
    assert reply.text == "hello"
    assert picky.last.body["max_completion_tokens"] == 9
    assert len(picky.requests) == 4


@pytest.mark.parametrize("field", ["seed", "temperature", "top_p", "stop"])
def test_parameter_that_the_job_sets_is_an_error_with_field_and_remedy(picky, ask, field):
    picky.refuses = {field: unsupported(field)}
    value = ("x",) if field == "stop" else 1
    error, dropped = ask(
        {field: value, "insists": frozenset({field})},
        {field: value} if field != "stop" else {},
    )
    assert isinstance(error, BadRequest)
    assert f"does not take {field}, which the job sets: leave it out, or list {field} under refuses" in str(error)
    assert error.status == 400
    assert dropped.text == "hello"


def test_parameter_that_was_learned_still_fails_a_job_that_sets_it(picky, ask):
    picky.refuses = {"seed": unsupported("seed")}
    _, error = ask({"seed": 3}, {"seed": 3, "insists": frozenset({"seed"})})
    assert "does not take seed" in str(error)


def test_refused_parameter_of_the_configuration_is_never_sent(picky, ask):
    picky.refuses = {"temperature": unsupported("temperature")}
    fields = {"temperature": 0.5, "insists": frozenset({"temperature"})}
    ask(fields, model={"dialect": {"refuses": ["temperature"]}})
    assert len(picky.requests) == 1


def test_refusal_is_remembered_only_if_the_request_without_it_was_answered(picky, serving):
    picky.refuses = {"seed": unsupported("seed"), "messages": unsupported("nothing")}

    async def run() -> None:
        async with clients(serving[1], "openai") as made:
            with pytest.raises(BadRequest):
                await made.of("m").complete(request_of("x", seed=3))
            picky.refuses = {}
            await made.of("m").complete(request_of("x", seed=3))

    asyncio.run(run())
    assert picky.last.body["seed"] == 3


def test_wrong_value_is_the_job_s_fault_and_nothing_is_left_out(picky, ask):
    message = "max_tokens is too large: 50. This model supports at most 16 completion tokens."
    picky.refuses = {"max_tokens": Answer(400, {"error": {"message": message, "param": "max_tokens", "code": None}})}
    (error,) = ask({"max_tokens": 50})
    assert "it refuses the field max_tokens" in str(error)
    assert len(picky.requests) == 1


def test_system_message_becomes_the_user_s_where_the_role_is_refused(picky, ask):
    picky.refuses = {"system": Answer(400, {"object": "error", "message": "System role not supported", "code": 400})}
    ask({}, {})
    assert [one["role"] for one in picky.last.body["messages"]] == ["user"]
    assert picky.last.body["messages"][0]["content"] == "You are brief.\n\nmy secret text"
    assert len(picky.requests) == 3


def test_stream_adapts_before_its_first_piece(picky, serving):
    picky.refuses = {"stream_options": forbidden("stream_options"), "seed": forbidden("seed")}

    async def run() -> list[Any]:
        async with clients(serving[1], "openai") as made:
            return [item async for item in made.of("m").stream(request_of("x", seed=3))]

    piece, reply = asyncio.run(run())
    assert (piece, reply.text) == ("hello", "hello")
    assert len(picky.requests) == 3


@pytest.mark.parametrize("answer", ['{"answer": ["a", "b"]}', '["a", "b"]', 'Here you are:\n```json\n["a", "b"]\n```'])
def test_array_schema_is_wrapped_and_never_refused_for_its_root(picky, ask, answer):
    picky.text = answer
    (reply,) = ask({"response_schema": LIST})
    assert json.loads(reply.text) == ["a", "b"]
    assert len(picky.requests) == 1
    assert picky.last.body["response_format"]["json_schema"]["schema"]["properties"]["answer"] == LIST


def test_response_format_that_is_refused_is_left_out_and_the_text_is_read(picky, ask):
    picky.refuses = {"response_format": unsupported("response_format")}
    picky.text = f"Sure!\n```json\n{ADA}\n```"
    replies = ask({"response_schema": SCHEMA}, {"response_schema": SCHEMA})
    assert [reply.text for reply in replies] == [ADA, ADA]
    assert len(picky.requests) == 3
    assert "satisfies this JSON Schema" in picky.last.body["messages"][0]["content"]


@pytest.mark.parametrize("dialect", ["deepseek", {"response_format": "tool"}, {"response_format": "none"}])
def test_schema_is_asked_for_in_the_form_of_the_dialect(picky, ask, dialect):
    picky.text = ADA
    (reply,) = ask({"response_schema": SCHEMA}, model={"dialect": dialect})
    assert reply.text == ADA
    asked = {"response_format", "tools"} & picky.last.body.keys()
    assert asked == {"deepseek": {"response_format"}}.get(str(dialect), {"tools"} if "tool" in str(dialect) else set())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"reasoning": "It is.", "answer": "yes"}', "yes"),
        ("Yes, because it is.", "Yes, because it is."),
    ],
)
def test_form_is_asked_for_and_free_text_is_as_good(picky, ask, answer, text):
    picky.text = answer
    (reply,) = ask({"answer_form": YES_NO})
    assert (reply.text, reply.reasoning) == (text, "It is." if text == "yes" else "")
    assert len(picky.requests) == 1


def test_form_that_is_refused_for_whatever_reason_is_not_asked_for_again(picky, ask):
    picky.refuses = {"response_format": Answer(400, {"error": {"message": "Grammar error", "code": "bad_grammar"}})}
    replies = ask({"answer_form": YES_NO})
    assert replies[0].text == "hello"
    assert ["response_format" in one.body for one in picky.requests] == [True, False]


def test_answer_that_was_cut_in_its_form_is_asked_for_as_free_text(picky, ask):
    picky.text = lambda body: '{"reasoning": "No. But' if "response_format" in body else "yes"
    picky.finish = "length"
    (reply,) = ask({"answer_form": YES_NO, "max_tokens": 100})
    assert (reply.text, reply.usage.output_tokens) == ("yes", 20)


def test_stream_of_a_form_is_unwrapped_in_one_piece(picky, serving):
    picky.text = '{"reasoning": null, "answer": "no"}'

    async def run() -> list[Any]:
        async with clients(serving[1], "openai") as made:
            return [item async for item in made.of("m").stream(replace(request_of("x"), answer_form=YES_NO))]

    piece, reply = asyncio.run(run())
    assert (piece, reply.text) == ("no", "no")
