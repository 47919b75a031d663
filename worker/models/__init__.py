"""Model clients, one for each provider's API; `Clients` makes and keeps them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tasks.config.config import Config
from tasks.config.models import Model
from tasks.config.secrets import read_secret
from tasks.contract.errors import ConfigError
from tasks.contract.model_client import ModelClient
from worker.models import anthropic, gemini
from worker.models.anthropic import AnthropicClient
from worker.models.gemini import GeminiClient
from worker.models.http import Http, Transport
from worker.models.openai import Embeddings, OpenAIClient
from worker.models.structured import Structured

__all__ = ["EMBEDDED_URL", "Clients", "find_base_url"]

#: The variables by which `pointsman up` gives its workers the addresses of the embedded models.
EMBEDDED_URL = {"simulated": "POINTSMAN_SIMULATED_URL", "local": "POINTSMAN_LOCAL_URL"}
#: The addresses of the other providers.
DEFAULT_URL = {
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}


class Clients:
    """The `ModelClients` of one event loop. All clients share their connections."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._transport = Transport()
        self._made: dict[str, ModelClient] = {}

    def of(self, model: str) -> ModelClient:
        client = self._made.get(model)
        if client is None:
            client = Structured(model, _make(model, self._config.models[model], self._transport))
            self._made[model] = client
        return client

    def embeddings(self, model: str) -> Embeddings:
        """The embeddings of a model that is served by OpenAI's API.

        Raises:
            ConfigError: for a model of another API.
        """
        settings = self._config.models[model]
        if settings.provider in DEFAULT_URL:
            raise ConfigError(f"models.{model}: provider {settings.provider} has no embeddings here; use openai")
        url = find_base_url(model, settings)
        http = _http(model, settings, url, _bearer_headers(_read_key(settings)), self._transport)
        return Embeddings(model, settings.model or model, http)

    async def close(self) -> None:
        await self._transport.aclose()


def _make(name: str, model: Model, transport: Transport) -> ModelClient:
    url = find_base_url(name, model)
    key = _read_key(model)
    if model.provider == "anthropic":
        version = model.api_version or anthropic.DEFAULT_VERSION
        headers = anthropic.build_headers(key, version)
        root, _ = _split_version(url)
        return AnthropicClient(name, _http(name, model, root, headers, transport), version=version)
    if model.provider == "gemini":
        root, version = _split_version(url)
        http = _http(name, model, root, gemini.build_headers(key), transport)
        return GeminiClient(name, http, version=version or gemini.DEFAULT_VERSION)
    return OpenAIClient(name, _http(name, model, url, _bearer_headers(key), transport), url)


def _http(name: str, model: Model, url: str, headers: Mapping[str, str], transport: Transport) -> Http:
    return Http(
        name,
        url,
        headers,
        transport,
        connect_timeout=model.connect_timeout,
        first_byte_timeout=model.first_byte_timeout,
    )


def _read_key(model: Model) -> str | None:
    return read_secret(model.api_key_env) if model.api_key_env else None


def _bearer_headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _split_version(url: str) -> tuple[str, str]:
    """The address without its version, and the version, such as ``v1beta``, "" where the address has none."""
    root, _, last = url.rstrip("/").rpartition("/")
    return (root, last) if re.fullmatch(r"v\d\w*", last) else (url, "")


def find_base_url(name: str, model: Model) -> str:
    """The address of a model's API.

    Raises:
        ConfigError: for an embedded model outside `pointsman up`, which starts them.
    """
    if model.base_url is not None:
        return model.base_url
    if model.provider in DEFAULT_URL:
        return DEFAULT_URL[model.provider]
    variable = EMBEDDED_URL[model.provider]
    url = os.environ.get(variable)
    if not url:
        raise ConfigError(
            f"models.{name}: provider {model.provider} is served by pointsman up; set {variable} or base_url"
        )
    return url
