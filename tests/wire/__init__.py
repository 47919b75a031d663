"""Replies of the providers as they come over HTTP, with what they have to lead to; see the head of openai.yaml."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.providers.serving import Answer, Provider, Request, sse
from tests.wire import hostile

PROVIDERS = ("openai", "anthropic", "gemini")
#: The schema of replies that answer one: an open one, for which Anthropic has a tool.
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"risks": {"type": "array"}}, "required": ["risks"]}
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "good"}, "finish_reason": "stop"}]}


@dataclass(frozen=True)
class WireReply:
    provider: str
    name: str
    #: Where this form is documented, or was reported.
    source: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    type: str = "application/json"
    body: Any = None
    text: str | None = None
    events: list[Any] | None = None
    schema: bool = False
    #: The body satisfies the types of the provider's own package; of its class for errors where it has one.
    typed: bool = False
    error_type: str = ""
    # -- what it leads to
    answer: str | None = None
    finish: str = "stop"
    reasoning: str = ""
    error: str = ""
    #: Attempts at this model, before another one is asked.
    attempts: int = 1
    #: Seconds that the provider asks to wait.
    wait: float | None = None
    usage: list[int] | None = None
    estimated: bool = False
    says: str = ""
    says_not: str = "secret"
    #: Whether the model is open to others afterwards.
    open: bool = True

    @property
    def model(self) -> str:
        return f"{self.provider}-{self.name}"

    @property
    def reply(self) -> Answer:
        if self.events is not None:
            events = [sse(item, named=self.provider == "anthropic") if isinstance(item, dict) else [_line(item)]
                      for item in self.events]  # fmt: skip
            return Answer(self.status, headers=self.headers, events=[chunk for chunks in events for chunk in chunks])
        content = json.dumps(self.body) if self.text is None else self.text
        return Answer(self.status, content.encode(), self.headers, kind=self.type)


def _line(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


@cache
def read_replies(file: str) -> tuple[WireReply, ...]:
    """The replies of a file; that of a provider is named as it is."""
    items = yaml.safe_load((Path(__file__).parent / f"{file}.yaml").read_text())
    return tuple(WireReply(**{"provider": file, **item}) for item in items)


def whole_replies() -> list[WireReply]:
    return [reply for provider in PROVIDERS for reply in read_replies(provider)]


class Replaying(Provider):
    """A server of all three APIs. The model that is asked for, or else the text, names the reply; none is `GOOD`."""

    def __init__(self) -> None:
        super().__init__()
        self._replies = {reply.model: reply.reply for reply in (*whole_replies(), *read_replies("streams"))}
        hurting = {name: answer for name, (answer, _, _) in hostile.FAILURES.items()} | dict(hostile.ANSWERS)
        self._replies |= {f"hostile-{name}": answer for name, answer in hurting.items()}

    def answer(self, request: Request) -> Answer:
        model = request.body.get("model") or request.path.partition("/models/")[2].partition(":")[0]
        if model in self._replies:
            return self._replies[model]
        return self._replies.get(request.body["messages"][-1]["content"], Answer(body=GOOD))
