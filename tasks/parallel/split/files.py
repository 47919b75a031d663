"""A section for each file of a job."""

from __future__ import annotations

from tasks.contract.errors import BadInput
from tasks.parallel.split.declare import splitter
from tasks.parallel.split.section import Section

__all__ = ["files"]


@splitter(by="files")
def files(text: str) -> list[Section]:  # noqa: ARG001 - what a split is called with
    """Each file is a section, titled by its name. The files are read where a job is accepted (`tasks.documents`)."""
    raise BadInput("split", "'files' makes a section of each file, and this job has none", "send files, or items")
