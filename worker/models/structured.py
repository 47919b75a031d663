"""Structured answers: requested in the strongest form that a model's dialect has, unwrapped, checked, repaired once.

The provider's check does not suffice: some servers ignore the schema, some support a part of it. A schema that an API
can't take as it is stands in an object, under `ANSWER`. An `answer_form` stands there beside the model's reasoning, so
that a prompt that says "think first" is obeyed; an answer in another form is passed on, and read as free text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from tasks.config.dialects import Structure
from tasks.contract.answer import NotJSON, closed_object, is_whole_json, parse_answer
from tasks.contract.errors import AnswerCut, ModelError, NoAnswer, SchemaMismatch
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelClient, ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.contract.schema import AnswerProblem, find_problem, walk_schema

#: Characters of an answer, and of its problem, that a repair repeats to the model.
_MOST_ANSWER = 20_000
_MOST_PROBLEM = 500
#: Characters of an answer that a thread reads.
LONG = 20_000
#: The problem of an answer that no schema can check.
_NO_JSON = "is not JSON"
#: How an answer is wrapped: not at all, a `response_schema` in an object, an `answer_form` with its reasoning.
Wrapped: TypeAlias = Literal["", "schema", "form"]
#: Tokens of an answer below which no form is asked for: the wrapping would be cut.
LEAST_TOKENS = 64
#: The name of a structured answer: of its schema, of the tool that a model must "call" with it, and in a wrapping.
ANSWER = "answer"
REASONING = "reasoning"
_REASONING = {"type": ["string", "null"], "description": "Your thoughts, if the task asks for any; else null."}
#: Keywords that APIs refuse at the root of a schema.
_NOT_AT_ROOT = frozenset({"anyOf", "oneOf", "allOf", "not", "enum", "const", "$ref", "if"})
_REQUEST = "Answer with JSON alone, which satisfies this JSON Schema: "


class Structured:
    """A `ModelClient` around another one. Requests without a schema pass through unchanged."""

    def __init__(self, name: str, client: ModelClient) -> None:
        self._name = name
        self._client = client

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The answer as plain JSON. Its usage is that of both attempts, where there were two.

        Raises:
            AnswerCut: if an answer was cut before its JSON was whole.
            SchemaMismatch: if the second attempt does not satisfy the schema either, or if there is no time for one.
            ModelError: as the client does. Its `usage` is that of the answers that came before.
        """
        if request.response_schema is None:
            return await self._client.complete(request)
        schema = request.response_schema
        end = asyncio.get_running_loop().time() + request.timeout
        first = await self._ask(request)
        problem, text = await _read(schema, first.text)
        if problem is None:
            return replace(first, text=text)
        left = end - asyncio.get_running_loop().time()
        if left <= 0:
            raise self._mismatch(problem, first.usage)
        try:
            second = await self._ask(_repair_request(request, first.text, problem, left))
        except ModelError as failed:
            failed.usage = first.usage if failed.usage is None else first.usage + failed.usage
            raise
        usage = first.usage + second.usage
        problem, text = await _read(schema, second.text)
        if problem is not None:
            raise self._mismatch(problem, usage)
        return replace(second, text=text, usage=usage, first_byte_s=first.first_byte_s)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """The pieces as they come; an answer with a schema in one piece, since it is checked first."""
        if request.response_schema is not None:
            reply = await self.complete(request)
            yield reply.text
            yield reply
            return
        pieces = self._client.stream(request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            # To close this iterator closes that one at once.
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    async def _ask(self, request: ModelRequest) -> ModelReply:
        """One answer that is whole.

        Raises:
            AnswerCut: if it was cut before its JSON was whole, or before its first word.
            ModelError: as the client does.
        """
        try:
            reply = await self._client.complete(request)
        except NoAnswer as failed:
            if failed.cut:
                raise self._cut(request, failed) from None
            raise
        if not reply.truncated:
            return reply
        if not is_whole_json(reply.text):
            raise self._cut(request, reply)
        # Nothing is missing.
        return replace(reply, finish_reason="stop")

    def _cut(self, request: ModelRequest, end: ModelReply | NoAnswer) -> AnswerCut:
        bound = request.max_tokens
        where = "by the model's own limit" if bound is None else f"after {bound:,} tokens"
        problem = f"its answer was cut {where}, before its JSON was whole; raise max_tokens"
        cut = AnswerCut(self._name, problem, bound=bound, usage=end.usage)
        cut.rate_limits = end.rate_limits
        return cut

    def _mismatch(self, problem: AnswerProblem, usage: Usage) -> SchemaMismatch:
        at = f"does not satisfy response_schema at {problem.rule[:120]}"
        found = f"its answer {_NO_JSON if problem.what == _NO_JSON else at}"
        text = f"{found}; describe the form in the prompt, or make the schema simpler"
        return SchemaMismatch(self._name, text, usage=usage)


async def _read(schema: Mapping[str, Any], text: str) -> tuple[AnswerProblem | None, str]:
    """The problem of an answer, or None, and its JSON without the text around it."""
    # The check of a long answer takes seconds, in which the event loop could not renew the leases of this process.
    return await asyncio.to_thread(_check, schema, text) if len(text) > LONG else _check(schema, text)


def _check(schema: Mapping[str, Any], text: str) -> tuple[AnswerProblem | None, str]:
    try:
        answer = parse_answer(text)
    except NotJSON:
        return AnswerProblem("the answer", _NO_JSON, ""), text
    problem = find_problem(schema, answer)
    return problem, text if problem is not None else json.dumps(answer, ensure_ascii=False)


def _repair_request(request: ModelRequest, text: str, problem: AnswerProblem, left: float) -> ModelRequest:
    """The request for the repair: the conversation, the answer, and its problem."""
    found = f"{problem.where[:_MOST_PROBLEM]}: {problem.what[:_MOST_PROBLEM]}"
    asked = (
        f"This answer does not satisfy the required JSON Schema. {found}\nAnswer again, with the corrected JSON alone."
    )
    turns = (Message(role="assistant", content=text[:_MOST_ANSWER] or "(nothing)"), Message(role="user", content=asked))
    return replace(request, messages=(*request.messages, *turns), timeout=left)


# -- the wrapping, pure --------------------------------------------------------------------------


def request_structure(request: ModelRequest, form: Structure, *, any_root: bool) -> tuple[ModelRequest, Wrapped]:
    """The request with the schema that is sent, and how the answer to it is wrapped.

    `form` is the strongest that the dialect has. Where it has no schemas, the system message asks for one, and an
    `answer_form` is not asked for. `any_root`: the API takes a schema whose root is no object.
    """
    if request.response_schema is None:
        short = request.max_tokens is not None and request.max_tokens < LEAST_TOKENS
        # A stop sequence could cut the wrapping.
        if request.answer_form is None or short or request.stop or form in {"json_object", "none"}:
            return request, ""
        wrapping = closed_object(**{REASONING: _REASONING, ANSWER: request.answer_form})
        return replace(request, response_schema=wrapping), "form"
    if form == "none":
        return _ask_in_words(replace(request, response_schema=None), request.response_schema), ""
    wrapped: Wrapped = "" if any_root or _is_object(request.response_schema) else "schema"
    schema = _wrap(request.response_schema) if wrapped else request.response_schema
    sent = replace(request, response_schema=schema)
    return _ask_in_words(sent, schema) if form == "json_object" else sent, wrapped


def read_wrapped(name: str, reply: ModelReply, request: ModelRequest, wrapped: Wrapped) -> ModelReply:
    """The reply with the plain value as its text and the reasoning beside it; unchanged if it came in another form.

    Raises:
        NoAnswer: for a wrapping that was cut before the value, or that holds an empty one.
    """
    if not wrapped:
        return reply
    text = reply.text.strip()
    begins = text.removeprefix("```json").lstrip("`\n ")
    try:
        found = parse_answer(text)
    except NotJSON:
        found = None
        if wrapped == "form" and reply.finish_reason == "length" and begins.startswith("{"):
            raise _no_answer(
                name, reply, "was cut off (length) before its answer; raise max_tokens", cut=True
            ) from None
    if not isinstance(found, dict) or ANSWER not in found:
        return reply
    value = found[ANSWER]
    if wrapped == "schema":
        return replace(reply, text=json.dumps(value, ensure_ascii=False)) if found.keys() == {ANSWER} else reply
    is_whole = begins.startswith("{") and found.keys() <= {ANSWER, REASONING}
    if not is_whole and find_problem(request.answer_form or {}, value) is not None:
        return reply
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not plain.strip():
        raise _no_answer(name, reply, "answered with an empty value")
    thoughts = found.get(REASONING)
    reasoning = "\n\n".join(filter(None, (reply.reasoning, thoughts if isinstance(thoughts, str) else "")))
    # Nothing is missing of a whole wrapping, whatever was still to come.
    return replace(reply, text=plain, reasoning=reasoning, finish_reason="stop" if is_whole else reply.finish_reason)


def _no_answer(name: str, reply: ModelReply, problem: str, *, cut: bool = False) -> NoAnswer:
    error = NoAnswer(name, problem)
    error.cut = cut
    error.usage, error.rate_limits = reply.usage, reply.rate_limits
    return error


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Whether every API takes the schema at its root."""
    return schema.get("type") == "object" and not _NOT_AT_ROOT & schema.keys()


def _wrap(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the schema under `ANSWER`. Its `$defs` stay at the root, other references follow it."""
    inner = json.loads(json.dumps(schema))
    parts: list[Any] = [part for _, part in walk_schema(inner, "#", 0)]
    for part in parts:
        for keyword in ("$ref", "$dynamicRef"):
            target = part.get(keyword)
            if isinstance(target, str) and target.startswith("#") and not target.startswith("#/$defs/"):
                part[keyword] = f"#/properties/{ANSWER}{target[1:]}"
    shared = {name: inner.pop(name) for name in ("$defs", "$schema") if name in inner}
    return closed_object(**{ANSWER: inner}) | shared


def _ask_in_words(request: ModelRequest, schema: Mapping[str, Any]) -> ModelRequest:
    """The request with the schema in its system message."""
    asked = _REQUEST + json.dumps(schema, ensure_ascii=False)
    first, rest = request.messages[0], request.messages[1:]
    if first.role == "system":
        return replace(request, messages=(Message(role="system", content=f"{first.content}\n\n{asked}"), *rest))
    return replace(request, messages=(Message(role="system", content=asked), *request.messages))
