"""The configuration: one YAML file, checked whole before anything starts.

Every problem is told with file, line, field and what is allowed there. Addresses and secrets do not
stand in it: a model names the *environment variable* of its key (or of a file that holds it, with
``_FILE`` appended).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar, cast

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator

from tasks.classify_config import Classification, ModelChoice, Thresholds, When, known_zone, problems_of
from tasks.errors import BadInput, ConfigError
from tasks.model_config import Breaker, Hedge, KeyLimits, Model, Price, Profile, Section
from tasks.routing.options import options_problems, strategies
from tasks.routing.traits import check_metrics, unmeasured
from tasks.simulation import Simulation

__all__ = [
    "Breaker",
    "Config",
    "Hedge",
    "KeyLimits",
    "Limits",
    "Model",
    "Price",
    "Profile",
    "Route",
    "Schedule",
    "json_schema",
    "load",
    "parse",
    "read_secret",
]

Derived = TypeVar("Derived")

#: A name becomes part of a queue's name and of Redis keys.
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"

DEFAULT_STRATEGY = "least_connections"


class Route(Section):
    """The class a job falls into, with its prompt and its candidate models."""

    description: str = ""
    keywords: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    when: When = ()
    examples: tuple[str, ...] = ()
    prompt: str | None = None
    models: tuple[str, ...] = Field(min_length=1)
    fallbacks: tuple[str, ...] = Field(default=(), description="models for when all others are closed, or failed")
    strategy: str = DEFAULT_STRATEGY
    options: Mapping[str, Any] = Field(default_factory=dict, description="what the strategy may be told")

    @field_validator("keywords", "patterns", "examples")
    @classmethod
    def _no_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not item.strip() for item in value):
            raise ValueError("an entry is blank; leave it out")
        return value


class Schedule(Section):
    """A batch that runs on a cron."""

    cron: str = Field(description="five fields: minute hour day-of-month month day-of-week")
    batch: Path = Field(description="a JSONL file, one job a line; relative to the configuration")
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        from celery.schedules import ParseException, crontab  # noqa: PLC0415 - slow, and seldom needed

        if len(value.split()) != 5:
            raise ValueError("needs five fields: minute hour day-of-month month day-of-week")
        try:
            crontab.from_string(value)
        except (ParseException, ValueError) as error:
            raise ValueError(f"is not a cron expression: {error}") from None
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return known_zone(value)


class Limits(Section):
    """What is accepted, and how long it is kept."""

    payload_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="a job's size as JSON")
    parts: int = Field(default=10_000, ge=1, le=100_000, description="sections of one job")
    keep_seconds: int = Field(default=7 * 86_400, ge=60, description="a job's record after its end")


class Config(Section):
    """The whole file."""

    models: Mapping[str, Model] = Field(min_length=1)
    routes: Mapping[str, Route] = Field(min_length=1)
    default_route: str
    schedules: Mapping[str, Schedule] = Field(default_factory=dict)
    #: By the name of an `api_key_env`.
    keys: Mapping[str, KeyLimits] = Field(default_factory=dict)
    classifier: Classification = Classification()
    limits: Limits = Limits()
    profiles: Path | None = Field(default=None, description="scores that `pointsman profile` has measured")
    outcomes: Path | None = Field(default=None, description="which models answered well, for the strategy cost_quality")
    #: Where it was read, to resolve what is relative to it.
    folder: Path = Field(default=Path(), exclude=True)
    #: What `tasks.routing.traits` derives from it, once.
    _derived: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        problems = _disagreements(self.model_dump())
        for name, route in () if problems or unmeasured(self) else self.routes.items():
            try:
                check_metrics(self, name, route.strategy, None)
            except BadInput as error:
                problems.append((("routes", name, "strategy"), f"{error.problem}; {error.remedy}"))
        if problems:
            raise _Located(problems)
        return self

    def derived(self, name: str, make: Callable[[], Derived]) -> Derived:
        """What `make` returned for `name` at the first time: for what follows from the configuration alone."""
        if name not in self._derived:
            self._derived[name] = make()
        return cast("Derived", self._derived[name])

    def candidates(self, route: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.routes[route].models, *self.routes[route].fallbacks)))


#: Where a problem stands in the file, and what it is.
Problem: TypeAlias = tuple[tuple[str | int, ...], str]


class _Located(ValueError):
    """Several problems, each with its place; pydantic passes it through as one error."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


def _disagreements(data: Mapping[str, Any]) -> list[Problem]:
    """Names that are none, and names of what isn't there.

    Reads plain data, which may be wrong in any other way: these problems are told beside the others.
    """
    models, routes = _mapping(data.get("models")), _mapping(data.get("routes"))
    problems: list[Problem] = []
    for part, names in (("models", models), ("routes", routes), ("schedules", _mapping(data.get("schedules")))):
        problems += [
            ((part, name), "a name is lower case letters, digits, '.', '_' and '-', at most 64")
            for name in names
            if isinstance(name, str) and not re.fullmatch(NAME, name)
        ]
    if "auto" in models:
        problems.append((("models", "auto"), "auto is the word for a model that routing chooses; use another name"))
    for name, route in routes.items():
        wanted, strategy = _mapping(route).get("models"), _mapping(route).get("strategy", DEFAULT_STRATEGY)
        for field in ("models", "fallbacks"):
            named = _mapping(route).get(field)
            for index, model in enumerate(named if isinstance(named, list | tuple) else ()):
                if isinstance(model, str) and model not in models:
                    problems.append((("routes", name, field, index), _not_one_of(model, "model", models)))
        if isinstance(strategy, str) and strategy not in strategies():
            problems.append((("routes", name, "strategy"), _not_one_of(strategy, "strategy", strategies())))
        elif isinstance(strategy, str) and isinstance(wanted, list | tuple):
            given = _mapping(route).get("options")
            problems += [(("routes", name, *loc), said) for loc, said in options_problems(strategy, given, wanted)]
    envs = (_mapping(model).get("api_key_env") for model in models.values())
    named = {env for env in envs if isinstance(env, str)}
    problems += [
        (("keys", key), f"no model names it as api_key_env; those that are named: {', '.join(sorted(named)) or 'none'}")
        for key in _mapping(data.get("keys"))
        if key not in named
    ]
    problems += problems_of(data)
    default = data.get("default_route")
    if isinstance(default, str) and default not in routes:
        problems.append((("default_route",), _not_one_of(default, "route", routes)))
    return problems


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _not_one_of(name: str, what: str, known: Any) -> str:
    return f"{name!r} is not a {what}; allowed: {', '.join(sorted(map(str, known))) or 'none is configured'}"


def load(path: Path | str) -> Config:
    """Read and check a file.

    Raises:
        ConfigError: all problems of the file, a line each.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; name one with --config or POINTSMAN_CONFIG, or start from pointsman.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None
    return parse(text, source=str(path), folder=path.resolve().parent)


def parse(text: str, *, source: str = "<configuration>", folder: Path = Path()) -> Config:
    """Check the text of a configuration; `source` starts each line of the error."""
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{source}:1: must be a mapping with models, routes and default_route")
        twice = _read_lines(root, (), lines)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-99-99 is a ValueError
        raise ConfigError(f"{source}:1: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{source}:1: nested too deeply, or an alias that holds itself") from None
    problems = [(loc, "stands twice") for loc in twice]
    if "folder" in data:
        problems.append((("folder",), _no_field(())))
    try:
        config = Config.model_validate(data | {"folder": folder})
    except ValidationError as error:
        problems += _problems(error)
        # Where fields are wrong pydantic does not get as far as comparing the names.
        problems += [problem for problem in _disagreements(data) if problem not in problems]
    if problems:
        told = sorted((_line(loc, lines), _dotted(loc) or "configuration", text) for loc, text in problems)
        raise ConfigError("\n".join(f"{source}:{line}: {field}: {text}" for line, field, text in told))
    return config


def _read_lines(
    node: yaml.Node, loc: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]
) -> list[tuple[str | int, ...]]:
    """Fill `lines` with the line of every value, of a key that stands twice the last; return such keys."""
    twice: list[tuple[str | int, ...]] = []
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                twice.append((*loc, name))
            seen.add(name)
            lines[*loc, name] = key.start_mark.line + 1
            twice += _read_lines(value, (*loc, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            twice += _read_lines(value, (*loc, index), lines)
    return twice


def _problems(error: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for item in error.errors(include_url=False, include_input=False):
        located = item.get("ctx", {}).get("error")
        if isinstance(located, _Located):
            found += located.problems
            continue
        loc = tuple(step for step in item["loc"] if step != "[key]")
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = _no_field(loc[:-1])
        elif item["type"] == "missing":
            text = "is missing"
        elif item["type"] == "model_type":
            text = f"must be a mapping with some of {_fields(loc)}"
        elif item["type"] in {"dict_type", "mapping_type"}:
            text = "must be a mapping"
        elif item["type"] == "tuple_type":
            text = "must be a list"
        elif item["type"] == "string_pattern_mismatch" and loc[-1] == "api_version":
            text = "must be a date, for example 2023-06-01"
        found.append((loc, text))
    return found


def _no_field(loc: tuple[str | int, ...]) -> str:
    """What is told of a field that the section at `loc` doesn't have."""
    return f"is not a field here; allowed: {_fields(loc)}"


def _fields(loc: tuple[str | int, ...]) -> str:
    """What the section at `loc` may hold."""
    table: Mapping[str, type[BaseModel]] = {
        "models": Model, "routes": Route, "schedules": Schedule, "limits": Limits,
        "price": Price, "profile": Profile, "simulation": Simulation, "breaker": Breaker, "hedge": Hedge,
        "keys": KeyLimits, "classifier": Classification, "thresholds": Thresholds, "llm": ModelChoice,
    }  # fmt: skip
    # The second step is a name that somebody chose, such as a route called "price".
    steps = [str(step) for place, step in enumerate(loc) if place != 1 or loc[0] == "classifier"]
    named = next((table[step] for step in reversed(steps) if step in table), Config)
    return ", ".join(name for name in named.model_fields if name != "folder")


def _line(loc: tuple[str | int, ...], lines: Mapping[tuple[str | int, ...], int]) -> int:
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc, 1)


def _dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    schema["properties"].pop("folder", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pointsman configuration"} | schema


def read_secret(name: str) -> str | None:
    """The value of environment variable `name`, or the content of the file that ``name_FILE`` names.

    Raises:
        ConfigError: if the file can't be read.
    """
    file = os.environ.get(f"{name}_FILE")
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ConfigError(f"{name}_FILE: {why}: {file}") from None
    return os.environ.get(name) or None
