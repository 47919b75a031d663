"""Each dialect: what is sent, in which names; settings over a preset; what no configuration may say."""

from __future__ import annotations

import os
from typing import Any, get_args
from unittest import mock

import pytest
import yaml

from tasks.config.dialects import DEFAULT_PRESETS, PRESETS, Preset
from tasks.config.models import Model
from tasks.contract.errors import ConfigError
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelRequest
from tasks.loading.load import parse
from worker.models import Clients
from worker.models.gemini import build_body as build_gemini
from worker.models.openai import build_body

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
MESSAGES = (Message(role="system", content="Be brief."), Message(role="user", content="Hello"))
REQUEST = ModelRequest(
    "m", MESSAGES, 30.0, temperature=0.5, max_tokens=100, seed=3, stop=("x",), response_schema=SCHEMA
)


def model_of(**fields: object) -> Model:
    fields = {"provider": "openai", "base_url": "http://127.0.0.1:8000/v1", **fields}
    file = {"models": {"m": fields}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}
    return parse(yaml.safe_dump(file)).models["m"]


def clients_of(**fields: object) -> Clients:
    file = {"models": {"m": fields}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}
    return Clients(parse(yaml.safe_dump(file)))


def http_of(**fields: object) -> Any:
    with mock.patch.dict(os.environ, {"KEY": "sk-1", "GATEWAY": "g-2"}):
        structured: Any = clients_of(**fields).of("m")
    return structured._client._client


def sent_by(dialect: object) -> dict[str, object]:
    body = build_body(REQUEST, model_of(dialect=dialect).speaks)
    return {name: value for name, value in body.items() if name not in {"model", "messages", "temperature", "stop"}}


def test_presets_and_providers_all_have_their_settings():
    assert set(PRESETS) == set(get_args(Preset))
    assert set(DEFAULT_PRESETS) == set(get_args(Model.model_fields["provider"].annotation))
    assert all(dialect.preset == name for name, dialect in PRESETS.items())


@pytest.mark.parametrize(
    ("preset", "bound", "seed", "form"),
    [
        ("plain", "max_tokens", "seed", "json_schema"),
        ("openai", "max_completion_tokens", "seed", "json_schema"),
        ("azure", "max_completion_tokens", "seed", "json_schema"),
        ("vllm", "max_tokens", "seed", "json_schema"),
        ("ollama", "max_tokens", "seed", "json_schema"),
        ("llamacpp", "max_tokens", "seed", "json_schema"),
        ("mistral", "max_tokens", "random_seed", "json_schema"),
        ("groq", "max_completion_tokens", "seed", "json_schema"),
        ("openrouter", "max_tokens", "seed", "json_schema"),
        ("xai", "max_completion_tokens", "seed", "json_schema"),
        ("deepseek", "max_tokens", "seed", "json_object"),
        ("gemini", "max_tokens", "seed", "json_schema"),
    ],
)
def test_preset_names_the_fields_of_its_server(preset, bound, seed, form):
    sent = sent_by(preset)
    assert sent.keys() == {bound, seed, "response_format"}
    assert (sent[bound], sent[seed], sent["response_format"]["type"]) == (100, 3, form)


def test_host_name_decides_nothing():
    assert model_of(base_url="https://api.openai.com/v1").speaks == PRESETS["plain"]
    assert model_of(base_url="https://api.mistral.ai/v1").speaks == PRESETS["plain"]


def test_setting_takes_precedence_over_its_preset():
    sent = sent_by({"preset": "openai", "max_tokens": "max_tokens", "seed": "random_seed", "response_format": "none"})
    assert sent == {"max_tokens": 100, "random_seed": 3}
    assert model_of(dialect={"preset": "mistral", "refuses": ["stop"]}).speaks.refuses == ("stream_options", "stop")


def test_tool_is_the_form_where_the_dialect_says_so():
    sent = sent_by({"response_format": "tool"})
    assert sent["tools"][0]["function"]["parameters"] == SCHEMA
    assert sent["tools"][0]["function"]["strict"] is True
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "answer"}}


@pytest.mark.parametrize(
    ("role", "messages"),
    [
        ("system", [("system", "Be brief."), ("user", "Hello")]),
        ("developer", [("developer", "Be brief."), ("user", "Hello")]),
        ("user", [("user", "Be brief.\n\nHello")]),
    ],
)
def test_system_messages_have_the_role_that_the_server_knows(role, messages):
    body = build_body(REQUEST, model_of(dialect={"system_role": role}).speaks)
    assert [(one["role"], one["content"]) for one in body["messages"]] == messages


def test_further_fields_are_sent_and_take_nothing_from_the_job():
    dialect = model_of(dialect={"body": {"top_k": 5, "provider": {"require_parameters": True}}}).speaks
    body = build_body(REQUEST, dialect)
    assert (body["top_k"], body["provider"]) == (5, {"require_parameters": True})
    own = model_of(
        provider="gemini", base_url=None, dialect={"body": {"generationConfig": {"temperature": 1, "topK": 3}}}
    )
    config = build_gemini(REQUEST, own.speaks)["generationConfig"]
    assert (config["temperature"], config["topK"]) == (0.5, 3)


def test_azure_sends_its_key_and_its_version_as_azure_wants_them():
    url = "https://x.openai.azure.com/openai/deployments/d"
    client = http_of(provider="openai", base_url=url, dialect="azure", api_version="2024-10-21", api_key_env="KEY")
    assert client._path == "chat/completions?api-version=2024-10-21"
    assert client._http._headers["api-key"] == "sk-1"
    assert "authorization" not in client._http._headers


def test_headers_come_from_settings_secret_ones_from_the_environment():
    fields = {"provider": "openai", "base_url": "http://127.0.0.1:8000/v1", "api_key_env": "KEY"}
    dialect = {"preset": "openrouter", "headers": {"X-Title": "Support"}, "headers_env": {"X-Gateway-Key": "GATEWAY"}}
    headers = http_of(**fields, dialect=dialect)._http._headers
    assert (headers["x-title"], headers["x-gateway-key"]) == ("Support", "g-2")
    assert headers["authorization"] == "Bearer sk-1"
    beta = {"headers": {"anthropic-beta": "context-1m"}}
    headers = http_of(provider="anthropic", api_key_env="KEY", dialect=beta)._http._headers
    assert (headers["anthropic-beta"], headers["x-api-key"]) == ("context-1m", "sk-1")
    bearer = http_of(provider="anthropic", api_key_env="KEY", dialect={"key_header": "Authorization"})
    assert bearer._http._headers["authorization"] == "Bearer sk-1"
    assert "x-api-key" not in bearer._http._headers


def test_header_without_its_variable_is_told_by_name():
    with pytest.raises(ConfigError, match=r"models\.m\.dialect\.headers_env\.X-Key: the variable NOT_SET_1 is not set"):
        clients_of(
            provider="openai", base_url="http://127.0.0.1:1/v1", dialect={"headers_env": {"X-Key": "NOT_SET_1"}}
        ).of("m")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"dialect": "opanai"}, "models.m.dialect.preset: input should be 'plain', 'openai', 'azure'"),
        ({"dialect": {"sead": 1}}, "models.m.dialect.sead: is not a field here; allowed: preset, max_tokens"),
        ({"dialect": 3}, "models.m.dialect: must be a mapping with some of preset"),
        ({"dialect": {"refuses": ["model"]}}, "models.m.dialect.refuses[0]"),
        ({"dialect": {"headers": {"Authorization": "Bearer sk-1"}}}, "holds a secret; name its variable"),
        ({"dialect": {"headers": {"X-Api-Key": "sk-1"}}}, "holds a secret; name its variable"),
        ({"dialect": {"headers": {"a b": "x"}}}, "must be names of HTTP headers"),
        ({"dialect": {"headers": {"X-A": "ä"}}}, "no header can hold"),
        ({"dialect": {"headers": {"X-A": "a\r\nX-B: c"}}}, "no header can hold"),
        ({"dialect": {"headers": {"Content-Length": "3"}}}, "is written by the client"),
        ({"dialect": {"headers_env": {"X-Key": "sk-1234 5"}}}, "must name an environment variable"),
        ({"dialect": {"body": {"messages": []}}}, "is written by jobs and by other settings"),
        ({"dialect": {"body": {"a": [{"api_key": "sk-1"}]}}}, "holds a secret; send it in a header"),
        ({"dialect": "anthropic"}, "dialect anthropic goes with provider anthropic"),
        ({"provider": "anthropic", "base_url": None, "dialect": "azure"}, "dialect azure goes with provider openai"),
        ({"provider": "gemini", "base_url": None, "dialect": {"seed": "seed"}}, "not with gemini's own API"),
        (
            {"provider": "anthropic", "base_url": None, "dialect": {"response_format": "json_object"}},
            "json_object goes with provider openai alone",
        ),
        ({"api_version": "2024-10-21"}, "api_version goes with provider anthropic, or with dialect azure"),
    ],
)
def test_wrong_dialect_is_refused_with_its_field_and_no_secret(fields, problem):
    with pytest.raises(ConfigError) as caught:
        model_of(**fields)
    assert problem in str(caught.value)
    assert "sk-1" not in str(caught.value)
