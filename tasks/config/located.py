"""A YAML file whose problems are told all at once, each with file, line and field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError
from yaml.constructor import SafeConstructor

from tasks.contract.errors import ConfigError

__all__ = ["Loc", "Located", "Problem", "Written", "mapping", "not_one_of", "problems_in", "read_yaml"]

#: A place inside a file: names of fields, and numbers of entries from 0.
Loc: TypeAlias = tuple[str | int, ...]
#: Where a problem stands in the file, and what it is.
Problem: TypeAlias = tuple[Loc, str]

#: Levels of a file that libyaml composes.
MOST_DEPTH = 200


class Located(ValueError):
    """Several problems, each with its place; pydantic passes it through as one error."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


@dataclass(frozen=True, slots=True)
class Written:
    """What was read: plain data, and the line of each value, of a key that stands twice the last."""

    source: str
    data: Mapping[str, Any]
    lines: Mapping[Loc, int]
    twice: tuple[Loc, ...]

    def told(self, problems: Iterable[Problem], *, whole: str) -> str:
        """A line each, in the order of the file: ``source:line: field: what``; `whole` is the field of the file."""
        found = sorted((self._line(loc), _dotted(loc) or whole, text) for loc, text in problems)
        return "\n".join(f"{self.source}:{line}: {field}: {text}" for line, field, text in found)

    def _line(self, loc: Loc) -> int:
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)


def read_yaml(text: str, *, source: str, needs: str) -> Written:
    """Read the text of a file; `source` names it in errors, `needs` says what its mapping must hold.

    Raises:
        ConfigError: if it is no YAML, or no mapping.
    """
    lines: dict[Loc, int] = {}
    try:
        root = _composed(text)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{source}:1: must be a mapping with {needs}")
        twice = _read_lines(root, (), lines)
        data = SafeConstructor().construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-99-99 is a ValueError
        raise ConfigError(f"{source}:1: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{source}:1: nested too deeply, or an alias that holds itself") from None
    return Written(source, data, lines, tuple(twice))


def _composed(text: str) -> Any:
    """Its nodes. libyaml is some times as fast where it is there; what is wrong, the parser in Python says better."""
    if yaml.__with_libyaml__:
        try:
            # Composing is recursive there, and nothing but the end of the stack ends it.
            if _depth(text) <= MOST_DEPTH:
                return yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            pass
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _depth(text: str) -> int:
    """Levels of its deepest value; as soon as they are too many, so many."""
    depth = deepest = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
            if depth > MOST_DEPTH:
                break
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def _read_lines(node: yaml.Node, loc: Loc, lines: dict[Loc, int]) -> list[Loc]:
    """Fill `lines` with the line of every value, of a key that stands twice the last; return such keys."""
    twice: list[Loc] = []
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                twice.append((*loc, name))
            seen.add(name)
            lines[*loc, name] = key.start_mark.line + 1
            twice += _read_lines(value, (*loc, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            twice += _read_lines(value, (*loc, index), lines)
    return twice


def problems_in(error: ValidationError, fields: Callable[[Loc], str]) -> list[Problem]:
    """What pydantic found, in our words. `fields` says what the section at a place may hold."""
    found: list[Problem] = []
    for item in error.errors(include_url=False, include_input=False):
        located = item.get("ctx", {}).get("error")
        if isinstance(located, Located):
            found += located.problems
            continue
        loc = tuple(step for step in item["loc"] if step != "[key]")
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"is not a field here; allowed: {fields(loc[:-1])}"
        elif item["type"] == "missing":
            text = "is missing"
        elif item["type"] == "model_type":
            text = f"must be a mapping with some of {fields(loc)}"
        elif item["type"] in {"dict_type", "mapping_type"}:
            text = "must be a mapping"
        elif item["type"] == "tuple_type":
            text = "must be a list"
        elif item["type"] == "string_pattern_mismatch" and loc[-1] == "api_version":
            text = "must be a date, for example 2023-06-01"
        found.append((loc, text))
    return found


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value where it is a mapping, else an empty one: for data that may be wrong in any way."""
    return value if isinstance(value, Mapping) else {}


def not_one_of(name: str, what: str, known: Iterable[object]) -> str:
    return f"{name!r} is not a {what}; allowed: {', '.join(sorted(map(str, known))) or 'none is configured'}"


def _dotted(loc: Loc) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")
