"""Model clients, one a provider's API; `Clients` makes and keeps them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tasks.config import Config, Model, read_secret
from tasks.errors import ConfigError
from worker.models.openai import OpenAIClient

if TYPE_CHECKING:
    from tasks.ports import ModelClient

__all__ = ["EMBEDDED_URL", "Clients", "base_url_of"]

#: Where `pointsman up` tells its workers that the embedded models of each provider are.
EMBEDDED_URL = {"simulated": "POINTSMAN_SIMULATED_URL", "local": "POINTSMAN_LOCAL_URL"}


class Clients:
    """`tasks.ports.ModelClients`. Belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: dict[str, OpenAIClient] = {}

    def of(self, model: str) -> ModelClient:
        client = self._made.get(model)
        if client is None:
            client = self._made[model] = _make(model, self._config.models[model])
        return client

    async def close(self) -> None:
        for client in self._made.values():
            await client.close()


def _make(name: str, model: Model) -> OpenAIClient:
    return OpenAIClient(
        name,
        base_url_of(name, model),
        api_key=read_secret(model.api_key_env) if model.api_key_env else None,
    )


def base_url_of(name: str, model: Model) -> str:
    """Where a model's API is.

    Raises:
        ConfigError: for an embedded model outside `pointsman up`, which starts them.
    """
    if model.base_url is not None:
        return model.base_url
    variable = EMBEDDED_URL[model.provider]
    url = os.environ.get(variable)
    if not url:
        raise ConfigError(
            f"models.{name}: provider {model.provider} is served by pointsman up; set {variable} or base_url"
        )
    return url
