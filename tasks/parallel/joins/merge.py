"""`merge`: one JSON value of many."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import Field

from tasks.contract.errors import JoinError
from tasks.contract.schema import find_problem
from tasks.parallel.joins.outputs import as_text, parse_outputs
from tasks.parallel.joins.registry import JoinOptions, ResultSchema, joiner
from tasks.parallel.joins.work import Joined, Missing, Work, coverage

#: What replaces different single values under the same key.
Conflicts: TypeAlias = Literal["list", "first", "last", "error"]

#: Places of conflicts that `details` hold.
MOST_PLACES = 100
#: A key that may be shown: others could be a model's sentence.
_WORD = re.compile(r"[\w-]{1,40}")


class Sort(JoinOptions):
    """The order of arrays of objects."""

    field: str = Field(min_length=1)
    descending: bool = False
    #: Texts from the first to the last: ``["high", "medium", "low"]``. Other values go last.
    order: tuple[str, ...] = ()


class MergeOptions(JoinOptions):
    """The `join_options` of `merge`."""

    #: Elements of an array with equal values of this field become one.
    key: str | None = Field(default=None, min_length=1)
    #: Whether repeated elements of an array are left out.
    unique: bool = False
    #: What replaces different single values of one key.
    conflicts: Conflicts = "list"
    sort: Sort | None = None
    #: JSON Schema of the merged value; `response_schema` of the job is that of each part.
    result_schema: ResultSchema | None = None
    #: An output that is no JSON fails the join, or is left out and listed in `details`.
    unreadable: Literal["error", "skip"] = "error"
    #: The key of the merged object that lists the missing sections; null: `details` alone list them.
    missing_key: str | None = Field(default=None, min_length=1)


@joiner(kinds=("sections",), options=MergeOptions)
def merge(work: Work) -> Joined:
    """Merge the outputs, each of them JSON, in index order; `MergedValue` has the rules.

    `confidence` is the share of the sections whose output is in the merged value.
    """
    options = work.options_as(MergeOptions)
    work.require_pieces()
    found, unreadable = parse_outputs(work.pieces, skip=options.unreadable == "skip")
    merging = MergedValue(options.conflicts, key=options.key, unique=options.unique)
    last = found[0][0]
    try:
        for last, data in found:  # noqa: B007 - the error names it
            merging.add(data)
        merged = merging.result()
    except Disagreement as error:
        raise JoinError(
            f"part {last.index + 1} or one before it disagrees with another at {error.place}, and conflicts is error"
        ) from None
    if options.sort is not None:
        merged = sort_by(merged, options.sort.field, descending=options.sort.descending, order=options.sort.order)
    gaps = [*work.missing, *(Missing(piece.index, piece.title, "its output is no JSON") for piece in unreadable)]
    if options.missing_key is not None and gaps and isinstance(merged, dict):
        merged[options.missing_key] = [
            {"section": gap.index + 1, "title": gap.title, "reason": gap.reason}
            for gap in sorted(gaps, key=lambda gap: gap.index)
        ]
    problem = find_problem(options.result_schema, merged) if options.result_schema is not None else None
    if problem is not None:
        raise JoinError(f"the merged answer breaks result_schema at {problem.rule}")
    details = {
        "sections": len(found),
        **work.gaps(),
        "unreadable": [piece.index for piece in unreadable],
        "conflicts": merging.places,
        "confidence": coverage(len(found), len(gaps)),
    }
    return Joined(as_text(merged), details)


class Disagreement(Exception):
    """Two single values differ at `place`, and `conflicts` is ``error``."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(place)


class _Values:
    """The different single values of one key."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self._marks = {_identity(value) for value in values}

    def add(self, value: Any) -> None:
        if (mark := _identity(value)) not in self._marks:
            self._marks.add(mark)
            self.values.append(value)


class MergedValue:
    """A JSON value into which others are merged, and which takes their parts over.

    Objects are merged by key, arrays one after the other. Every value replaces null. A single value beside an array
    becomes one of its elements. `conflicts` decides between different single values, and between one and an object.
    """

    def __init__(self, conflicts: Conflicts, *, key: str | None = None, unique: bool = False) -> None:
        self._rule = conflicts
        self._key = key
        self._unique = unique
        self._value: Any = None
        #: The places of different values, in order of appearance.
        self.places: list[str] = []

    def add(self, value: Any) -> None:
        """Merge one more value.

        Raises:
            Disagreement: if `conflicts` is ``error``.
        """
        self._value = self._merge(self._value, value, ())

    def result(self) -> Any:
        """Return the merged value, with its arrays united by `key` and without repetitions if `unique` is set.

        Raises:
            Disagreement: if `conflicts` is ``error`` and elements with the same key differ.
        """
        return self._tidy(self._value, ())

    def _merge(self, old: Any, new: Any, path: tuple[str, ...]) -> Any:
        if old is None or new is None:
            return new if old is None else old
        if isinstance(old, dict) and isinstance(new, dict):
            for name, value in new.items():
                old[name] = self._merge(old[name], value, (*path, name)) if name in old else value
            return old
        if isinstance(old, list) or isinstance(new, list):
            elements = old.values if isinstance(old, _Values) else old if isinstance(old, list) else [old]
            elements.extend(new if isinstance(new, list) else [new])
            return elements
        return self._settle(old, new, path)

    def _settle(self, old: Any, new: Any, path: tuple[str, ...]) -> Any:
        if isinstance(old, _Values):
            old.add(new)
            return old
        if _identity(old) == _identity(new):
            return old
        place = _format_place(path)
        if self._rule == "error":
            raise Disagreement(place)
        if place not in self.places and len(self.places) < MOST_PLACES:
            self.places.append(place)
        if self._rule == "list":
            return _Values(old, new)
        return old if self._rule == "first" else new

    def _tidy(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, _Values):
            value = value.values
        elif isinstance(value, dict):
            return {name: self._tidy(inner, (*path, name)) for name, inner in value.items()}
        if not isinstance(value, list):
            return value
        elements = self._unite(value, (*path, "[]")) if self._key else value
        elements = [self._tidy(element, (*path, "[]")) for element in elements]
        if not self._unique:
            return elements
        firsts: dict[tuple[str, Any], Any] = {}
        for element in elements:
            firsts.setdefault(_identity(element), element)
        return list(firsts.values())

    def _unite(self, elements: Sequence[Any], path: tuple[str, ...]) -> list[Any]:
        """Unite objects with the same value of the key at the place of the first of them."""
        united: list[Any] = []
        places: dict[tuple[str, Any], int] = {}
        for element in elements:
            known = element.get(self._key) if isinstance(element, dict) else None
            if known is None:
                united.append(element)
                continue
            place = places.setdefault(_identity(known), len(united))
            if place == len(united):
                united.append(element)
            else:
                united[place] = self._merge(united[place], element, path)
        return united


def sort_by(value: Any, field: str, *, descending: bool, order: Sequence[str] = ()) -> Any:
    """Sort each array of objects in `value`, at any depth, by a field; elements without the field go last.

    Numbers go before texts. With `order`, the rank of a text is its place there, whatever its case.
    """
    if isinstance(value, dict):
        return {name: sort_by(inner, field, descending=descending, order=order) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    elements = [sort_by(element, field, descending=descending, order=order) for element in value]
    if not all(isinstance(element, dict) for element in elements):
        return elements
    ranked = [(order_of(element.get(field), order), element) for element in elements]
    known = [(rank, element) for rank, element in ranked if rank is not None]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [element for _, element in known] + [element for rank, element in ranked if rank is None]


def order_of(value: Any, order: Sequence[str] = ()) -> tuple[int, float, str] | None:
    """Return the sort key of a value; None if the value has no place in the order."""
    if order:
        names = [name.casefold() for name in order]
        name = value.strip().casefold() if isinstance(value, str) else json.dumps(value)
        return (0, names.index(name), "") if name in names else None
    if isinstance(value, int | float):
        try:
            return 0, float(value), ""
        except OverflowError:
            return 0, float("inf") if value > 0 else float("-inf"), ""
    return (1, 0.0, value) if isinstance(value, str) else None


def _identity(value: Any) -> tuple[str, Any]:
    """Return equal marks for equal JSON values: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value
    if isinstance(value, str):
        return "text", value
    return "json", json.dumps(value, sort_keys=True, default=lambda known: known.values)


def _format_place(path: Iterable[str]) -> str:
    named = "".join(step if step == "[]" else f".{step if _WORD.fullmatch(step) else '…'}" for step in path)
    return named.lstrip(".") or "the whole"
