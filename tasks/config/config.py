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
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator

from tasks.config.classifiers import Classification, ModelChoice, Thresholds, known_zone, problems_of
from tasks.config.library import Library
from tasks.config.located import Loc, Located, Problem, mapping, not_one_of, problems_in, read_yaml
from tasks.config.models import Breaker, Hedge, KeyLimits, Model, Price, Profile, Section
from tasks.config.routes import Route, route_problems
from tasks.config.simulation import Simulation
from tasks.config.workflow_file import PROMPTS, Named, Source
from tasks.contract.errors import BadInput, ConfigError
from tasks.routing.traits import check_metrics, unmeasured

if TYPE_CHECKING:
    from tasks.workflows.workflow import Workflow

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
    nested_parts: int = Field(
        default=100_000, ge=1, le=10_000_000, description="parts of a job, with those of the jobs within it"
    )
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
    prompts: Path | None = Field(default=None, description="a folder of prompts; by default prompts, if it is there")
    workflows: Mapping[str, Named] = Field(default_factory=dict, description="where each is from: ready, or a folder")
    #: Where it was read, to resolve what is relative to it.
    folder: Path = Field(default=Path(), exclude=True)
    #: What `tasks.routing.traits` derives from it, once.
    _derived: dict[str, Any] = PrivateAttr(default_factory=dict)
    #: Its prompts and workflows, read when it was.
    _library: Library = PrivateAttr(default_factory=Library)
    #: Its routes and those of its workflows; none where it has no workflow.
    _all_routes: Mapping[str, Route] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        problems = _disagreements(self.model_dump())
        for name, route in () if problems or unmeasured(self) else self.routes.items():
            try:
                check_metrics(self, name, route.strategy, None)
            except BadInput as error:
                problems.append((("routes", name, "strategy"), f"{error.problem}; {error.remedy}"))
        if problems:
            raise Located(problems)
        self._read_library()
        return self

    def _read_library(self) -> None:
        if not self.workflows and self.prompts is None and not (self.folder / PROMPTS).is_dir():
            return
        # Most configurations have none, and templates are slow to import.
        from tasks.loading.check_workflows import check_library  # noqa: PLC0415
        from tasks.loading.load_workflows import read_library  # noqa: PLC0415

        self._library = read_library(self)
        self._all_routes = {**self.routes, **self._library.routes}
        check_library(self)

    @property
    def library(self) -> Library:
        """The prompts and the workflows, by name."""
        return self._library

    @property
    def flows(self) -> Mapping[str, Workflow]:
        """The workflows, as they were read."""
        return self._library.workflows

    @property
    def all_routes(self) -> Mapping[str, Route]:
        """Those that every job may fall into, then those of workflows."""
        return self._all_routes or self.routes

    def derived(self, name: str, make: Callable[[], Derived]) -> Derived:
        """What `make` returned for `name` at the first time: for what follows from the configuration alone."""
        if name not in self._derived:
            self._derived[name] = make()
        return cast("Derived", self._derived[name])

    def candidates(self, route: str) -> tuple[str, ...]:
        known = self.all_routes[route]
        return tuple(dict.fromkeys((*known.models, *known.fallbacks)))


def _disagreements(data: Mapping[str, Any]) -> list[Problem]:
    """Names that are none, and names of what isn't there.

    Reads plain data, which may be wrong in any other way: these problems are told beside the others.
    """
    models, routes = mapping(data.get("models")), mapping(data.get("routes"))
    problems: list[Problem] = []
    for part, names in (("models", models), ("routes", routes), ("schedules", mapping(data.get("schedules")))):
        problems += [
            ((part, name), "a name is lower case letters, digits, '.', '_' and '-', at most 64")
            for name in names
            if isinstance(name, str) and not re.fullmatch(NAME, name)
        ]
    if "auto" in models:
        problems.append((("models", "auto"), "auto is the word for a model that routing chooses; use another name"))
    for name, route in routes.items():
        problems += [(("routes", name, *loc), told) for loc, told in route_problems(route, models)]
    envs = (mapping(model).get("api_key_env") for model in models.values())
    named = {env for env in envs if isinstance(env, str)}
    problems += [
        (("keys", key), f"no model names it as api_key_env; those that are named: {', '.join(sorted(named)) or 'none'}")
        for key in mapping(data.get("keys"))
        if key not in named
    ]
    problems += problems_of(data)
    default = data.get("default_route")
    if isinstance(default, str) and default not in routes:
        problems.append((("default_route",), not_one_of(default, "route", routes)))
    return problems


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
    written = read_yaml(text, source=source, needs="models, routes and default_route")
    data = {**written.data}
    problems: list[Problem] = [(loc, "stands twice") for loc in written.twice]
    if "folder" in data:
        problems.append((("folder",), _no_field(())))
    try:
        config = Config.model_validate(data | {"folder": folder})
    except ValidationError as error:
        problems += problems_in(error, _fields)
        # Where fields are wrong pydantic does not get as far as comparing the names.
        problems += [problem for problem in _disagreements(data) if problem not in problems]
    if problems:
        raise ConfigError(written.told(problems, whole="configuration"))
    return config


def _no_field(loc: Loc) -> str:
    """What is told of a field that the section at `loc` doesn't have."""
    return f"is not a field here; allowed: {_fields(loc)}"


def _fields(loc: Loc) -> str:
    """What the section at `loc` may hold."""
    table: Mapping[str, type[BaseModel]] = {
        "models": Model, "routes": Route, "schedules": Schedule, "limits": Limits,
        "price": Price, "profile": Profile, "simulation": Simulation, "breaker": Breaker, "hedge": Hedge,
        "keys": KeyLimits, "classifier": Classification, "thresholds": Thresholds, "llm": ModelChoice,
        "workflows": Source,
    }  # fmt: skip
    # The second step is a name that somebody chose, such as a route called "price".
    steps = [str(step) for place, step in enumerate(loc) if place != 1 or loc[0] == "classifier"]
    named = next((table[step] for step in reversed(steps) if step in table), Config)
    return ", ".join(name for name in named.model_fields if name != "folder")


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
