"""The prompts and workflows of a configuration: the forms of their files, and what is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

from tasks.config.routes import Route
from tasks.contract.validation import Value

if TYPE_CHECKING:
    from tasks.config.templates import Expression, Template  # slow to import, and most configurations have none

#: The name of the file in a workflow's folder.
FILE = "workflow.yaml"
#: The name of the folder of prompts, in a workflow's folder and beside the configuration.
PROMPTS = "prompts"

#: The name of a workflow, and that of one of its routes; joined by a dot, they name a route of the configuration.
NAME = r"^[a-z0-9][a-z0-9_-]{0,30}$"
#: A step's name is a word in templates: ``steps.NAME``.
STEP_NAME = r"^[a-z][a-z0-9_]{0,39}$"

#: Steps of one workflow.
MOST_STEPS = 100

#: The kinds of input that a job of a workflow may bring.
Input: TypeAlias = Literal["text", "items", "messages"]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StepFile(Value):
    """One step: a job without its input."""

    name: str = Field(pattern=STEP_NAME)
    input: str | None = Field(default=None, description="a template; by default the output of the step before")
    when: str | None = Field(default=None, description="an expression; where it is false the step is skipped")
    optional: bool = Field(default=False, description="whether the workflow goes on when the step fails")
    job: Mapping[str, Any] = Field(description="the fields of a job, without its input")


class RouteFile(Route):
    """A route of this workflow alone."""

    models: tuple[str, ...] = Field(default=(), description="by default those that the configuration gives, or all")


class WorkflowFile(Value):
    """The whole file."""

    description: str = Field(min_length=1)
    input: Annotated[tuple[Input, ...], BeforeValidator(_as_list)]
    example: str | None = Field(default=None, description="a file of the folder: an input to try it with")
    cases: str | None = Field(default=None, description="a file of the folder: the evaluation set, JSON lines")
    routes: Mapping[str, RouteFile] = Field(default_factory=dict)
    default_route: str | None = None
    steps: tuple[StepFile, ...]
    output: str | None = Field(default=None, description="a template; by default the output of the last step")

    # Not by pydantic's min_length: it does not count invalid entries.
    @field_validator("input", "steps")
    @classmethod
    def _not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not 1 <= len(value) <= MOST_STEPS:
            raise ValueError(f"needs at least one entry, and at most {MOST_STEPS}")
        return value


class Source(Value):
    """The source of a workflow."""

    from_: str = Field(alias="from", description="ready, or a folder relative to the configuration")
    models: tuple[str, ...] = Field(default=(), description="its candidates where it names none; by default all")


def _as_source(value: Any) -> Any:
    """Accept the source alone, without a mapping around it."""
    return {"from": value} if isinstance(value, str) else value


Named: TypeAlias = Annotated[Source, BeforeValidator(_as_source, json_schema_input_type=str | Source)]


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt in a file of its own. `source` is its text before variables are filled in."""

    source: str
    version: str
    template: Template


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a workflow. `job`: the fields of its job without the input; routes and prompts by their full names."""

    name: str
    job: Mapping[str, Any]
    #: The kinds of input that its job accepts; the output of a template is read as the first of them.
    takes: tuple[Input, ...]
    input: Template | None = None
    when: Expression | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow with its own `routes`, by the names that these have in the configuration."""

    name: str
    folder: Path
    description: str
    #: The kinds of input that a job of this workflow may bring.
    inputs: tuple[Input, ...]
    routes: Mapping[str, Route]
    steps: tuple[Step, ...]
    output: Template | None = None
    example: Path | None = None
    cases: Path | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """Prompts and workflows by name. `routes` are those of all workflows."""

    prompts: Mapping[str, PromptFile] = field(default_factory=dict)
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
