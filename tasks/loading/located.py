"""A YAML file with the line of each value, so that every problem is reported with file, line and field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError
from yaml.constructor import SafeConstructor

from tasks.contract.errors import ConfigError
from tasks.contract.validation import Loc, Words, find_problems, format_path

#: The place of a problem in the file, and its description.
Problem: TypeAlias = tuple[Loc, str]

_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,3}$")
#: Levels of a file that libyaml composes.
MOST_DEPTH = 200


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A parsed file: plain data, and the line of each value; of a key that stands twice, the last line."""

    source: str
    data: Mapping[str, Any]
    lines: Mapping[Loc, int]
    #: A problem for each key that stands twice in its mapping.
    duplicates: tuple[Problem, ...]

    def format_problems(self, problems: Iterable[Problem], *, root: str) -> str:
        """Format a line each, in the order of the file: ``source:line: field: problem``.

        `root` is the field of problems of the whole file.
        """
        found = sorted((self._line(loc), format_path(loc) or root, text) for loc, text in problems)
        return "\n".join(f"{self.source}:{line}: {field}: {text}" for line, field, text in found)

    def _line(self, loc: Loc) -> int:
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)


class _Loader(yaml.SafeLoader):
    """Reads ``1e3`` as a number, as YAML 1.2 does: in YAML 1.1 it is a text."""


class _FastLoader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """The same, by libyaml."""


for _loader in (_Loader, _FastLoader):
    _loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def read_yaml(text: str, *, source: str, needs: str) -> YamlFile:
    """Read the text of a file; `source` names it in errors, `needs` says what its mapping must hold.

    Raises:
        ConfigError: if it is no YAML, or no mapping.
    """
    lines: dict[Loc, int] = {}
    try:
        root = _compose(text)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{source}:1: must be a mapping with {needs}")
        duplicates = _read_lines(root, (), lines)
        data = SafeConstructor().construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-99-99 is a ValueError
        raise ConfigError(f"{source}:1: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{source}:1: nested too deeply, or an alias that holds itself") from None
    return YamlFile(source, data, lines, tuple((loc, "stands twice") for loc in duplicates))


def _compose(text: str) -> Any:
    """Parse with libyaml where it is there, several times as fast; Python's parser explains errors better."""
    if yaml.__with_libyaml__:
        try:
            # libyaml composes recursively, without a limit but the end of the stack.
            if _depth(text) <= MOST_DEPTH:
                return yaml.compose(text, Loader=_FastLoader)
        except yaml.YAMLError:
            pass
    return yaml.compose(text, Loader=_Loader)


def _depth(text: str) -> int:
    """Count the levels of the deepest value, up to one more than `MOST_DEPTH`."""
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
    """Fill `lines` with the line of every value; return the places of keys that stand twice."""
    duplicates: list[Loc] = []
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                duplicates.append((*loc, name))
            seen.add(name)
            lines[*loc, name] = key.start_mark.line + 1
            duplicates += _read_lines(value, (*loc, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            duplicates += _read_lines(value, (*loc, index), lines)
    return duplicates


def read_problems(error: ValidationError, fields_at: Callable[[Loc], str]) -> list[Problem]:
    """Translate pydantic's errors. `fields_at` returns the fields of the section at a place."""
    words: Words = {
        "missing": "is missing",
        "dict_type": "must be a mapping",
        "mapping_type": "must be a mapping",
        "tuple_type": "must be a list",
        "extra_forbidden": lambda item: f"is not a field here; allowed: {fields_at(item['loc'][:-1])}",
        "model_type": lambda item: f"must be a mapping with some of {fields_at(item['loc'])}",
    }
    # pydantic marks the key of a mapping by a step of its own.
    return [
        (tuple(step for step in problem.loc if step != "[key]"), problem.text)
        for problem in find_problems(error, words)
    ]
