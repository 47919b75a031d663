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
from worker.models.adapted import Adapted, ProviderClient
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
            settings = self._config.models[model]
            made = _make(model, settings, self._transport)
            client = Structured(model, Adapted(model, settings.provider, made, settings.speaks))
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
        http = _http(model, settings, url, _headers(model, settings), self._transport)
        return Embeddings(model, settings.model or model, http, version=settings.api_version or "")

    async def close(self) -> None:
        await self._transport.aclose()


def _make(name: str, model: Model, transport: Transport) -> ProviderClient:
    url, headers = find_base_url(name, model), _headers(name, model)
    if model.provider == "anthropic":
        root, _ = _split_version(url)
        http = _http(name, model, root, headers, transport)
        return AnthropicClient(name, http, version=model.api_version or anthropic.DEFAULT_VERSION)
    if model.provider == "gemini":
        root, version = _split_version(url)
        http = _http(name, model, root, headers, transport)
        return GeminiClient(name, http, version=version or gemini.DEFAULT_VERSION)
    return OpenAIClient(name, _http(name, model, url, headers, transport), version=model.api_version or "")


def _http(name: str, model: Model, url: str, headers: Mapping[str, str], transport: Transport) -> Http:
    return Http(
        name,
        url,
        headers,
        transport,
        connect_timeout=model.connect_timeout,
        first_byte_timeout=model.first_byte_timeout,
    )


def _headers(name: str, model: Model) -> dict[str, str]:
    """The headers of the key, and those of the dialect.

    Raises:
        ConfigError: for a header without its environment variable.
    """
    dialect = model.speaks
    headers = {}
    version = model.api_version or anthropic.DEFAULT_VERSION
    if model.provider == "anthropic":
        headers["anthropic-version"] = version
    if key := read_secret(model.api_key_env) if model.api_key_env else None:
        field = dialect.key_header or {
            "anthropic": anthropic.key_header(version),
            "gemini": gemini.KEY_HEADER,
        }.get(model.provider, "Authorization")
        headers[field] = f"Bearer {key}" if field.lower() == "authorization" else key
    for field, variable in dialect.headers_env.items():
        if not (secret := read_secret(variable)):
            raise ConfigError(f"models.{name}.dialect.headers_env.{field}: the variable {variable} is not set")
        headers[field] = secret
    return {**headers, **dialect.headers}


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
