"""OpenAI's chat completions and embeddings.

Those of OpenAI itself, vLLM, Ollama, Mistral, Gemini's compatible address, our embedded models.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.config.dialects import Dialect
from tasks.contract.errors import BadReply
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.schema import is_closed
from worker.models.endings import OPENAI
from worker.models.error_report import says_error
from worker.models.faults import read_error_body
from worker.models.http import Http
from worker.models.provider import (
    AnswerReader,
    add_fields,
    follow,
    merge_system,
    parse_event,
    read_string,
    read_whole,
    reading,
)
from worker.models.sse import Event
from worker.models.structured import ANSWER
from worker.models.token_usage import TokenCounts

_PATH = "chat/completions"
#: Texts of one request for embeddings. OpenAI takes 2,048, others 256 and fewer; more than some dozens gain nothing.
BATCH = 64


class OpenAIClient:
    """A `worker.models.adapted.ProviderClient`. `version` is that of Azure's API, "" for none."""

    def __init__(self, name: str, http: Http, *, version: str = "") -> None:
        self._name = name
        self._http = http
        self._path = add_version(_PATH, version)

    async def complete(self, request: ModelRequest, dialect: Dialect) -> ModelReply:
        body = build_body(request, dialect)
        answer = await self._http.post(self._path, body, request.timeout, request.first_byte_timeout)
        return read_whole(CompletionReader(self._name, request), answer)

    def stream(self, request: ModelRequest, dialect: Dialect) -> AsyncIterator[str | ModelReply]:
        body = build_body(request, dialect) | {"stream": True}
        if "stream_options" not in dialect.refuses:
            body["stream_options"] = {"include_usage": True}
        return follow(self._http, self._path, body, request, CompletionReader(self._name, request))


def add_version(path: str, version: str) -> str:
    """The path with Azure's version of the API."""
    return f"{path}?api-version={version}" if version else path


def build_body(request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
    """The request's body, without the parameters that the job does not set."""
    body: dict[str, Any] = {"model": request.model, "messages": _build_messages(request, dialect.system_role)}
    names = {"max_tokens": dialect.max_tokens, "seed": dialect.seed}
    for field in ("temperature", "top_p", "max_tokens", "seed", "stop"):
        value = getattr(request, field)
        if value is not None:
            body[names.get(field, field)] = value
    if (schema := request.response_schema) is not None:
        match dialect.response_format:
            case "json_schema":
                form = {"name": ANSWER, "schema": schema, "strict": is_closed(schema)}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            case "json_object":
                body["response_format"] = {"type": "json_object"}
            case "tool":
                function: dict[str, Any] = {"name": ANSWER, "description": "Gives the answer.", "parameters": schema}
                if is_closed(schema):
                    function["strict"] = True
                body["tools"] = [{"type": "function", "function": function}]
                body["tool_choice"] = {"type": "function", "function": {"name": ANSWER}}
    return add_fields(body, dialect)


def _build_messages(request: ModelRequest, system_role: str) -> list[dict[str, str]]:
    if system_role == "user":
        # Servers without system messages often want the roles to alternate, too.
        return [{"role": role, "content": text} for role, text in merge_system(request.messages)]
    return [
        {"role": system_role if message.role == "system" else message.role, "content": message.content}
        for message in request.messages
    ]


class CompletionReader(AnswerReader):
    """One completion, whole or in chunks.

    A stream ends with ``[DONE]``, or with its connection after the finish reason. A server that never names a finish
    reason has to end properly all the same: with its body, or with ``[DONE]``.
    """

    endings = OPENAI

    def __init__(self, name: str, request: ModelRequest) -> None:
        super().__init__(name, request)
        self._names_reasons = False
        self._simulated = False

    def feed(self, event: Event) -> str:
        if event.data.startswith("[DONE]"):
            self.done = True
            return ""
        data = parse_event(event, self._name)
        if says_error(data, "choices", "usage") or event.name == "error":
            raise self._error(data)
        with reading(self._name, "streamed JSON that is no chat completion; is base_url right?"):
            return self._read(data, "delta")

    def take(self, data: Mapping[str, Any]) -> None:
        if says_error(data, "choices"):
            raise self._error(data)
        with reading(self._name, "answered with JSON that is no chat completion; is base_url right?"):
            choices = data["choices"]
            if choices and not choices[0].get("error"):
                choices[0]["message"].get("content")
            self._read(data, "message")
        self.done = True

    def reply(self) -> ModelReply:
        return replace(super().reply(), simulated=self._simulated)

    def _conclude(self, text: str, *, has_thoughts: bool) -> str:
        if self._reason is None and self.done and not self._names_reasons:
            self._reason = "stop"
        self.done = self.done or self._reason is not None
        return super()._conclude(text, has_thoughts=has_thoughts)

    def _read(self, data: Mapping[str, Any], field: str) -> str:
        # Some servers send the usage with the last piece, some with every piece, OpenAI in a chunk of its own.
        if data.get("usage"):
            self._counts = read_counts(data["usage"])
        self._simulated = self._simulated or data.get("simulated") is True
        if not (choices := data.get("choices")):
            return ""
        choice = choices[0]
        if choice.get("error"):
            raise self._error({"error": choice["error"]})
        self._names_reasons = self._names_reasons or "finish_reason" in choice
        # DashScope writes the word null while an answer goes on.
        if (reason := choice.get("finish_reason")) and reason != "null":
            self._reason = reason
        message = choice.get(field) or {}
        self._take_calls(message)
        # The same thoughts under two names, where a server has both.
        self._thoughts.append(read_string(message.get("reasoning_content") or message.get("reasoning")))
        pieces = len(self._pieces)
        self._take_content(message.get("content"))
        self._refuses = self._refuses or _is_filled(message.get("refusal"))
        return "".join(self._pieces[pieces:])

    def _take_calls(self, message: Mapping[str, Any]) -> None:
        """The calls of tools; that of the tool for the form of the answer comes in pieces in a stream."""
        for place, call in enumerate(message.get("tool_calls") or ()):
            function, index = call.get("function") or {}, call.get("index", place)
            if function.get("name") == ANSWER and self._request.response_schema is not None:
                self._inputs.setdefault(index, [])
            if index in self._inputs:
                self._inputs[index].append(read_string(function.get("arguments")))
            else:
                self._calls_tool = True
        self._calls_tool = self._calls_tool or bool(message.get("function_call"))

    def _take_content(self, content: Any) -> None:
        """A message's content: a string, null, or a list of parts, of which Mistral's reasoning is one."""
        for part in content if isinstance(content, list) else (content,):
            if not isinstance(part, Mapping):
                self._pieces.append(read_string(part))
            elif (kind := part.get("type", "text")) in {"text", "output_text"}:
                self._pieces.append(read_string(part["text"]))
            elif kind == "refusal":
                self._refuses = True
            elif kind in {"thinking", "reasoning"}:
                self._thoughts += _read_thoughts(part.get("thinking") or part.get("text"))


def _read_thoughts(thoughts: Any) -> list[str]:
    if isinstance(thoughts, list):
        return [read_string(part.get("text")) for part in thoughts]
    return [read_string(thoughts)]


def _is_filled(refusal: Any) -> bool:
    return bool(refusal.strip() if isinstance(refusal, str) else refusal)


class Embeddings:
    """Makes vectors of texts. `model` is the provider's name for the model, `name` ours."""

    def __init__(self, name: str, model: str, http: Http, *, version: str = "") -> None:
        self._name = name
        self._model = model
        self._http = http
        self._path = add_version("embeddings", version)

    async def embed(self, texts: Sequence[str], *, timeout: float) -> list[list[float]]:
        """One vector a text, in their order; `timeout` is in seconds, for each request of at most 64 texts.

        Raises:
            ModelError: as a `ModelClient` does.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            answer = await self._http.post(self._path, {"model": self._model, "input": batch}, timeout)
            vectors += self._read(answer.data, len(batch))
        return vectors

    def _read(self, data: Mapping[str, Any], count: int) -> list[list[float]]:
        if says_error(data, "data"):
            raise read_error_body(self._name, data)
        with reading(self._name, "answered with JSON that is no list of embeddings; is base_url right?"):
            # The order of the list is not promised, that of the indices is.
            found = {int(item["index"]): [float(number) for number in item["embedding"]] for item in data["data"]}
            vectors = [found[index] for index in range(count)]
        if not vectors[0] or len({len(vector) for vector in vectors}) > 1:
            raise BadReply(self._name, "answered with embeddings of different lengths")
        return vectors


def read_counts(usage: Any) -> TokenCounts:
    """The counts of a completion; DeepSeek has a name of its own for those from the cache."""
    if not isinstance(usage, Mapping):
        return TokenCounts()
    given, written = (usage.get(f"{side}_tokens_details") for side in ("prompt", "completion"))
    cached = given.get("cached_tokens") if isinstance(given, Mapping) else None
    return TokenCounts(
        input=usage.get("prompt_tokens"),
        output=usage.get("completion_tokens"),
        total=usage.get("total_tokens"),
        cached=usage.get("prompt_cache_hit_tokens") if cached is None else cached,
        reasoning=written.get("reasoning_tokens") if isinstance(written, Mapping) else None,
    )
