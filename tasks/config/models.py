"""The settings of a model: its address, capacity, limits, price, breaker and profile."""

from __future__ import annotations

import re
from datetime import date
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.config.dialects import Dialect, Spoken, resolve_dialect
from tasks.config.simulation import Simulation
from tasks.contract.result import Usage
from tasks.contract.validation import Value

API_VERSION = r"^\d{4}-\d{2}-\d{2}(-preview)?$|^preview$"


class Price(Value):
    """USD per million tokens."""

    input: float = Field(default=0.0, ge=0, le=100_000, allow_inf_nan=False)
    cached: float | None = Field(
        default=None, ge=0, le=100_000, allow_inf_nan=False, description="input from the cache; by default as input"
    )
    output: float = Field(default=0.0, ge=0, le=100_000, allow_inf_nan=False)

    def cost(self, usage: Usage) -> float:
        """USD of one call. Cached tokens are part of the input's and have their own price, where the table has one."""
        # A provider that counts more cached tokens than input has miscounted: no call earns money.
        cached = min(usage.cached_tokens, usage.input_tokens)
        rate = self.input if self.cached is None else self.cached
        return ((usage.input_tokens - cached) * self.input + cached * rate + usage.output_tokens * self.output) / 1e6


class Breaker(Value):
    """When the breaker of a model opens, for the whole fleet."""

    error_rate: float = Field(default=0.5, gt=0, le=1, description="share of failed attempts that opens it")
    attempts: int = Field(default=10, ge=1, le=10_000, description="the fewest attempts that it judges by")
    window: float = Field(default=30.0, ge=1, le=3600, description="seconds that are looked back")
    open: float = Field(default=5.0, ge=0.1, le=900, description="seconds until one probe is let through, then twice")


class Hedge(Value):
    """A second call that races a slow first one."""

    after: float | Literal["p95"] = Field(default="p95", description="seconds, or the slowest twentieth so far")
    budget: float = Field(default=0.05, gt=0, le=0.5, description="hedges for each call, over the fleet")

    @field_validator("after")
    @classmethod
    def _a_time(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 < value <= 3600:
            raise ValueError("needs seconds above 0 and at most 3600, or p95")
        return value


class KeyLimits(Value):
    """The limits of the account behind a key, shared by all models that name the key in ``api_key_env``."""

    concurrency: int | None = Field(default=None, ge=1, le=100_000, description="calls in flight")
    rpm: int | None = Field(default=None, ge=1, le=100_000_000, description="requests a minute")
    tpm: int | None = Field(default=None, ge=1, le=100_000_000_000, description="tokens a minute")


class Profile(Value):
    """Scores from 0 to 100, higher is better."""

    speed: float | None = Field(default=None, ge=0, le=100)
    accuracy: float | None = Field(default=None, ge=0, le=100)
    creativity: float | None = Field(default=None, ge=0, le=100)
    ethics: float | None = Field(default=None, ge=0, le=100)
    cost: float | None = Field(
        default=None, ge=0, le=100, description="by default from the price: the cheapest has 100"
    )


#: Tokens of an answer at most where neither job nor model say it: Anthropic's API takes no request without a bound.
ANTHROPIC_MAX_TOKENS = 4096


class Model(Value):
    """A named deployment with one queue (``model.<name>``) and one capacity."""

    provider: Literal["openai", "anthropic", "gemini", "simulated", "local"]
    model: str | None = Field(default=None, description="the provider's name for it; by default our own")
    base_url: str | None = Field(default=None, description="where the API is; needed for openai")
    api_version: str | None = Field(
        default=None, pattern=API_VERSION, description="of Anthropic's API, by default 2023-06-01; or of Azure's"
    )
    dialect: Spoken | None = Field(
        default=None, description="what its server takes: a preset, or settings; by default the provider's"
    )
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key")
    capacity: int = Field(default=8, ge=1, le=100_000, description="calls in flight, over all processes")
    timeout: float = Field(default=120.0, gt=0, le=3600, description="seconds a call may take")
    connect_timeout: float = Field(default=10.0, gt=0, le=300, description="seconds to get a connection")
    first_byte_timeout: float | None = Field(
        default=None, gt=0, le=3600, description="seconds until the answer must begin; by default timeout alone"
    )
    attempts: int = Field(default=3, ge=1, le=20, description="times a call is tried before its part fails")
    max_tokens: int | None = Field(default=None, ge=1, description="sent where a job names none")
    context_window: int | None = Field(default=None, ge=1, description="tokens, input and output together")
    region: str | None = Field(
        default=None, min_length=1, description="where it runs; jobs whose metadata name another go elsewhere"
    )
    features: tuple[str, ...] | None = Field(
        default=None, description="what it can do; a job whose metadata list features that it lacks goes elsewhere"
    )
    price: Price = Price()
    profile: Profile = Profile()
    weight: float = Field(
        default=1.0, gt=0, le=1_000_000, allow_inf_nan=False, description="share of the calls that it is meant to get"
    )
    rpm: int | None = Field(default=None, ge=1, le=100_000_000, description="requests a minute, over the fleet")
    tpm: int | None = Field(default=None, ge=1, le=100_000_000_000, description="tokens a minute, over the fleet")
    budget_usd_per_day: float | None = Field(
        default=None, gt=0, le=10_000_000, allow_inf_nan=False, description="spent in a day (UTC) at most"
    )
    breaker: Breaker = Breaker()
    hedge: Hedge | None = None
    simulation: Simulation | None = None

    @property
    def most_output(self) -> int | None:
        """The highest bound in tokens that an answer may have; None where the provider alone knows it."""
        return self.max_tokens or (ANTHROPIC_MAX_TOKENS if self.provider == "anthropic" else None)

    @field_validator("api_version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # YAML reads a day without quotes as a date.
        value = value.isoformat() if isinstance(value, date) else value
        if isinstance(value, str) and not re.fullmatch(API_VERSION, value):
            raise ValueError("must be a date, for example 2023-06-01")
        return value

    @cached_property
    def speaks(self) -> Dialect:
        """The dialect with all its settings."""
        return resolve_dialect(self.provider, self.dialect)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The environment variables that hold its key and the secret ones of its headers."""
        return tuple(name for name in (self.api_key_env, *self.speaks.headers_env.values()) if name)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.provider == "openai" and not self.base_url:
            raise ValueError("base_url is needed for provider openai, for example http://127.0.0.1:8000/v1")
        preset = self.speaks.preset
        if self.api_version is not None and preset not in {"anthropic", "azure"}:
            raise ValueError("api_version goes with provider anthropic, or with dialect azure")
        if self.api_version is not None and preset == "anthropic" and not re.fullmatch(r"[\d-]+", self.api_version):
            raise ValueError("api_version must be a date with provider anthropic, for example 2023-06-01")
        if self.simulation is not None and self.provider != "simulated":
            raise ValueError("simulation goes with provider simulated alone")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("base_url must start with http:// or https://")
        return self
