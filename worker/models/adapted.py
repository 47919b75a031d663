"""A provider's client that speaks its model's dialect, and learns what the model's server refuses.

A parameter that a server refuses by name is left out, or sent under its other name, at once and in the same attempt.
What was answered without it is remembered, for this model in this process. A job that sets the parameter itself fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from tasks.config.dialects import Dialect
from tasks.contract.errors import BadRequest, ModelError, NoAnswer
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from worker.models.structured import LONG, Wrapped, read_wrapped, request_structure

log = logging.getLogger(__name__)

#: Parameters that are left out where a server refuses them.
_OPTIONAL = ("temperature", "top_p", "seed", "stop")
#: Each name of the bound on the answer's tokens, and the other one.
_OTHER_BOUND = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
#: The role of system messages where a server refuses this one.
_OTHER_ROLE = {"developer": "system", "system": "user"}


class ProviderClient(Protocol):
    """One provider's API, asked in a dialect; otherwise a `tasks.contract.model_client.ModelClient`."""

    async def complete(self, request: ModelRequest, dialect: Dialect) -> ModelReply: ...

    def stream(self, request: ModelRequest, dialect: Dialect) -> AsyncIterator[str | ModelReply]: ...


class Adapted:
    """A `ModelClient`. `name` is our name for the model, `provider` whose API it is."""

    def __init__(self, name: str, provider: str, client: ProviderClient, dialect: Dialect) -> None:
        self.name = name
        self.provider = provider
        self.configured = dialect
        #: What is sent now: `configured` without what was refused.
        self.dialect = dialect
        self._client = client

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The answer. Where it has the form that was asked for, its text is the plain value.

        An answer that was cut within this form is asked for once more, as free text; its usage is that of both.

        Raises:
            BadRequest: also for a parameter that the job itself sets and the server refuses.
            ModelError: as the provider's client does.
        """
        call = _Call(self, request)
        while True:
            sent, wrapped = call.prepare()
            try:
                reply = await self._client.complete(sent, call.dialect)
            except BadRequest as error:
                call.adapt(error, sent, wrapped)
                continue
            except ModelError as error:
                call.add_spent(error)
                raise
            self.remember(call.changes)
            try:
                reply = await self._read(reply, request, wrapped)
            except NoAnswer as cut:
                call.ask_plainly(cut)
                continue
            return reply if call.spent is None else replace(reply, usage=call.spent + reply.usage)

    async def _read(self, reply: ModelReply, request: ModelRequest, wrapped: Wrapped) -> ModelReply:
        if len(reply.text) > LONG:
            return await asyncio.to_thread(read_wrapped, self.name, reply, request, wrapped)
        return read_wrapped(self.name, reply, request, wrapped)

    async def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """The pieces as they come; an answer that has to be unwrapped in one piece."""
        call = _Call(self, request)
        while True:
            sent, wrapped = call.prepare()
            if wrapped:
                reply = await self.complete(request)
                yield reply.text
                yield reply
                return
            pieces = self._client.stream(sent, call.dialect)
            try:
                async for piece in pieces:
                    self.remember(call.changes)
                    call.changes = []
                    yield piece
            except BadRequest as error:
                call.adapt(error, sent, wrapped)
            else:
                return
            finally:
                # To close this iterator closes that one at once.
                if (close := getattr(pieces, "aclose", None)) is not None:
                    await close()

    def remember(self, changes: list[dict[str, Any]]) -> None:
        """Send this model's further requests with these changes, which its server has answered."""
        for change in changes:
            changed = apply_change(self.dialect, change)
            if changed != self.dialect:
                log.warning("model %s: its server refuses what its dialect says; from now on %s", self.name, change)
                self.dialect = changed


class _Call:
    """One call while its request is adapted: the dialect in which it is sent, and what is no longer sent."""

    def __init__(self, model: Adapted, request: ModelRequest) -> None:
        self.dialect = model.dialect
        #: The changes of the dialect, of which none is made twice.
        self.changes: list[dict[str, Any]] = []
        #: The usage of an answer that was cut in the form that was asked for.
        self.spent: Usage | None = None
        self._is_sent = False
        self._model = model
        self._request = request
        self._end = asyncio.get_running_loop().time() + request.timeout

    def prepare(self) -> tuple[ModelRequest, Wrapped]:
        """The request with what the dialect takes, and how its answer is wrapped."""
        request, refuses = self._request, self.dialect.refuses
        # What the configuration lists is never sent; what was learned is, if the job itself sets it: it has to fail.
        dropped: dict[str, Any] = {
            name: None
            for name in _OPTIONAL
            if name in self._model.configured.refuses or (name in refuses and name not in request.insists)
        }
        if self._is_sent:
            dropped["timeout"] = self._end - asyncio.get_running_loop().time()
        self._is_sent = True
        return request_structure(
            replace(request, **dropped) if dropped else request,
            self.dialect.response_format,
            any_root=self._model.provider == "gemini",
        )

    def adapt(self, error: BadRequest, sent: ModelRequest, wrapped: Wrapped) -> None:
        """Change what is sent by what the server refuses.

        Raises:
            BadRequest: if nothing is left to change, or the job insists.
        """
        self.add_spent(error)
        if not self._has_time():
            raise error
        change = self._find_change(error, sent)
        if change and change not in self.changes:
            self.changes.append(change)
            self.dialect = apply_change(self.dialect, change)
        elif wrapped == "form" and type(error) is BadRequest:
            # The form is optional: it may be what this server can't take, though it does not say so by name.
            self._request = replace(self._request, answer_form=None)
        else:
            raise error

    def ask_plainly(self, cut: NoAnswer) -> None:
        """Ask for free text, after an answer that was cut within the form that was asked for.

        Raises:
            NoAnswer: if there is no time left.
        """
        if not self._has_time():
            raise cut
        self.spent = cut.usage
        self._request = replace(self._request, answer_form=None)

    def add_spent(self, error: ModelError) -> None:
        """Add to an error what the answer before it cost."""
        if self.spent is not None:
            error.usage = self.spent if error.usage is None else self.spent + error.usage

    def _has_time(self) -> bool:
        return self._end > asyncio.get_running_loop().time()

    def _find_change(self, error: BadRequest, sent: ModelRequest) -> dict[str, Any]:
        """The change of the dialect after a refusal; empty where it names nothing that was sent."""
        refused, dialect = error.refused, self.dialect
        if refused in _OPTIONAL and getattr(sent, refused) is not None:
            if refused in self._request.insists:
                raise _explain(self._model.name, error, _REMEDY.format(refused))
            return {"refuses": (refused,)}
        if refused in _OTHER_BOUND and refused == dialect.max_tokens and sent.max_tokens is not None:
            change = {"max_tokens": _OTHER_BOUND[refused]}
            if any("max_tokens" in made for made in self.changes):
                raise _explain(self._model.name, error, _NO_BOUND)
            return change
        if refused == "stream_options":
            return {"refuses": (refused,)}
        if refused == "system_role" and dialect.system_role in _OTHER_ROLE:
            return {"system_role": _OTHER_ROLE[dialect.system_role]}
        if refused == "response_format" and sent.response_schema is not None:
            has_tool = self._model.provider == "anthropic" and dialect.response_format == "json_schema"
            return {"response_format": "tool" if has_tool else "none"}
        return {}


_REMEDY = "does not take {0}, which the job sets: leave it out, or list {0} under refuses in the model's dialect"
_NO_BOUND = "takes no bound on the tokens of its answer, by neither name: leave max_tokens out of the job and the model"


def _explain(name: str, error: BadRequest, problem: str) -> BadRequest:
    explained = BadRequest(name, f"HTTP {error.status}: its server {problem}", status=error.status)
    explained.refused, explained.rate_limits, explained.usage = error.refused, error.rate_limits, error.usage
    return explained


def apply_change(dialect: Dialect, change: Mapping[str, Any]) -> Dialect:
    """The dialect after a change; refused parameters are added to those that were refused before."""
    refuses = tuple(dict.fromkeys((*dialect.refuses, *change.get("refuses", ()))))
    return dialect.model_copy(update={**change, "refuses": refuses})
