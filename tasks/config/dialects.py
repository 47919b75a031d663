"""How a model's server wants to be asked: presets for the APIs that are known, and single settings over them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, JsonValue, field_validator

from tasks.contract.validation import Value

#: Parameters that are left out where a server refuses them.
Refusable: TypeAlias = Literal["temperature", "top_p", "seed", "stop", "stream_options"]
Structure: TypeAlias = Literal["json_schema", "json_object", "tool", "none"]
Preset: TypeAlias = Literal[
    "plain", "openai", "azure", "vllm", "ollama", "llamacpp", "mistral", "groq", "openrouter", "xai", "deepseek",
    "gemini", "anthropic",
]  # fmt: skip

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: Headers that clients write themselves.
_OWN_HEADERS = frozenset({"accept", "connection", "content-length", "content-type", "host", "transfer-encoding"})
#: A name like this holds a secret, which no configuration may.
_SECRET = re.compile(
    r"authori[sz]ation|cookie|secret|password|credential|api[_-]?key|(^|[_-])(key|token)$", re.IGNORECASE
)
#: Fields that jobs and other settings decide.
_OWN_FIELDS = frozenset({
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens",
    "seed", "random_seed", "stop", "response_format", "tools", "tool_choice", "n",
    "system", "stop_sequences", "contents", "systemInstruction",
})  # fmt: skip
_MOST_ENTRIES = 32


class Dialect(Value):
    """What a server takes, in which names. A setting that is left out is the preset's."""

    preset: Preset | None = Field(default=None, description="the settings of a known API; by default the provider's")
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="the field of the bound on the answer's tokens"
    )
    seed: Literal["seed", "random_seed"] = Field(default="seed", description="the field of the seed")
    system_role: Literal["system", "developer", "user"] = Field(
        default="system", description="the role of system messages"
    )
    refuses: tuple[Refusable, ...] = Field(default=(), description="parameters that are never sent; the preset's stay")
    response_format: Structure = Field(
        default="json_schema", description="the strongest form in which a structured answer can be requested"
    )
    key_header: str | None = Field(
        default=None, description="the header that holds the key as it is; by default the provider's"
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict, max_length=_MOST_ENTRIES, description="further headers; no secrets"
    )
    headers_env: Mapping[str, str] = Field(
        default_factory=dict, max_length=_MOST_ENTRIES, description="further headers, from environment variables"
    )
    body: Mapping[str, JsonValue] = Field(
        default_factory=dict, max_length=_MOST_ENTRIES, description="further fields of the request's body"
    )

    @field_validator("key_header")
    @classmethod
    def _is_header(cls, name: str | None) -> str | None:
        if name is not None:
            _check_header(name)
        return name

    @field_validator("headers")
    @classmethod
    def _are_plain(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            _check_header(name)
            if _SECRET.search(name):
                raise ValueError(f"{name} holds a secret; name its variable under headers_env, or use api_key_env")
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"{name} has characters that no header can hold; use printable ASCII")
        return headers

    @field_validator("headers_env")
    @classmethod
    def _are_headers(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, variable in headers.items():
            _check_header(name)
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
                raise ValueError(f"{name} must name an environment variable, such as GATEWAY_KEY")
        return headers

    @field_validator("body")
    @classmethod
    def _is_further(cls, body: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        for name in _names(body):
            if _SECRET.search(name):
                raise ValueError(f"{name} holds a secret; send it in a header, by headers_env")
        if own := sorted(_OWN_FIELDS & body.keys()):
            raise ValueError(f"{own[0]} is written by jobs and by other settings; leave it out here")
        return body

    def describe(self) -> str:
        """All settings in one line, without the values of headers and fields."""
        shown = [self.preset or "plain", self.max_tokens, self.seed, f"{self.system_role} role", self.response_format]
        shown += [f"without {name}" for name in self.refuses]
        shown += [f"header {name}" for name in (self.key_header, *self.headers, *self.headers_env) if name]
        return ", ".join([*shown, *(f"field {name}" for name in self.body)])


def _check_header(name: str) -> None:
    if not _HEADER.fullmatch(name):
        raise ValueError("must be names of HTTP headers, such as X-Title")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"{name} is written by the client; leave it out")


def _names(value: JsonValue | Mapping[str, JsonValue]) -> Iterator[str]:
    """All names in a JSON value."""
    left: list[Any] = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            yield from one
            left += one.values()
        elif isinstance(one, list):
            left += one


def _as_dialect(value: Any) -> Any:
    """Accept a preset alone, without a mapping around it."""
    return {"preset": value} if isinstance(value, str) else value


Spoken: TypeAlias = Annotated[Dialect, BeforeValidator(_as_dialect, json_schema_input_type=Preset | Dialect)]

#: The settings of each preset, where they are not those of `Dialect`.
PRESETS: Mapping[Preset, Dialect] = {
    "plain": Dialect(preset="plain"),
    "openai": Dialect(preset="openai", max_tokens="max_completion_tokens"),
    "azure": Dialect(preset="azure", max_tokens="max_completion_tokens", key_header="api-key"),
    "vllm": Dialect(preset="vllm"),
    "ollama": Dialect(preset="ollama"),
    "llamacpp": Dialect(preset="llamacpp"),
    "mistral": Dialect(preset="mistral", seed="random_seed", refuses=("stream_options",)),
    "groq": Dialect(preset="groq", max_tokens="max_completion_tokens"),
    "openrouter": Dialect(preset="openrouter"),
    "xai": Dialect(preset="xai", max_tokens="max_completion_tokens"),
    "deepseek": Dialect(preset="deepseek", refuses=("seed",), response_format="json_object"),
    # The compatible address; Gemini's own API has the seed.
    "gemini": Dialect(preset="gemini", refuses=("seed",)),
    "anthropic": Dialect(preset="anthropic", refuses=("seed",)),
}
#: The dialect of a model that names none.
DEFAULT_PRESETS: Mapping[str, Preset] = {
    "openai": "plain",
    "simulated": "plain",
    "local": "llamacpp",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
#: The settings that mean something to a provider's own API.
_OWN_SETTINGS = frozenset({"preset", "refuses", "response_format", "key_header", "headers", "headers_env", "body"})


def resolve_dialect(provider: str, dialect: Dialect | None) -> Dialect:
    """The dialect with all its settings: its own, then those of its preset.

    Raises:
        ValueError: for a preset or a setting of another API.
    """
    own = dialect or Dialect()
    name = own.preset or DEFAULT_PRESETS[provider]
    if provider in {"anthropic", "gemini"}:
        if name != provider:
            raise ValueError(f"dialect {name} goes with provider openai; leave preset out")
        if others := sorted(own.model_fields_set - _OWN_SETTINGS):
            raise ValueError(f"dialect.{others[0]} goes with provider openai, not with {provider}'s own API")
        if own.response_format == "json_object" and "response_format" in own.model_fields_set:
            raise ValueError("dialect.response_format json_object goes with provider openai alone")
    elif name == "anthropic":
        raise ValueError("dialect anthropic goes with provider anthropic")
    base = PRESETS[name]
    if provider == "gemini":
        base = base.model_copy(update={"refuses": ()})
    update = {field: getattr(own, field) for field in own.model_fields_set if field != "preset"}
    return base.model_copy(update={**update, "refuses": tuple(dict.fromkeys((*base.refuses, *own.refuses)))})
