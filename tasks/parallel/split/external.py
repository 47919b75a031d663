"""`files` and `plan`: splits whose sections come from outside of the text."""

from __future__ import annotations

from pydantic import Field

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, splitter
from tasks.parallel.split.section import Section

__all__ = ["Plan", "files", "plan"]


@splitter(by="files")
def files(text: str) -> list[Section]:  # noqa: ARG001 - what a split is called with
    """Each file is a section, titled by its name. The files are read where a job is accepted (`tasks.documents`)."""
    raise BadInput("split", "'files' makes a section of each file, and this job has none", "send files, or items")


class Plan(SplitOptions):
    #: Sections that the model may propose.
    most: int = Field(default=12, ge=1, le=200)
    #: What the model is told, instead of the packaged prompt: a text, or ``file:NAME``.
    prompt: str | None = Field(default=None, min_length=1)


@splitter(options=Plan, by="model")
def plan(text: str, options: Plan) -> list[Section]:  # noqa: ARG001 - what a split is called with
    """A model reads the text and says what the sections are: that is a call, which the engine makes, not a cut."""
    raise BadInput("split", "'plan' asks a model for the sections", "submit the job with it")
