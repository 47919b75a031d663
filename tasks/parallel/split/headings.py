"""`headings`: a section for each Markdown heading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import Field

from tasks.parallel.split.registry import SplitOptions, nothing_found, splitter
from tasks.parallel.split.section import FENCE, Section, closing_fence, cut_at_lines, shorten, split_lines


class HeadingsOptions(SplitOptions):
    #: Cut at this level and above: with 2, text below ``###`` stays in its section.
    level: int = Field(default=6, ge=1, le=6)


@splitter(options=HeadingsOptions)
def headings(text: str, options: HeadingsOptions) -> list[Section]:
    """Begin a section at each Markdown heading (CommonMark 4.2, 4.3), down to a level.

    Headings are ``# ATX`` or underlined with ``===`` or ``---``, and not in fenced code, comments or front matter. Text
    before the first heading is a section titled "".
    """
    lines = split_lines(text)
    cuts = [(line, title) for line, title, depth in _find_headings(lines) if depth <= options.level]
    if not cuts:
        below = f" of level {options.level} or above" if options.level < 6 else ""
        raise nothing_found("headings", f"the document has no Markdown heading{below}")
    return cut_at_lines(lines, cuts, opening="")


_ATX = re.compile(r" {0,3}(?P<level>#{1,6})(?:[ \t]+(?P<title>.*))?$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
#: Lines that are no paragraph text, so the line below is no underline: quotes, list items, rules, tables.
_NO_PARAGRAPH = re.compile(r" {0,3}(?:>|<!--|[-+*](?:[ \t]|$)|\d{1,9}[.)][ \t]+$|(?:[-*_][ \t]*){3,}$|\|)")


def _find_headings(lines: Sequence[str]) -> Iterator[tuple[int, str, int]]:
    """Yield line, title and level of each heading."""
    closing: re.Pattern[str] | None = None  # the end of the current fence or comment
    paragraph: int | None = None
    for number in range(_skip_front_matter(lines), len(lines)):
        line = lines[number].rstrip("\r\n")
        if closing is not None:
            closing = None if closing.search(line) else closing
        elif fence := FENCE.match(line):
            closing, paragraph = closing_fence(fence), None
        elif line.lstrip().startswith("<!--") and "-->" not in line:
            closing, paragraph = re.compile("-->"), None
        elif atx := _ATX.match(line):
            paragraph = None
            yield number, shorten(_strip_closing(atx["title"] or "")), len(atx["level"])
        elif paragraph is not None and _UNDERLINE.match(line):
            yield paragraph, shorten(" ".join(lines[paragraph:number])), 1 if "=" in line else 2
            paragraph = None
        elif not line.strip() or _NO_PARAGRAPH.match(line):
            paragraph = None
        elif paragraph is None and not line.startswith(("    ", "\t")):
            paragraph = number


def _strip_closing(title: str) -> str:
    """Drop the closing sequence of ``# Title #``, but not the sharp of ``# C#``."""
    title = title.strip()
    bare = title.rstrip("#")
    return bare if not bare or bare[-1].isspace() else title


def _skip_front_matter(lines: Sequence[str]) -> int:
    """Return the first line after front matter: YAML in ``---``, TOML in ``+++``, JSON in ``;;;``.

    A closing ``---`` would underline the line above it, and comments (``# …``) would be headings. A rule at the top of
    a text is no front matter: something that names a value must follow it.
    """
    start = lines[0].removeprefix("\ufeff").rstrip() if lines else ""
    if start not in _FRONT_MATTER:
        return 0
    closing = _FRONT_MATTER[start]
    named = False
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() in closing:
            return number + 1 if named or number == 1 else 0
        if named or not line.strip() or line.lstrip().startswith("#"):
            continue
        if not _NAMES_VALUE.match(line):
            return 0
        named = True
    return 0


#: What opens front matter, and what closes it.
_FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",), ";;;": (";;;",)}
#: The first line of front matter: ``title: Guide``, ``title = "Guide"``, ``[params]``, ``{``.
_NAMES_VALUE = re.compile(r"\s*(?:[\w\"'][^:=\n]{0,200}?\s{0,9}[:=](?:\s|$)|[\[{])")
