"""The file of a workflow, ``workflow.yaml``, and the entry of a workflow in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

from tasks.config.routes import Route
from tasks.contract.validation import Value

__all__ = ["FILE", "NAME", "PROMPTS", "Input", "Named", "RouteFile", "Source", "StepFile", "WorkflowFile"]

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
