"""The right client for each provider, from the configuration alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tasks.config.config import Config
from tasks.contract.errors import ConfigError
from tasks.loading.load import parse
from worker.models import Clients, find_base_url


def config(**model: object) -> Config:
    file = {"models": {"m": model}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}
    return parse(yaml.safe_dump(file))


def client_of(clients: Any) -> Any:
    """The client of the provider, inside of those that adapt its requests and check its answers."""
    return clients.of("m")._client._client


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("anthropic", "https://api.anthropic.com"),
        ("gemini", "https://generativelanguage.googleapis.com"),
    ],
)
def test_addresses_of_the_providers_are_known(provider, url):
    made = config(provider=provider)
    assert find_base_url("m", made.models["m"]) == url
    assert type(client_of(Clients(made))).__name__.lower().startswith(provider)


def test_client_is_made_once_and_shares_its_connections():
    made = Clients(config(provider="anthropic"))
    assert made.of("m") is made.of("m")
    assert client_of(made)._http._transport is made._transport


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"provider": "openai"}, "base_url is needed for provider openai"),
        (
            {"provider": "gemini", "api_version": "2026-10-21"},
            "api_version goes with provider anthropic, or with dialect azure",
        ),
        ({"provider": "anthropic", "api_version": "latest"}, "models.m.api_version"),
        ({"provider": "anthropic", "connect_timeout": 0}, "models.m.connect_timeout"),
        ({"provider": "anthropic", "first_byte_timeout": -1}, "models.m.first_byte_timeout"),
        ({"provider": "claude"}, "'openai', 'anthropic', 'gemini', 'simulated' or 'local'"),
    ],
)
def test_client_of_a_wrong_model_names_the_field(model, problem):
    with pytest.raises(ConfigError, match=r"models\.m") as caught:
        config(**model)
    assert problem in str(caught.value)


def test_timeouts_of_a_model_reach_its_client():
    http = client_of(Clients(config(provider="gemini", connect_timeout=3, first_byte_timeout=9)))._http
    assert (http._connect, http._first_byte) == (3.0, 9.0)


def test_embeddings_of_a_model_of_another_api_are_refused():
    with pytest.raises(ConfigError, match="provider anthropic has no embeddings here"):
        Clients(config(provider="anthropic")).embeddings("m")
