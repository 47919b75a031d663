"""The prompts and workflows of a configuration: what it reads from files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.routes import Route
from tasks.config.workflow_file import Input

if TYPE_CHECKING:
    from tasks.config.templates import Expression, Template  # slow to import, and most configurations have none

__all__ = ["Library", "PromptFile", "Step", "Workflow"]


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
