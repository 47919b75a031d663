"""Joins: how a function declares that it is one, and how a job finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, JsonValue

from tasks.contract.plugins import Plugins
from tasks.contract.schema import check_schema
from tasks.contract.validation import Value
from tasks.parallel.joins.work import Join
from tasks.parallel.votes.answer_form import Form

#: The join of a job that names none, by its kind.
DEFAULT_JOINS: Mapping[str, str] = {"sections": "concatenate", "vote": "majority"}

#: From an output and the options of the join to the ballot; "" abstains.
Ballot = Callable[[str, "BaseModel | None"], str]


def _check_schema(schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    check_schema(schema)
    return schema


#: A JSON Schema of the output, checked with the options.
ResultSchema = Annotated[Mapping[str, JsonValue], AfterValidator(_check_schema)]


class JoinOptions(Value):
    """The `join_options` of a join; each join with options declares a subclass."""


@dataclass(frozen=True, slots=True)
class JoinTraits:
    """What the caller of a join needs to know before the call."""

    #: The kinds of job that may use the join.
    kinds: tuple[Literal["sections", "vote"], ...]
    #: The class of `join_options`.
    options: type[BaseModel] | None = None
    #: For votes that may stop early: the ballot of an output. None: the join needs all parts.
    ballot: Ballot | None = None
    #: The same for an output that was cut: "" unless it is sure, whatever was still to come. None: it abstains.
    cut_ballot: Ballot | None = None
    #: Whether the join asks models; `join_model` names them.
    asks: bool = False
    #: For votes: the form of an output, by the options of the join; None where they declare none.
    form: Callable[[BaseModel | None], Form] | None = None


def joiner(
    *,
    kinds: tuple[Literal["sections", "vote"], ...],
    options: type[BaseModel] | None = None,
    ballot: Ballot | None = None,
    cut_ballot: Ballot | None = None,
    asks: bool = False,
    form: Callable[[BaseModel | None], Form] | None = None,
) -> Callable[[Join], Join]:
    """Declare a join with its `JoinTraits`. A join without this declaration takes every kind and has no options."""

    def mark(function: Join) -> Join:
        function.traits = JoinTraits(kinds, options, ballot, cut_ballot, asks, form)  # type: ignore[attr-defined]
        return function

    return mark


#: All joins by name; those without a declaration take every kind and have no options.
JOINS: Plugins[Join, JoinTraits] = Plugins("pointsman.joins", "join", JoinTraits(("sections", "vote")))
