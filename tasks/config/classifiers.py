"""What the configuration says of classifying: its own section, and the rules and patterns of routes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from tasks.config.models import Section
from tasks.routing.classify.condition import read_condition
from tasks.routing.classify.context import ContextRules, read_rule
from tasks.routing.traits import unmeasured

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.routes import Route

__all__ = [
    "Classification",
    "ModelChoice",
    "Thresholds",
    "When",
    "context_rules",
    "known_zone",
    "problems_of",
    "remarks",
]

Name: TypeAlias = Literal["context", "rules", "examples", "llm"]

#: Who is asked by default: the surest first, the dearest last.
ORDER: tuple[Name, ...] = ("context", "rules", "examples", "llm")

#: Choices of routes whose rules are kept: a producer may name any.
MOST_CHOICES = 64

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


def _listed(value: Any) -> Any:
    """One rule may stand without a list."""
    return [value] if isinstance(value, Mapping) else value


#: The contextual rules of a route: a mapping of conditions, or several, of which one must hold.
When: TypeAlias = Annotated[
    tuple[Mapping[str, Any], ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [_RULE, {"type": "array", "items": _RULE}], "default": []}),
]


class Thresholds(Section):
    """The least confidence at which a classifier decides, on top of its own."""

    rules: float = Field(default=0.0, ge=0, le=1, description="2/3 for one hit, 3/4 for two; less if others match")
    examples: float = Field(default=0.0, ge=0, le=1, description="beside the threshold that is calibrated")


class ModelChoice(Section):
    """A model that is asked which route a text belongs to, where the other classifiers abstain."""

    model: str = Field(description="a model of this configuration; its queue, limits and price hold")
    min_confidence: float = Field(default=0.5, ge=0, le=1, description="below, the default route is taken")
    examples: int = Field(default=3, ge=0, le=50, description="of each route that the model is shown")
    deadline: float = Field(default=300.0, gt=0, le=86_400, description="seconds for the answer, waiting included")
    temperature: float | None = Field(default=0.0, ge=0, le=2, description="null for models that refuse it")
    max_tokens: int = Field(default=200, ge=16, le=100_000, description="of the answer; reasoning models need more")


class Classification(Section):
    """How the route of a job is found where the producer names none."""

    order: tuple[Name, ...] = Field(default=ORDER, description="who is asked, in turn")
    thresholds: Thresholds = Thresholds()
    encoder: str = Field(default="none", description="none, embed, or the URL of an OpenAI-compatible embeddings API")
    timezone: str = Field(default="UTC", description="of the facts hour and weekday")
    llm: ModelChoice | None = None

    @field_validator("order")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a classifier twice")
        return value

    @field_validator("encoder")
    @classmethod
    def _an_encoder(cls, value: str) -> str:
        if value not in {"none", "embed"} and not value.startswith(("http://", "https://")):
            raise ValueError("is none, embed, or a URL that starts with http:// or https://")
        return value

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        return known_zone(value)

    @model_validator(mode="after")
    def _model_is_asked(self) -> Self:
        if self.llm is not None and "llm" not in self.order:
            raise ValueError("llm is configured, but order does not name it")
        if self.llm is None and "llm" in self.order and "order" in self.model_fields_set:
            raise ValueError("order names llm, but no model is configured: add llm: {model: NAME}")
        return self


def known_zone(value: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: if it is none.
    """
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a time zone; use a name such as UTC or Europe/Berlin") from None
    return value


def context_rules(config: Config, routes: tuple[str, ...] | None = None) -> ContextRules:
    """The contextual rules of all routes that every job may fall into, or of `routes` alone.

    There are none where the classifier's order leaves them out. They are read once, those of the choices of routes that
    were used last.
    """

    def read(known: Mapping[str, Route]) -> ContextRules:
        used = known.items() if "context" in config.classifier.order else ()
        rules = [read_rule(name, when) for name, route in used for when in route.when]
        return ContextRules(rules, timezone=ZoneInfo(config.classifier.timezone))

    def of_choice(names: tuple[str, ...]) -> ContextRules:
        return read({name: config.all_routes[name] for name in names})

    if routes is None:
        return config.derived("context_rules", lambda: read(config.routes))
    return config.derived("context_rules of choices", lambda: lru_cache(MOST_CHOICES)(of_choice))(routes)


def remarks(config: Config) -> list[str]:
    """What a configuration holds in vain: no mistake, but hardly meant so. ``config check`` and ``doctor`` tell it."""
    order, routes = config.classifier.order, config.routes.items()
    material: dict[Name, tuple[str, list[str]]] = {
        "context": ("when", [name for name, route in routes if route.when]),
        "rules": ("keywords and patterns", [name for name, route in routes if route.keywords or route.patterns]),
        "examples": ("examples", [name for name, route in routes if route.examples]),
    }
    told = [
        f"classifier.order leaves out {name}: {what} of {', '.join(having)} are not used"
        for name, (what, having) in material.items()
        if having and name not in order
    ]
    _, having = material["examples"]
    if "examples" in order and len(having) == 1:
        told.append(
            f"only route {having[0]!r} has examples: with nothing to tell apart they are not used; give another some"
        )
    if unmeasured(config):
        told.append(f"profiles: {config.profiles} is not there yet; write it with `pointsman profile`")
    return told


def problems_of(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with rules, patterns and the classifier: its place in the file, and what is allowed there.

    Reads plain data, which may be wrong in any other way: that is told elsewhere.
    """
    routes = _mapping(data.get("routes"))
    seen: dict[frozenset[Any], str] = {}
    taught: dict[str, str] = {}
    patterns = 0
    for name, route in routes.items():
        given = _mapping(route).get("patterns")
        for index, pattern in enumerate(given if isinstance(given, list | tuple) else ()):
            patterns += 1
            if isinstance(pattern, str) and (problem := _pattern_problem(pattern)):
                yield ("routes", name, "patterns", index), problem
        yield from _example_problems(str(name), _mapping(route).get("examples"), taught)
        for place, when in _whens(_mapping(route).get("when")):
            yield from _rule_problems(str(name), ("routes", name, "when", *place), when, seen)
    if patterns:
        yield from _too_many(patterns)
    llm = _mapping(_mapping(data.get("classifier")).get("llm"))
    if llm:
        models = _mapping(data.get("models"))
        model = llm.get("model")
        if isinstance(model, str) and model not in models:
            allowed = ", ".join(sorted(map(str, models)))
            yield ("classifier", "llm", "model"), f"{model!r} is not a model; allowed: {allowed}"
        if "none" in routes:
            yield ("routes", "none"), "none is what the llm classifier says where no route fits; use another name"


def _example_problems(route: str, examples: Any, taught: dict[str, str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Examples that stand under two routes: whatever is learnt from the one, the other says the contrary."""
    for index, text in enumerate(examples if isinstance(examples, list | tuple) else ()):
        if isinstance(text, str) and text.strip():
            other = taught.setdefault(" ".join(unicodedata.normalize("NFC", text).casefold().split()), route)
            if other != route:
                problem = f"is an example of route {other!r} as well, which contradicts this one; leave one out"
                yield ("routes", route, "examples", index), problem


def _rule_problems(
    route: str, place: tuple[str | int, ...], when: Mapping[Any, Any], seen: dict[frozenset[Any], str]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Conditions that can't be read, and rules that contradict one of another route that was `seen`."""
    if not when:
        yield place, "has no condition, so it would always hold; default_route is for what nobody claims"
        return
    conditions = []
    wrong = False
    for name, value in when.items():
        if not isinstance(name, str):
            wrong = True
            continue
        try:
            conditions.append(read_condition(name, value))
        except ValueError as error:
            wrong = True
            yield (*place, name), str(error)
    if wrong:
        return
    other = seen.setdefault(frozenset(conditions), route)
    if other != route:
        yield place, f"contradicts a rule of route {other!r}: the conditions are the same; leave one out, or add to one"


def _whens(when: Any) -> Iterator[tuple[tuple[int, ...], Mapping[str, Any]]]:
    if isinstance(when, Mapping):
        yield (), when
    elif isinstance(when, list | tuple):
        for index, one in enumerate(when):
            if isinstance(one, Mapping):
                yield (index,), one


def _pattern_problem(pattern: str) -> str | None:
    from tasks.routing.classify.patterns import compile_pattern  # noqa: PLC0415 - brings the engine, which few need

    try:
        compile_pattern(pattern)
    except ValueError as error:
        return str(error)
    return None


def _too_many(patterns: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    from tasks.routing.classify.patterns import MOST_PATTERNS  # noqa: PLC0415 - as above

    if patterns > MOST_PATTERNS:
        yield ("routes",), f"hold {patterns:,} patterns, the limit is {MOST_PATTERNS:,}; join some with |"


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
