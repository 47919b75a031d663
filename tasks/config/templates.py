"""Jinja2 templates in a sandbox: they see only the variables that they are given.

There are no includes, imports or loaders. An undefined variable is an error, but false in a condition. Values are not
escaped, lists and objects become JSON: the result is a prompt, not a page.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import ChainableUndefined, StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.contract.errors import PromptError

#: The globals of Jinja2 that stay; the others are for pages, or random.
_GLOBALS = ("range", "dict", "namespace")
#: Filters with random results.
_RANDOM = ("random",)
#: The file name of a template in tracebacks.
_FILE = "<template>"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Reads ``value.items`` as the entry of a mapping where there is one, not as the method of a dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _format(value: Any) -> Any:
    """Format a value for the text: nothing for null, JSON for lists, objects and booleans."""
    if value is None:
        return ""
    return _json(value) if isinstance(value, list | tuple | dict | bool) else value


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _sandbox(undefined: type[jinja2.Undefined]) -> _Sandbox:
    made = _Sandbox(undefined=undefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, finalize=_format)
    made.globals = {name: made.globals[name] for name in _GLOBALS}
    made.filters = {name: kept for name, kept in made.filters.items() if name not in _RANDOM}
    # Jinja2's own filter escapes < and &, for pages.
    made.filters["tojson"] = _json
    return made


_STRICT = _sandbox(StrictUndefined)
_LENIENT = _sandbox(ChainableUndefined)


class Template:
    """A text with variables. Safe to share between threads."""

    def __init__(self, source: str, name: str) -> None:
        self._source = source
        self._name = name
        #: Compiled at the first use: a process that only submits jobs needs none.
        self._compiled: jinja2.Template | None = None

    def render(self, variables: Mapping[str, Any]) -> str:
        """Fill in the variables, and strip the result.

        Raises:
            PromptError: if a variable is undefined, or the template fails with these values.
        """
        try:
            if self._compiled is None:
                self._compiled = _STRICT.from_string(self._source)
            return self._compiled.render(variables).strip()
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            raise _failed(error, self._source, self._name) from None


class Expression:
    """A condition on variables. Safe to share between threads."""

    def __init__(self, compiled: Any, source: str, name: str) -> None:
        self._compiled = compiled
        self._source = source
        self._name = name

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Evaluate the condition; an undefined variable is false.

        Raises:
            PromptError: if the expression fails with these values.
        """
        try:
            return bool(self._compiled(**variables))
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            raise _failed(error, self._source, self._name) from None


def compile_template(
    source: str, *, name: str, known: Collection[str]
) -> tuple[Template | None, list[tuple[int, str]]]:
    """Compile a template, or find its problems: a line (from 1) and a sentence each.

    `name` stands for the template in errors of rendering; `known` are its variables.
    """
    problems = _find_problems(source, known)
    return (None, problems) if problems else (Template(source, name), [])


def compile_expression(
    source: str, *, name: str, known: Collection[str]
) -> tuple[Expression | None, list[tuple[int, str]]]:
    """As `compile_template`, for one expression without braces."""
    if problems := _find_problems("{{ (" + source + ") }}", known):
        return None, problems
    try:
        return Expression(_LENIENT.compile_expression(source, undefined_to_none=False), source, name), []
    except TemplateSyntaxError as error:
        return None, [(1, f"is no expression: {error.message}")]


def _find_problems(source: str, known: Collection[str]) -> list[tuple[int, str]]:
    try:
        return list(_misused_names(_STRICT.parse(source), known))
    except TemplateSyntaxError as error:
        return [(error.lineno, f"is no template: {error.message}")]
    except RecursionError:
        return [(1, "is nested too deeply")]


def _misused_names(tree: nodes.Template, known: Collection[str]) -> Iterator[tuple[int, str]]:
    """Find unknown names and forbidden statements, in one walk: a configuration may have hundreds of templates.

    A name that the template sets anywhere is known everywhere; used before it is set, it is undefined at run time.
    """
    read: dict[str, int] = {}
    own = {*known, *_GLOBALS}
    todo: list[nodes.Node] = [tree]
    while todo:
        node = todo.pop()
        todo += node.iter_child_nodes()
        if isinstance(node, nodes.Name):
            if node.ctx == "load":
                read[node.name] = min(node.lineno, read.get(node.name, node.lineno))
            else:
                own.add(node.name)
        elif isinstance(node, nodes.Filter | nodes.Test):
            kind = "filter" if isinstance(node, nodes.Filter) else "test"
            if node.name not in (_STRICT.filters if kind == "filter" else _STRICT.tests):
                yield node.lineno, f"there is no {kind} {node.name!r}"
        elif isinstance(node, nodes.Include | nodes.Import | nodes.FromImport | nodes.Extends | nodes.Block):
            yield node.lineno, "a template stands alone: it can't include or import others"
        elif isinstance(node, nodes.For):
            own.add("loop")
        elif isinstance(node, nodes.Macro):
            own |= {node.name, "caller", "varargs", "kwargs"}
    for name in sorted(read.keys() - own):
        yield read[name], f"{name!r} is not a variable here; there are: {', '.join(sorted(known))}"


def _failed(error: Exception, source: str, name: str) -> PromptError:
    """Make an error that names the line and the variable of the template, and never a value."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    where = f"{name}, line {lines[-1]}" if lines and lines[-1] and "\n" in source else name
    if isinstance(error, UndefinedError):
        quoted = re.findall(r"'(\w+)'", str(error))
        known = [word for word in quoted[-1:] if re.search(rf"\b{re.escape(word)}\b", source)]
        return PromptError(f"{where}: {repr(known[0]) if known else 'a variable'} is undefined")
    return PromptError(f"{where}: can't be filled in ({type(error).__name__})")
