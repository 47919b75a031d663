"""The first problem of a job that is no job, with its field and a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.contract.errors import BadInput
from tasks.contract.job_fields import File, Item, Message, Parent, Variety
from tasks.contract.validation import JSON_WORDS, FieldProblem, Loc, Words, find_problems, format_path


def find_first_error(error: ValidationError, job: type[BaseModel], *, at: str) -> BadInput:
    """The first problem of a job, at its place in the request."""
    problem = _first_problem(error)
    remedy = ""
    if problem.type == "extra_forbidden":
        kind = _INNER[str(problem.loc[0])][0] if len(problem.loc) > 1 else job
        remedy = f"fields are: {', '.join(kind.model_fields)}"
    field = format_path(problem.loc) or "job"
    return BadInput(f"{at}.{field}" if at else field, problem.text, remedy)


#: The models inside a job, by field, and their names in errors.
_INNER: Mapping[str, tuple[type[BaseModel], str]] = {
    "items": (Item, "an item"),
    "messages": (Message, "a message"),
    "files": (File, "a file"),
    "variety": (Variety, "variety"),
    "parent": (Parent, "parent"),
}


def _name_at(loc: Loc) -> str:
    """The name of the model that has the field at `loc`."""
    return _INNER[str(loc[0])][1] if len(loc) > 1 else "a job"


def _count(error: ErrorDetails) -> str:
    context = error["ctx"]
    bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']:,}"
    return f"has {context['actual_length'] or 'no'} entries; {bound} may be there"


_WORDS: Words = {
    **JSON_WORDS,
    "missing": "is needed",
    "extra_forbidden": lambda error: f"is not a field of {_name_at(error['loc'])}",
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
