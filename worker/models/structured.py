"""Answers that satisfy a job's JSON Schema: requested in the provider's own way, checked here, repaired once.

The provider's check does not suffice: some servers ignore the schema, some support a part of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.contract.answer import NotJSON, is_whole_json, parse_answer
from tasks.contract.errors import AnswerCut, ModelError, NoAnswer, SchemaMismatch
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelClient, ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.contract.schema import AnswerProblem, find_problem

#: Characters of an answer, and of its problem, that a repair repeats to the model.
_MOST_ANSWER = 20_000
_MOST_PROBLEM = 500
#: Characters of an answer that a thread checks.
_LONG = 20_000
#: The problem of an answer that no schema can check.
_NO_JSON = "is not JSON"


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
    return await asyncio.to_thread(_check, schema, text) if len(text) > _LONG else _check(schema, text)


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
