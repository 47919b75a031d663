"""`files` and `plan`: splits whose sections come from outside the text."""

from __future__ import annotations

from pydantic import Field

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, splitter
from tasks.parallel.split.section import Section


class PlanOptions(SplitOptions):
    #: Sections that the model may propose.
    most: int = Field(default=12, ge=1, le=200)
    #: The system message, instead of the packaged prompt: a text, or ``file:NAME``.
    prompt: str | None = Field(default=None, min_length=1)


@splitter(by="files")
def files(text: str) -> list[Section]:  # noqa: ARG001 - the parameter of every split
    """Make each file a section, titled by its name; `tasks.parallel.job_files` does it when a job is accepted."""
    raise BadInput("split", "'files' makes a section of each file, and this job has none", "send files, or items")


@splitter(options=PlanOptions, by="model")
def plan(text: str, options: PlanOptions) -> list[Section]:  # noqa: ARG001 - the parameters of every split
    """Let a model propose the sections; the engine makes this call (`tasks.parallel.cut`)."""
    raise BadInput("split", "'plan' asks a model for the sections", "submit the job with it")
