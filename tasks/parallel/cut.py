"""Cut a job into the specs of its parts: its sections, or n votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.job_fields import Item, Variety
from tasks.parallel.nesting import fields_for_item, fields_for_section
from tasks.parallel.part_spec import PartSpec
from tasks.parallel.split import split

if TYPE_CHECKING:
    from tasks.parallel.split import Section

__all__ = ["cut_job"]


def cut_job(job: Job, *, most: int) -> list[PartSpec]:
    """Return the specs of a job's parts: its sections, or n times the whole job for a vote.

    Raises:
        BadInput: if the text has no section of that kind, or more than `most`.
    """
    if job.kind == "vote":
        return [_vote_spec(job.variety or Variety(), index) for index in range(job.n or 1)]
    if job.items is not None:
        parts = [_item_spec(job, index, item) for index, item in enumerate(job.items)]
    else:
        sections = split(job.text or "", job.split or "", job.split_options)
        parts = [_section_spec(job, section) for section in sections if section.text.strip()]
    if not parts:
        raise BadInput("text", f"the split {job.split!r} makes no section of it", "use another split, or send items")
    if len(parts) > most:
        raise BadInput(
            "items" if job.items is not None else "text",
            f"makes {len(parts)} sections, the limit is {most}",
            "cut it coarser, or raise limits.parts in the configuration",
        )
    return parts


def _vote_spec(variety: Variety, index: int) -> PartSpec:
    def turn(among: tuple[str, ...] | tuple[int, ...]) -> str | int | None:
        return among[index % len(among)] if among else None

    prompt, model, seed = turn(variety.prompts), turn(variety.models), turn(variety.seeds)
    return PartSpec(
        title=f"vote {index + 1}",
        prompt=None if prompt is None else str(prompt),
        seed=None if seed is None else int(seed),
        candidates=() if model is None else (str(model),),
    )


def _item_spec(job: Job, index: int, item: str | Item) -> PartSpec:
    if isinstance(item, str):
        item = Item(text=item)
    title = item.title or f"item {index + 1}"
    if job.each is not None or item.route is not None or item.model is not None:
        return PartSpec(title=title, text=item.text, child=fields_for_item(job, item))
    return PartSpec(title=title, text=item.text, prompt=item.prompt, schema=item.response_schema)


def _section_spec(job: Job, section: Section) -> PartSpec:
    child = fields_for_section(job, section.text) if job.each is not None else None
    return PartSpec(title=section.title, text=section.text, child=child)
