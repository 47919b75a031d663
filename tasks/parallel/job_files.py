"""The files of a job become its text or its items; only the readable text of a document is kept."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from tasks.config.config import Config
from tasks.contract.errors import BadInput, below
from tasks.contract.job import Job
from tasks.contract.job_fields import File, Item, Unread
from tasks.documents.plain import Gap, Reading
from tasks.documents.reader import Document, read_documents
from tasks.parallel.cut import check_cut
from tasks.parallel.split import SPLITS, Section, split

#: Characters of an item's title (`tasks.contract.job.Item`), and of the file name in it.
TITLE, NAME = 200, 100
#: Reads the files of several jobs at a time, one for each core. The pool is separate, so that a hostile
#: document delays other documents only.
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
    """Return the job with `text` or `items` in place of its files. A job without files is returned unchanged.

    For sections without `split`, or with ``files``, each file is a section titled by its name. With another split, a
    single file becomes the text; several files are cut here one by one, with their names before the titles. For other
    jobs the files become one text; each of several files stands under its name as a heading. A workflow gets the input
    that it takes.

    Reading takes time, and a process for documents that are not plain text: do not call this on an event loop.

    Raises:
        BadInput: naming the file (``files[2]``, below `at`) and the remedy.
    """
    if job.files is None:
        return job
    limit = config.limits.payload_bytes
    with below(at):
        documents = _decode_files(job.files, limit)
        readings = read_documents(documents, at=lambda index: f"files[{index}]", most=limit)
        named = [(document.name, reading) for document, reading in zip(documents, readings, strict=True)]
        if job.policy == "fail" and job.kind not in config.flows:
            _refuse_gaps(named)
        fields = _input_fields(job, [(name, reading.text) for name, reading in named], config)
        unread = tuple(one for name, reading in named for one in list_unread(name, reading.gaps))
        replaced = _replace_fields(job, fields | ({"unread": (*job.unread, *unread)[:1000]} if unread else {}))
        with _naming_file(0):
            check_cut(replaced, most=config.limits.parts)
        return replaced


def list_unread(name: str, gaps: Sequence[Gap]) -> list[Unread]:
    """Return what could not be read of the file called `name`, for the job's field `unread`."""
    return [Unread(file=name, reason=gap.reason, pages=gap.pages) for gap in gaps]


def _refuse_gaps(named: Sequence[tuple[str, Reading]]) -> None:
    """Refuse files that have not been read whole: the policy of their job is to fail if any part of it fails."""
    for index, (name, reading) in enumerate(named):
        if unread := list_unread(name, [gap for gap in reading.gaps if gap.fails]):
            found = "; ".join(one.describe() for one in unread)
            remedy = "pip install 'pointsman[ocr]' to read pictures, or set the policy to partial to go on without them"
            raise BadInput(f"files[{index}]", f"{name!r} can't be read whole: {found}", remedy)


def _decode_files(files: Sequence[File], limit: int) -> list[Document]:
    documents: list[Document] = []
    total = 0
    for index, file in enumerate(files):
        try:
            # Tools break base64 into lines.
            data = base64.b64decode("".join(file.data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadInput(f"files[{index}].data", "is not base64", "send the bytes of the file in base64") from None
        total += len(data)
        if total > limit:
            raise BadInput(
                f"files[{index}]",
                f"with it the files have more than {limit:,} bytes",
                "send several jobs, or raise limits.payload_bytes in the configuration",
            )
        documents.append(Document(file.name, data))
    return documents


def _input_fields(job: Job, named: Sequence[tuple[str, str]], config: Config) -> dict[str, Any]:
    """Return the fields of the job that replace its files."""
    if job.kind in config.flows:
        takes = config.flows[job.kind].inputs
        return (
            _items_field(named) if "items" in takes and (len(named) > 1 or "text" not in takes) else _text_field(named)
        )
    if job.kind != "sections":
        return _text_field(named)
    if job.split is None or SPLITS.traits(job.split).by == "files":
        if job.split_options:
            raise BadInput("split_options", "go with a split that cuts a text", "leave them out")
        return {**_items_field(named), "split": None}
    if len(named) == 1 or SPLITS.traits(job.split).by == "model":
        return _text_field(named)
    cut = [
        Item(text=section.text, title=_item_title(name, section))
        for index, (name, text) in enumerate(named)
        for section in _cut_file(text, job, index)
        if section.text.strip()
    ]
    return {"items": tuple(cut), "split": None, "split_options": {}}


def _cut_file(text: str, job: Job, index: int) -> list[Section]:
    with _naming_file(index):
        return split(text, job.split or "", job.split_options)


@contextmanager
def _naming_file(index: int) -> Iterator[None]:
    """Name the file in place of its text; a wrong option concerns all files."""
    try:
        yield
    except BadInput as error:
        field = f"files[{index}]" if error.field == "text" else error.field
        raise BadInput(field, error.problem, error.remedy) from None


def _items_field(named: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"items": tuple(Item(text=text, title=name[:TITLE]) for name, text in named)}


def _text_field(named: Sequence[tuple[str, str]]) -> dict[str, Any]:
    if len(named) == 1:
        return {"text": named[0][1]}
    return {"text": "\n\n".join(f"# {' '.join(name.split())}\n\n{text.strip()}" for name, text in named) + "\n"}


def _item_title(name: str, section: Section) -> str:
    short = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return f"{short}: {section.title}"[:TITLE] if section.title else short


def _replace_fields(job: Job, fields: dict[str, Any]) -> Job:
    # Validate again: some checks depend on the input, such as the number of items for a quorum.
    given = {name: getattr(job, name) for name in job.model_fields_set - {"files"}}
    return Job.model_validate({"id": job.id, **given, **fields})
