"""Joins and splits by name: our own, and those that other packages declare as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.contract.errors import BadInput
from tasks.contract.validation import find_problems

__all__ = ["Plugins"]


class Plugins:
    """The functions of one group of entry points. `noun` names them in errors, and is the field of a job."""

    def __init__(self, group: str, noun: str) -> None:
        self._group, self._noun = group, noun
        self._loaded: dict[str, Any] = {}

    @cached_property
    def _found(self) -> Mapping[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._found))

    def named(self, name: str) -> Any:
        """The function of this name.

        Raises:
            BadInput: if there is none.
        """
        if name not in self._loaded:
            if name not in self._found:
                problem = f"there is no {self._noun} {name!r}"
                raise BadInput(self._noun, problem, f"use one of: {', '.join(self.names)}")
            self._loaded[name] = self._found[name].load()
        return self._loaded[name]

    def options(self, name: str, model: type[BaseModel] | None, given: Mapping[str, Any]) -> BaseModel | None:
        """Check the options of a job for the function of this name by its `model`; None where it has no options.

        Raises:
            BadInput: naming the option that is wrong.
        """
        field = f"{self._noun}_options"
        if model is None:
            if given:
                raise BadInput(field, f"the {self._noun} {name!r} has no options", "leave them out")
            return None
        try:
            return model.model_validate(dict(given))
        except ValidationError as error:
            problem = find_problems(error, {"extra_forbidden": f"is not an option of this {self._noun}"})[0]
            remedy = ""
            if problem.type == "extra_forbidden" and len(problem.loc) == 1:
                remedy = f"options of {name} are: {', '.join(model.model_fields)}"
            raise BadInput(".".join((field, *map(str, problem.loc))), problem.text, remedy) from None
