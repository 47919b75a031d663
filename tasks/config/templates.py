"""Templates of Jinja2 in its sandbox: they see the variables that they are given, and nothing else.

No includes, no imports, no loader; what is undefined is an error, but in conditions, where it is false. Values stand as
they are, lists and objects as JSON, nothing is escaped: what is filled in is a prompt, not a page.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import ChainableUndefined, StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.contract.errors import PromptError

if TYPE_CHECKING:
    import jinja2

__all__ = ["Expression", "Template", "compile_expression", "compile_template"]

#: Globals of Jinja2 that stay: the others are for pages, or give another text every time.
_GLOBALS = ("range", "dict", "namespace")
#: Filters that give another text every time.
_CHANCE = ("random",)
#: What a template is called in tracebacks.
_FILE = "<template>"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Where a value of JSON has an entry of this name, ``value.items`` is the entry, not the method of a dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _written(value: Any) -> Any:
    """As it stands in the text: nothing for null, JSON for lists, objects and truth values."""
    if value is None:
        return ""
    return _json(value) if isinstance(value, list | tuple | dict | bool) else value


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _sandbox(undefined: type[jinja2.Undefined]) -> _Sandbox:
    made = _Sandbox(undefined=undefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, finalize=_written)
    made.globals = {name: made.globals[name] for name in _GLOBALS}
    made.filters = {name: kept for name, kept in made.filters.items() if name not in _CHANCE}
    # Theirs writes < and & as numbers, for pages.
    made.filters["tojson"] = _json
    return made


_STRICT = _sandbox(StrictUndefined)
_LENIENT = _sandbox(ChainableUndefined)


class Template:
    """A text with variables. Safe to share between threads."""

    def __init__(self, source: str, name: str) -> None:
        self._source = source
        self._name = name
        #: Made at the first use: a process that only submits jobs has none.
        self._compiled: jinja2.Template | None = None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text, without blanks at its ends.

        Raises:
            PromptError: if a variable is undefined, or the template can't be filled in with these.
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
        """Whether it is true; what is undefined is false.

        Raises:
            PromptError: if it can't be worked out.
        """
        try:
            return bool(self._compiled(**variables))
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            raise _failed(error, self._source, self._name) from None


def compile_template(
    source: str, *, name: str, known: Collection[str]
) -> tuple[Template | None, list[tuple[int, str]]]:
    """The template, or what is wrong with it: a line (from 1) and a sentence each. `known` are its variables.

    `name` is what an error calls it when it can't be filled in.
    """
    tree, problems = _parse(source, known)
    if tree is None or problems:
        return None, problems
    return Template(source, name), []


def compile_expression(
    source: str, *, name: str, known: Collection[str]
) -> tuple[Expression | None, list[tuple[int, str]]]:
    """As `compile_template`, of one expression without braces."""
    _, problems = _parse("{{ (" + source + ") }}", known)
    if problems:
        return None, problems
    try:
        return Expression(_LENIENT.compile_expression(source, undefined_to_none=False), source, name), []
    except TemplateSyntaxError as error:
        return None, [(1, f"is no expression: {error.message}")]


def _parse(source: str, known: Collection[str]) -> tuple[nodes.Template | None, list[tuple[int, str]]]:
    try:
        tree = _STRICT.parse(source)
        problems = list(_problems(tree, known))
    except TemplateSyntaxError as error:
        return None, [(error.lineno, f"is no template: {error.message}")]
    except RecursionError:
        return None, [(1, "is nested too deeply")]
    return tree, problems


def _problems(tree: nodes.Template, known: Collection[str]) -> Iterator[tuple[int, str]]:
    """Names that are none, and what reaches out. In one walk: a configuration may have hundreds of templates.

    A name that the template sets anywhere is known everywhere; where it isn't set yet it is undefined when it is used.
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
    """Names the line and the variable, where it stands in the template; never a value."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    where = f"{name}, line {lines[-1]}" if lines and lines[-1] and "\n" in source else name
    if isinstance(error, UndefinedError):
        quoted = re.findall(r"'(\w+)'", str(error))
        known = [word for word in quoted[-1:] if re.search(rf"\b{re.escape(word)}\b", source)]
        return PromptError(f"{where}: {repr(known[0]) if known else 'a variable'} is undefined")
    return PromptError(f"{where}: can't be filled in ({type(error).__name__})")
