"""The automatic numbers of a DOCX: what Word writes before a paragraph, and no text of the file holds.

A paragraph, or a style that it is based on, names a numbering (``w:num``), which is an abstract one with overrides; its
levels have a format, a start and a text such as ``%1.%2`` (ECMA-376-1, 17.9).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple
from xml.etree.ElementTree import Element

from tasks.documents.numerals import numeral

#: The namespace of WordprocessingML; that of strict documents is renamed to it.
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
#: Levels of a list, and steps of a chain of styles or of numberings that name each other.
LEVELS, CHAIN = 9, 20
#: The largest number that Word counts to.
LARGEST = 32_767

_PLACE = re.compile(r"%([1-9])")
_ZEROS = re.compile(r"0*(?=1)")


class NumberLabel(NamedTuple):
    """What stands before a paragraph: ``1.2``, ``(a)``, or ``-`` for every bullet."""

    text: str
    level: int
    bullet: bool


@dataclass(frozen=True, slots=True)
class _Level:
    start: int = 1
    form: str = "decimal"
    text: str = ""
    #: The level, counted from 1, whose paragraphs restart this one: 0 for none, None for every higher one.
    restart: int | None = None
    legal: bool = False
    style: str = ""
    #: Digits at least, for a custom format such as ``001, 002, …``.
    digits: int = 0


class _List(NamedTuple):
    abstract: str
    levels: Mapping[int, _Level]
    restarted: frozenset[int]


class _Style(NamedTuple):
    based_on: str
    number: Element | None
    heading: int


class Numbering:
    """Counts the numbered paragraphs of a document, in their order."""

    def __init__(self, numbering: Element | None, styles: Element | None) -> None:
        self._styles: dict[str, _Style] = {}
        self._default = ""
        for style in () if styles is None else styles.iterfind(f"{W}style"):
            name = style.get(f"{W}styleId", "")
            self._styles[name] = _Style(_value(style, "basedOn"), style.find(f"{W}pPr/{W}numPr"), _heading(style))
            if style.get(f"{W}type") == "paragraph" and style.get(f"{W}default") in {"1", "true", "on"}:
                self._default = name
        found = () if numbering is None else numbering.iterfind(f"{W}abstractNum")
        self._abstract = {abstract.get(f"{W}abstractNumId", ""): abstract for abstract in found}
        found = () if numbering is None else numbering.iterfind(f"{W}num")
        self._nums = {num.get(f"{W}numId", ""): num for num in found}
        self._lists: dict[str, _List | None] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._used: set[str] = set()

    def heading(self, properties: Element | None) -> int:
        """Return the heading level of a paragraph with these properties, from 1 to 9; 0 for body text."""
        if properties is not None and properties.find(f"{W}outlineLvl") is not None:
            return _outline(properties)
        return next((style.heading for _, style in self._chain(properties) if style.heading >= 0), 0)

    def label(self, properties: Element | None) -> NumberLabel | None:
        """Count a paragraph with these properties, and return its label; None if it has none."""
        own = None if properties is None else properties.find(f"{W}numPr")
        chain = list(self._chain(properties))
        # What the paragraph sets itself goes before what its styles set, the nearest first.
        set_by = [number for number in (own, *(style.number for _, style in chain)) if number is not None]
        name = next((value for number in set_by if (value := _value(number, "numId"))), "")
        numbers = self._list(name)
        if numbers is None:
            return None
        level = _number(_value(own, "ilvl"), -1) if own is not None else -1
        if level < 0:
            linked = {known.style: at for at, known in numbers.levels.items() if known.style}
            level = next((linked[style] for style, _ in chain if style in linked), -1)
        if level < 0:
            level = next((_number(value, 0) for number in set_by if (value := _value(number, "ilvl"))), 0)
        return self._count(name, numbers, min(level, LEVELS - 1))

    def _count(self, name: str, numbers: _List, level: int) -> NumberLabel | None:
        counts = self._counts.setdefault(numbers.abstract, {})
        if name not in self._used:
            self._used.add(name)
            for restarted in numbers.restarted:
                counts.pop(restarted, None)
        known = numbers.levels.get(level, _Level())
        counts[level] = min(counts[level] + 1 if level in counts else known.start, LARGEST)
        for deeper in range(level + 1, LEVELS):
            restart = numbers.levels.get(deeper, _Level()).restart
            if restart is None or level < restart:
                counts.pop(deeper, None)
        if known.form == "bullet":
            return NumberLabel("-", level, bullet=True)

        def written(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            at = numbers.levels.get(place, _Level())
            form = "decimal" if known.legal and at.form != "decimalZero" else at.form
            return numeral(counts.get(place, at.start), form).zfill(at.digits)

        text = " ".join(_PLACE.sub(written, known.text).split())
        return NumberLabel(text, level, bullet=False) if text else None

    def _chain(self, properties: Element | None) -> Iterator[tuple[str, _Style]]:
        """Yield the style of a paragraph and those that it is based on."""
        name = (_value(properties, "pStyle") if properties is not None else "") or self._default
        for _ in range(CHAIN):
            if (style := self._styles.get(name)) is None:
                return
            yield name, style
            name = style.based_on

    def _list(self, name: str) -> _List | None:
        """Return the list with the id `name`; None for ``0``, which takes a number away, and for unknown ones."""
        if name not in self._lists:
            self._lists[name] = self._read_list(name, CHAIN)
        return self._lists[name]

    def _read_list(self, name: str, steps: int) -> _List | None:
        num = self._nums.get(name)
        if num is None or name == "0" or not steps:
            return None
        at = _value(num, "abstractNumId")
        abstract = self._abstract.get(at)
        if abstract is None:
            return None
        levels = {level: known for item in abstract.iterfind(f"{W}lvl") for level, known in _read_level(item)}
        if link := _value(abstract, "numStyleLink"):  # the levels are those of a style's list
            style = self._styles.get(link)
            linked = "" if style is None or style.number is None else _value(style.number, "numId")
            if (found := self._read_list(linked, steps - 1)) is not None:
                at, levels = found.abstract, {**found.levels, **levels}
        restarted = set()
        for override in num.iterfind(f"{W}lvlOverride"):
            levels |= {level: known for item in override.iterfind(f"{W}lvl") for level, known in _read_level(item)}
            level = _number(override.get(f"{W}ilvl", ""), 0)
            if start := _value(override, "startOverride"):
                restarted.add(level)
                levels[level] = replace(levels.get(level, _Level()), start=_number(start, 1))
        return _List(at, levels, frozenset(restarted))


def _read_level(item: Element) -> Iterator[tuple[int, _Level]]:
    restart = _value(item, "lvlRestart")
    form = item.find(f"{W}numFmt")
    # Word writes a format of its own beside the nearest one of the standard: the first is its own.
    forms = [form] if form is not None else list(item.iter(f"{W}numFmt"))
    name = forms[0].get(f"{W}val", "decimal") if forms else "decimal"
    zeros = _ZEROS.match(forms[0].get(f"{W}format", "")) if name == "custom" else None
    yield (
        _number(item.get(f"{W}ilvl", ""), 0),
        _Level(
            start=_number(_value(item, "start"), 1),
            form=name,
            text=_value(item, "lvlText")[:100],
            restart=_number(restart, 0) if restart else None,
            legal=is_on(item.find(f"{W}isLgl")),
            style=_value(item, "pStyle"),
            digits=len(zeros[0]) + 1 if zeros else 0,
        ),
    )


def _heading(style: Element) -> int:
    """Return the heading level that a style sets, from 1; 0 for body text, -1 if it sets none."""
    name = _value(style, "name").lower()
    if re.fullmatch(r"heading [1-9]", name):
        return int(name[-1])
    properties = style.find(f"{W}pPr")
    return -1 if properties is None or properties.find(f"{W}outlineLvl") is None else _outline(properties)


def _outline(properties: Element) -> int:
    level = _number(_value(properties, "outlineLvl"), 9)
    return level + 1 if level < 9 else 0


def is_on(switch: Element | None) -> bool:
    """Whether a switch such as ``<w:vanish/>`` is there and not turned off."""
    return switch is not None and switch.get(f"{W}val", "1") not in {"0", "false", "off"}


def _value(element: Element, name: str) -> str:
    child = element.find(f"{W}{name}")
    return "" if child is None else child.get(f"{W}val", "")


def _number(written: str, default: int) -> int:
    return min(int(written[:9]), LARGEST) if written.isascii() and written.isdecimal() else default
