"""The settings of a route, and of the classifiers that find the route of a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from tasks.contract.validation import Value

DEFAULT_STRATEGY = "least_connections"

#: The encoder that is installed, for texts of which words alone are not sure; none where there is none.
AUTO = "auto"

ClassifierName: TypeAlias = Literal["context", "rules", "examples", "llm"]

#: The default order: the most certain classifier first, the most expensive last.
ORDER: tuple[ClassifierName, ...] = ("context", "rules", "examples", "llm")

_SCALAR = {"type": ["string", "number", "boolean"]}
_CONDITION = {
    "anyOf": [
        _SCALAR,
        {"type": "array", "items": _SCALAR, "minItems": 1},
        {
            "type": "object",
            "properties": {"min": {"type": "number"}, "max": {"type": "number"}},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}
_RULE = {"type": "object", "additionalProperties": _CONDITION, "minProperties": 1}


def _as_list(value: Any) -> Any:
    """Accept a single rule without a list around it."""
    return [value] if isinstance(value, Mapping) else value


#: The contextual rules of a route: a mapping of conditions, or several mappings of which one must hold.
When: TypeAlias = Annotated[
    tuple[Mapping[str, Any], ...],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [_RULE, {"type": "array", "items": _RULE}], "default": []}),
]


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a time zone; use a name such as UTC or Europe/Berlin") from None
    return value


#: The name of a time zone.
TimeZone: TypeAlias = Annotated[str, AfterValidator(_known_zone)]


#: The languages whose inflection is known, by their ISO 639-1 codes: those of the Snowball stemmers.
LANGUAGES = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil",
    "tr": "turkish", "yi": "yiddish",
}  # fmt: skip


class Route(Value):
    """The class a job falls into, with its prompt and its candidate models."""

    description: str = ""
    keywords: tuple[str, ...] = ()
    language: str = Field(default="en", description="of the keywords, whose inflected forms match: de, fr, es …")
    exact: bool = Field(default=False, description="keywords match as they are written, whatever their language")
    patterns: tuple[str, ...] = ()
    when: When = ()
    examples: tuple[str, ...] = ()
    prompt: str | None = Field(default=None, description="a text, or file:NAME")
    models: tuple[str, ...] = Field(min_length=1)
    fallbacks: tuple[str, ...] = Field(default=(), description="models for when all others are closed, or failed")
    strategy: str = DEFAULT_STRATEGY
    options: Mapping[str, Any] = Field(default_factory=dict, description="options of the strategy")

    @field_validator("keywords", "patterns", "examples")
    @classmethod
    def _no_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not item.strip() for item in value):
            raise ValueError("an entry is blank; leave it out")
        return value

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        if value not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            raise ValueError(f"is none of {known}; for another language leave it out and set exact: true")
        return value


class Thresholds(Value):
    """The least confidence at which a classifier decides, on top of its own threshold."""

    rules: float = Field(default=0.0, ge=0, le=1, description="2/3 for one hit, 3/4 for two; less if others match")
    examples: float = Field(default=0.0, ge=0, le=1, description="beside the threshold that is calibrated")


class ModelChoice(Value):
    """The model that chooses the route of a text where the other classifiers abstain."""

    model: str = Field(description="a model of this configuration; its queue, limits and price hold")
    min_confidence: float = Field(default=0.5, ge=0, le=1, description="below, the default route is taken")
    examples: int = Field(default=3, ge=0, le=50, description="of each route that the model is shown")
    deadline: float = Field(default=300.0, gt=0, le=86_400, description="seconds for the answer, waiting included")
    temperature: float | None = Field(default=0.0, ge=0, le=2, description="null for models that refuse it")
    max_tokens: int = Field(default=200, ge=16, le=100_000, description="of the answer; reasoning models need more")


class Augmentation(Value):
    """The model that paraphrases the examples, once, when `pointsman config augment` asks it."""

    model: str = Field(description="a model of this configuration; its queue, limits and price hold")
    paraphrases: int = Field(default=4, ge=1, le=20, description="of each example")
    file: Path = Field(default=Path("paraphrases.json"), description="where they are kept; relative to this file")


class Classification(Value):
    """How Pointsman finds the route of a job where the producer names none."""

    order: tuple[ClassifierName, ...] = Field(default=ORDER, description="the classifiers, in turn")
    thresholds: Thresholds = Thresholds()
    encoder: str = Field(
        default=AUTO, description="auto, none, embed, embed:FOLDER, or the URL of an OpenAI-compatible embeddings API"
    )
    timezone: TimeZone = Field(default="UTC", description="of the facts hour and weekday")
    llm: ModelChoice | None = None
    augment: Augmentation | None = None

    @field_validator("order")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a classifier twice")
        return value

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, value: str) -> str:
        if value not in {AUTO, "none", "embed"} and not value.startswith(("embed:", "http://", "https://")):
            raise ValueError("is auto, none, embed, embed:FOLDER, or a URL that starts with http:// or https://")
        return value

    @model_validator(mode="after")
    def _order_fits_llm(self) -> Self:
        if self.llm is not None and "llm" not in self.order:
            raise ValueError("llm is configured, but order does not name it")
        if self.llm is None and "llm" in self.order and "order" in self.model_fields_set:
            raise ValueError("order names llm, but no model is configured: add llm: {model: NAME}")
        return self
