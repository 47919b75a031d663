"""The configuration as frozen data. `tasks.loading.load` reads and checks the file.

A configuration holds no secrets: a model names the *environment variable* of its key (or of a file that holds the key,
with ``_FILE`` appended).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import Field, PrivateAttr, field_validator
from pydantic.json_schema import SkipJsonSchema

from tasks.config.cron import FIELDS, read_cron
from tasks.config.library import Library, Named, Workflow
from tasks.config.models import KeyLimits, Model
from tasks.config.routes import Classification, Route, TimeZone
from tasks.contract.validation import Value

Derived = TypeVar("Derived")


class Schedule(Value):
    """A batch that runs on a cron."""

    cron: str = Field(description="five fields: minute hour day-of-month month day-of-week; or @daily and the like")
    batch: Path = Field(description="a JSONL file, one job a line; relative to the configuration")
    timezone: TimeZone = "UTC"

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        from celery.schedules import ParseException, crontab  # noqa: PLC0415 - slow, and seldom needed

        try:
            crontab.from_string(read_cron(value))
        except (ParseException, ValueError) as error:  # also for the 31st of February
            raise ValueError(FIELDS if str(error) == FIELDS else f"is not a cron expression: {error}") from None
        return value


class Limits(Value):
    """The largest jobs that are accepted, and how long their records are kept."""

    payload_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="a job's size as JSON")
    parts: int = Field(default=10_000, ge=1, le=100_000, description="sections of one job")
    nested_parts: int = Field(
        default=100_000, ge=1, le=10_000_000, description="parts of a job, with those of the jobs within it"
    )
    keep_seconds: int = Field(default=7 * 86_400, ge=60, description="a job's record after its end")


class Config(Value):
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
    #: The folder of the file: relative paths start here.
    folder: SkipJsonSchema[Path] = Field(default=Path(), exclude=True)
    #: The prompts and workflows that `tasks.loading` has read.
    _library: Library = PrivateAttr(default_factory=Library)
    #: Values of `derived`, by name.
    _derived: dict[str, Any] = PrivateAttr(default_factory=dict)

    def with_library(self, library: Library) -> Config:
        """This configuration with the prompts and workflows of `library`."""
        made = self.model_copy()
        made._library, made._derived = library, {}  # noqa: SLF001 - of its own class
        return made

    @property
    def library(self) -> Library:
        """The prompts and the workflows, by name."""
        return self._library

    @property
    def flows(self) -> Mapping[str, Workflow]:
        """The workflows with their steps; the field `workflows` says only where they come from."""
        return self._library.workflows

    @property
    def all_routes(self) -> Mapping[str, Route]:
        """The routes of the configuration, which any job may fall into, then the routes of workflows."""
        return self.derived("all_routes", lambda: {**self.routes, **self._library.routes})

    def derived(self, name: str, make: Callable[[], Derived]) -> Derived:
        """The value that `make` returned on the first call for `name`: a memo of what the configuration implies."""
        if name not in self._derived:
            self._derived[name] = make()
        return cast("Derived", self._derived[name])

    @property
    def has_day_budgets(self) -> bool:
        """Whether a model has a budget of the day."""
        return any(model.budget_usd_per_day is not None for model in self.models.values())

    def candidates(self, route: str) -> tuple[str, ...]:
        """The models of a route, its fallbacks last."""
        known = self.all_routes[route]
        return tuple(dict.fromkeys((*known.models, *known.fallbacks)))
