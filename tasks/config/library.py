"""What a configuration has in files of its own: prompts and workflows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.config.located import Written
    from tasks.config.prompt_files import PromptFile
    from tasks.config.routes import Route
    from tasks.workflows.workflow import Workflow

__all__ = ["Library"]


@dataclass(frozen=True, slots=True)
class Library:
    """By name. `routes` are those of all workflows; `written` is the file of each, for what is wrong with it."""

    prompts: Mapping[str, PromptFile] = field(default_factory=dict)
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    written: Mapping[str, Written] = field(default_factory=dict)
