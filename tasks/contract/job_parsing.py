"""Read a job from parsed JSON, and report the first problem with its field and a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tasks.contract.errors import BadInput
from tasks.contract.job import File, Item, Job, Message, Parent, Variety
from tasks.contract.validation import JSON_WORDS, FieldProblem, Loc, Words, find_problems, format_path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["parse_job"]


def parse_job(data: Any, *, at: str = "") -> Job:
    """Read a job from parsed JSON.

    `at` is the place of the job in a larger request (``[3]``); the field of the error starts with it.

    Raises:
        BadInput: with the first field that is wrong, and the values that it accepts.
    """
    if not isinstance(data, Mapping):
        raise BadInput(at or "job", "must be a JSON object")
    try:
        return Job.model_validate(data)
    except BadInput as error:
        raise BadInput(_join_path(at, error.field), error.problem, error.remedy) from None
    except ValidationError as error:
        problem = _first_problem(error)
        remedy = ""
        if problem.type == "extra_forbidden":
            kind, _ = _model_at(problem.loc)
            remedy = f"fields are: {', '.join(kind.model_fields)}"
        raise BadInput(_join_path(at, format_path(problem.loc) or "job"), problem.text, remedy) from None


#: The models inside a job, by field, and their names in errors.
_INNER: Mapping[str, tuple[type[BaseModel], str]] = {
    "items": (Item, "an item"),
    "messages": (Message, "a message"),
    "files": (File, "a file"),
    "variety": (Variety, "variety"),
    "parent": (Parent, "parent"),
}


def _model_at(loc: Loc) -> tuple[type[BaseModel], str]:
    """The model that has the field at `loc`, and its name in errors."""
    return _INNER[str(loc[0])] if len(loc) > 1 else (Job, "a job")


def _count(error: ErrorDetails) -> str:
    context = error["ctx"]
    bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']:,}"
    return f"has {context['actual_length'] or 'no'} entries; {bound} may be there"


_WORDS: Words = {
    **JSON_WORDS,
    "missing": "is needed",
    "extra_forbidden": lambda error: f"is not a field of {_model_at(error['loc'])[1]}",
    "too_short": _count,
    "too_long": _count,
}


def _first_problem(error: ValidationError) -> FieldProblem:
    """The first problem. An item may be a text or an object: of an object, report its fields."""
    problems = find_problems(error, _WORDS)
    first = problems[0]
    if first.loc[0] != "items" or first.loc[2:] != ("str",):
        return first
    item = first.loc[:2]
    for other in problems:
        if other.loc[:3] == (*item, "Item") and other.type != "model_type":
            return replace(other, loc=(*item, *other.loc[3:]))
    return FieldProblem(item, "must be a text, or a JSON object with a text", "item")


def _join_path(at: str, field: str) -> str:
    return f"{at}.{field}" if at else field
