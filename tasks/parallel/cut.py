"""Cut a job into its sections, or take it n times for a vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.contract.errors import BadInput
from tasks.contract.job import Item, Job, Variety
from tasks.parallel.nesting import fields_for_item, fields_for_section
from tasks.parallel.part_spec import PartInput, Slice
from tasks.parallel.split import split

if TYPE_CHECKING:
    from tasks.parallel.split import Section

__all__ = ["cut_job"]


def cut_job(job: Job, *, most: int) -> list[Slice]:
    """The parts of a job: its sections, or n times the whole for a vote.

    Raises:
        BadInput: if the text has no section of that kind, or more than `most`.
    """
    if job.kind == "vote":
        return [_vote(job.variety or Variety(), index) for index in range(job.n or 1)]
    if job.items is not None:
        slices = [_item(job, index, item) for index, item in enumerate(job.items)]
    else:
        sections = split(job.text or "", job.split or "", job.split_options)
        slices = [_section(job, section) for section in sections if section.text.strip()]
    if not slices:
        raise BadInput("text", f"the split {job.split!r} makes no section of it", "use another split, or send items")
    if len(slices) > most:
        raise BadInput(
            "items" if job.items is not None else "text",
            f"makes {len(slices)} sections, the limit is {most}",
            "cut it coarser, or raise limits.parts in the configuration",
        )
    return slices


def _vote(variety: Variety, index: int) -> Slice:
    def turn(among: tuple[str, ...] | tuple[int, ...]) -> str | int | None:
        return among[index % len(among)] if among else None

    prompt, model, seed = turn(variety.prompts), turn(variety.models), turn(variety.seeds)
    own = PartInput(
        prompt=None if prompt is None else str(prompt),
        seed=None if seed is None else int(seed),
        among=() if model is None else (str(model),),
    )
    return Slice(f"vote {index + 1}", None, own)


def _item(job: Job, index: int, item: str | Item) -> Slice:
    if isinstance(item, str):
        item = Item(text=item)
    title = item.title or f"item {index + 1}"
    if job.each is not None or item.route is not None or item.model is not None:
        return Slice(title, item.text, child=fields_for_item(job, item))
    return Slice(title, item.text, PartInput(prompt=item.prompt, schema=item.response_schema))


def _section(job: Job, section: Section) -> Slice:
    return Slice(
        section.title, section.text, child=fields_for_section(job, section.text) if job.each is not None else None
    )
