"""OpenAI's chat completions and embeddings.

Those of OpenAI itself, vLLM, Ollama, Mistral, Gemini's compatible address, our embedded models.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tasks.contract.errors import BadReply, ContentRefused
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.contract.schema import is_closed
from worker.models.faults import read_error_body
from worker.models.http import Http
from worker.models.provider import AnswerReader, follow, parse_event, reading
from worker.models.sse import Event

_PATH = "chat/completions"
#: Texts of one request for embeddings. OpenAI takes 2,048, others 256 and fewer; more than some dozens gain nothing.
BATCH = 64
#: Old and rare finish reasons in OpenAI's present words.
_FINISH = {"function_call": "tool_calls", "max_tokens": "length", "model_length": "length", "eos": "stop", "": "stop"}
#: Fields whose name differs from the one that most servers know; "" for none. OpenAI's reasoning models refuse
#: max_tokens, most other servers don't know its successor; Mistral refuses unknown fields.
_DIALECTS: Mapping[str, Mapping[str, str]] = {
    "api.openai.com": {"max_tokens": "max_completion_tokens"},
    "api.mistral.ai": {"seed": "random_seed", "stream_options": ""},
}


class OpenAIClient:
    """A `tasks.contract.model_client.ModelClient`."""

    def __init__(self, name: str, http: Http, base_url: str) -> None:
        self._name = name
        self._http = http
        self._dialect = _DIALECTS.get(urlsplit(base_url).hostname or "", {})

    async def complete(self, request: ModelRequest) -> ModelReply:
        answer = await self._http.post(_PATH, self._body(request), request.timeout, request.first_byte_timeout)
        data = answer.data
        if data.get("error") and not data.get("choices"):
            raise read_error_body(self._name, data)
        with reading(self._name, "answered with JSON that is no chat completion; is base_url right?"):
            choice = data["choices"][0]
            message = choice["message"]
            text = read_text(message.get("content"))
            finish = translate_finish(choice.get("finish_reason"))
            refusal = message.get("refusal")
            usage = read_usage(data.get("usage"))
        if (refusal and not text) or finish == "content_filter":
            raise _refused(self._name, finish)
        simulated = data.get("simulated") is True
        return ModelReply(text, usage, finish, simulated, answer.rate_limits, answer.first_byte_s)

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        body = self._body(request) | {"stream": True}
        if "stream_options" not in self._dialect:
            body["stream_options"] = {"include_usage": True}
        return follow(self._http, _PATH, body, request, _CompletionReader(self._name))

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body = build_body(request)
        for plain, own in self._dialect.items():
            if plain in body:
                body[own] = body.pop(plain)
        return body


def build_body(request: ModelRequest) -> dict[str, Any]:
    """The request's body, without the parameters that the job does not set."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
    }
    for field in ("temperature", "top_p", "max_tokens", "seed", "stop"):
        value = getattr(request, field)
        if value is not None:
            body[field] = value
    if request.response_schema is not None:
        schema = {"name": "answer", "schema": request.response_schema, "strict": is_closed(request.response_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


class _CompletionReader(AnswerReader):
    """The chunks of one completion, ended by ``[DONE]``, or by a finish reason where that is missing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._finish: str | None = None
        self._refused = False
        self._usage = Usage()
        self._simulated = False

    def feed(self, event: Event) -> str:
        if event.data.startswith("[DONE]"):
            self.done = True
            return ""
        data = parse_event(event, self._name)
        if data.get("error") or data.get("object") == "error" or event.name == "error":
            raise read_error_body(self._name, data)
        with reading(self._name, "streamed JSON that is no chat completion; is base_url right?"):
            # Some servers send the usage with the last piece, some with every piece, OpenAI in a chunk of its own.
            if data.get("usage"):
                self._usage = read_usage(data["usage"])
            self._simulated = self._simulated or data.get("simulated") is True
            if not (choices := data.get("choices") or ()):
                return ""
            choice = choices[0]
            if choice.get("finish_reason") is not None:
                self._finish = translate_finish(choice["finish_reason"])
            delta = choice.get("delta") or {}
            piece = read_text(delta.get("content"))
            self._refused = self._refused or bool(delta.get("refusal"))
        self._pieces.append(piece)
        return piece

    def reply(self) -> ModelReply:
        text = "".join(self._pieces)
        if (self._refused and not text) or self._finish == "content_filter":
            raise _refused(self._name, self._finish or "refusal")
        if self._finish is None and not self.done:
            raise BadReply(self._name, "ended its stream in the middle of the answer")
        return ModelReply(text, self._usage, self._finish or "stop", self._simulated)


class Embeddings:
    """Makes vectors of texts. `model` is the provider's name for the model, `name` ours."""

    def __init__(self, name: str, model: str, http: Http) -> None:
        self._name = name
        self._model = model
        self._http = http

    async def embed(self, texts: Sequence[str], *, timeout: float) -> list[list[float]]:
        """One vector a text, in their order; `timeout` is in seconds, for each request of at most 64 texts.

        Raises:
            ModelError: as a `ModelClient` does.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            answer = await self._http.post("embeddings", {"model": self._model, "input": batch}, timeout)
            vectors += self._read(answer.data, len(batch))
        return vectors

    def _read(self, data: Mapping[str, Any], count: int) -> list[list[float]]:
        if data.get("error"):
            raise read_error_body(self._name, data)
        with reading(self._name, "answered with JSON that is no list of embeddings; is base_url right?"):
            # The order of the list is not promised, that of the indices is.
            found = {int(item["index"]): [float(number) for number in item["embedding"]] for item in data["data"]}
            vectors = [found[index] for index in range(count)]
        if not vectors[0] or len({len(vector) for vector in vectors}) > 1:
            raise BadReply(self._name, "answered with embeddings of different lengths")
        return vectors


def read_text(content: Any) -> str:
    """The text of a message's content: a string, null, or a list of parts, of which Mistral's reasoning is one.

    Raises:
        TypeError: for anything else.
    """
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type", "text") == "text")
    if not isinstance(content, str):
        raise TypeError
    return content


def read_usage(usage: Any) -> Usage:
    """Tokens; zeros where the server doesn't count."""
    if not usage:
        return Usage()
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return Usage(
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        cached_tokens=int(cached or 0),
        reasoning_tokens=int(reasoning or 0),
    )


def translate_finish(reason: Any) -> str:
    word = str(reason or "")
    return _FINISH.get(word, word)


def _refused(name: str, finish: str) -> ContentRefused:
    word = "content_filter" if finish == "content_filter" else "refusal"
    return ContentRefused(name, f"the provider blocks this answer ({word}); change the input")
