"""OpenAI's chat completions: OpenAI itself, vLLM, Ollama, Mistral, and our embedded models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.errors import BadReply
from tasks.job import Usage
from tasks.ports import ModelReply, ModelRequest
from worker.models.http import Http

__all__ = ["OpenAIClient"]


class OpenAIClient:
    """A `tasks.ports.ModelClient`."""

    def __init__(self, name: str, base_url: str, *, api_key: str | None) -> None:
        self._name = name
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = Http(name, base_url, headers)

    async def close(self) -> None:
        await self._http.close()

    async def complete(self, request: ModelRequest) -> ModelReply:
        reply = await self._http.post("chat/completions", body_of(request), timeout=request.timeout)
        return self._read(reply.data)

    def _read(self, data: Mapping[str, Any]) -> ModelReply:
        try:
            choice = data["choices"][0]
            text = choice["message"]["content"]
            usage = data.get("usage") or {}
            tokens = Usage(
                input_tokens=int(usage.get("prompt_tokens") or 0),
                output_tokens=int(usage.get("completion_tokens") or 0),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise BadReply(self._name, "answered with JSON that is no chat completion; is base_url right?") from None
        if text is None:
            text = ""
        if not isinstance(text, str):
            raise BadReply(self._name, "answered with content that is no text")
        return ModelReply(text, tokens, str(choice.get("finish_reason") or "stop"), data.get("simulated") is True)


def body_of(request: ModelRequest) -> dict[str, Any]:
    """The request's body; what the job left open is left to the provider."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
    }
    for field in ("temperature", "top_p", "max_tokens", "seed", "stop"):
        value = getattr(request, field)
        if value is not None:
            body[field] = value
    return body
