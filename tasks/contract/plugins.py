"""Joins and splits by name: our own, and those that other packages declare as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.contract.errors import BadInput
from tasks.contract.validation import find_problems

Function = TypeVar("Function")
Traits = TypeVar("Traits")


class Plugins(Generic[Function, Traits]):
    """The functions of one group of entry points. `noun` names them in errors, and is the field of a job.

    A function declares itself by its attribute `traits`; those without have the `plain` ones.
    """

    def __init__(self, group: str, noun: str, plain: Traits) -> None:
        self.group, self._noun, self._plain = group, noun, plain
        self._loaded: dict[str, Function] = {}

    @cached_property
    def _found(self) -> Mapping[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._found))

    def named(self, name: str) -> Function:
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

    def traits(self, name: str) -> Traits:
        """Return the traits of the function of this name; raises as `named`."""
        declared = getattr(self.named(name), "traits", None)
        return declared if isinstance(declared, type(self._plain)) else self._plain

    def options(self, name: str, given: Mapping[str, Any]) -> BaseModel | None:
        """Check the options of a job for the function of this name; None where it has no options.

        Raises:
            BadInput: naming the option that is wrong, or the function where there is none of that name.
        """
        model: type[BaseModel] | None = getattr(self.traits(name), "options", None)
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
