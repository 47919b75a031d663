"""One JSON value of many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from tasks.contract.errors import JoinError
from tasks.contract.schema import check_schema, problem_of
from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.gaps import coverage
from tasks.parallel.joins.merging import Conflicts, Disagreement, Merging, sort_by
from tasks.parallel.joins.parsed import as_text, parse_all
from tasks.parallel.joins.values import Joined, Missing, Work, listed

__all__ = ["MergeOptions", "Sort", "merge"]


class Sort(BaseModel):
    """How arrays of objects are ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(min_length=1)
    descending: bool = False
    #: Texts from the first to the last: ``["high", "medium", "low"]``. What isn't among them goes last.
    order: tuple[str, ...] = ()


class MergeOptions(BaseModel):
    """What `join_options` may say to `merge`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Elements of an array with equal values of this field become one.
    key: str | None = Field(default=None, min_length=1)
    #: Whether an element that an array has already is left out.
    unique: bool = False
    #: What becomes of single values of one key that differ.
    conflicts: Conflicts = "list"
    sort: Sort | None = None
    #: JSON Schema of the merged value; `response_schema` of the job is that of each part.
    result_schema: Mapping[str, JsonValue] | None = None
    #: An output that is no JSON fails the join, or is left out and named.
    unreadable: Literal["error", "skip"] = "error"
    #: The key of the merged object under which it says what is missing; null: `details` alone say so.
    missing_key: str | None = Field(default=None, min_length=1)

    @field_validator("result_schema")
    @classmethod
    def _checkable(cls, value: Mapping[str, JsonValue] | None) -> Mapping[str, JsonValue] | None:
        if value is not None:
            check_schema(value)
        return value


@joiner(kinds=("sections",), options=MergeOptions)
def merge(work: Work) -> Joined:
    """Merge the outputs, JSON each, in index order: see `Merging`.

    `confidence` is the share of the sections whose output is in the answer.
    """
    options = work.options if isinstance(work.options, MergeOptions) else MergeOptions()
    if not work.pieces:
        raise JoinError(f"none of the {len(work.missing)} sections has an output")
    found, unreadable = parse_all(work.pieces, skip=options.unreadable == "skip")
    merging = Merging(options.conflicts, key=options.key, unique=options.unique)
    last = found[0].piece
    try:
        for one in found:
            last = one.piece
            merging.add(one.data)
        merged = merging.result()
    except Disagreement as error:
        raise JoinError(
            f"part {last.index + 1} or one before it disagrees with another at {error.place}, and conflicts is error"
        ) from None
    if options.sort is not None:
        merged = sort_by(merged, options.sort.field, descending=options.sort.descending, order=options.sort.order)
    gaps = [*work.missing, *(Missing(piece.index, piece.title, "its output is no JSON") for piece in unreadable)]
    if options.missing_key is not None and gaps and isinstance(merged, dict):
        merged[options.missing_key] = [_named(gap) for gap in sorted(gaps, key=lambda gap: gap.index)]
    _check(merged, options.result_schema)
    details = {
        "sections": len(found),
        "missing": listed(work.missing),
        "unreadable": [piece.index for piece in unreadable],
        "conflicts": merging.places,
        "confidence": coverage(len(found), len(gaps)),
    }
    return Joined(as_text(merged), details)


def _named(gap: Missing) -> dict[str, Any]:
    return {"section": gap.index + 1, "title": gap.title, "reason": gap.reason}


def _check(merged: Any, schema: Mapping[str, JsonValue] | None) -> None:
    problem = problem_of(schema, merged) if schema is not None else None
    if problem is not None:
        raise JoinError(f"the merged answer breaks result_schema at {problem.rule}")
