"""The files of a job as its text or its items: what is kept of a document is what can be read in it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput
from tasks.contract.job import File, Item, Job
from tasks.documents.reader import Document, read_documents
from tasks.parallel.split import Section, split, split_named, split_traits

if TYPE_CHECKING:
    from tasks.config.config import Config

__all__ = ["replace_files", "replace_files_of_jobs"]

#: Characters of an item's title (`tasks.contract.job.Item`), and of it those of its file's name.
TITLE, NAME = 200, 100
#: Jobs whose files are read at the same time: each may keep a core busy. They have threads of their own, so that a
#: hostile document holds up documents alone.
_READERS = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="documents")


async def replace_files_of_jobs(jobs: Sequence[Job], config: Config, *, at: Callable[[int], str]) -> list[Job]:
    """Replace the files of several jobs, off the event loop; `at` of an index is the field of that job."""
    loop = asyncio.get_running_loop()
    return [
        job
        if job.files is None
        else await loop.run_in_executor(_READERS, partial(replace_files, job, config, at=at(place)))
        for place, job in enumerate(jobs)
    ]


def replace_files(job: Job, config: Config, *, at: str = "") -> Job:
    """The job with its files read: they are replaced by `text` or `items`. A job without files comes back as it is.

    Sections of which `split` says nothing, or ``files``, are the files, titled by their names. One file with another
    split becomes the text that is cut; several are cut here, each by itself, and the name stands before each title.
    Else the files are one text; of several, each under its name as a heading. A workflow gets what it takes.

    Reading takes time, and a process for all that is not text: not for an event loop's thread.

    Raises:
        BadInput: naming the file (``files[2]``, below `at`) and what to do.
    """
    if job.files is None:
        return job
    dot = f"{at}." if at else ""
    limit = config.limits.payload_bytes
    documents = _decoded(job.files, limit, dot)
    texts = read_documents(documents, at=lambda index: f"{dot}files[{index}]", most=limit)
    named = list(zip([document.name for document in documents], texts, strict=True))
    try:
        return _changed(job, _input(job, named, config))
    except BadInput as error:
        raise BadInput(f"{dot}{error.field}", error.problem, error.remedy) from None


def _decoded(files: Sequence[File], limit: int, dot: str) -> list[Document]:
    documents: list[Document] = []
    total = 0
    for index, file in enumerate(files):
        try:
            # Tools break base64 into lines.
            data = base64.b64decode("".join(file.data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadInput(
                f"{dot}files[{index}].data", "is not base64", "send the bytes of the file in base64"
            ) from None
        total += len(data)
        if total > limit:
            raise BadInput(
                f"{dot}files[{index}]",
                f"with it the files have more than {limit:,} bytes",
                "send several jobs, or raise limits.payload_bytes in the configuration",
            )
        documents.append(Document(file.name, data))
    return documents


def _input(job: Job, named: Sequence[tuple[str, str]], config: Config) -> dict[str, Any]:
    """What the job has instead of its files."""
    if job.kind in config.flows:
        takes = config.flows[job.kind].inputs
        return _items(named) if "items" in takes and (len(named) > 1 or "text" not in takes) else _text(named)
    if job.kind != "sections":
        return _text(named)
    if job.split is None or split_traits(split_named(job.split)).by == "files":
        if job.split_options:
            raise BadInput("split_options", "go with a split that cuts a text", "leave them out")
        return {**_items(named), "split": None}
    if len(named) == 1 or split_traits(split_named(job.split)).by == "model":
        return _text(named)
    cut = [
        Item(text=section.text, title=_title(name, section))
        for index, (name, text) in enumerate(named)
        for section in _sections(text, job, index)
        if section.text.strip()
    ]
    return {"items": tuple(cut), "split": None, "split_options": {}}


def _sections(text: str, job: Job, index: int) -> list[Section]:
    try:
        return split(text, job.split or "", job.split_options)
    except BadInput as error:
        # What is wrong with an option is wrong with it for all files.
        field = f"files[{index}]" if error.field == "text" else error.field
        raise BadInput(field, error.problem, error.remedy) from None


def _items(named: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"items": tuple(Item(text=text, title=name[:TITLE]) for name, text in named)}


def _text(named: Sequence[tuple[str, str]]) -> dict[str, Any]:
    if len(named) == 1:
        return {"text": named[0][1]}
    return {"text": "\n\n".join(f"# {' '.join(name.split())}\n\n{text.strip()}" for name, text in named) + "\n"}


def _title(name: str, section: Section) -> str:
    short = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return f"{short}: {section.title}"[:TITLE] if section.title else short


def _changed(job: Job, fields: dict[str, Any]) -> Job:
    # Through the model, which checks what depends on the input: how many items a quorum has.
    given = {name: getattr(job, name) for name in job.model_fields_set - {"files"}}
    return Job.model_validate({"id": job.id, **given, **fields})
