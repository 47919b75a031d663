"""HTML as Markdown; DOCX becomes HTML first."""

from __future__ import annotations

import re

from tasks.documents.plain import Reading, Unreadable, decode_declared

#: Elements without readable text, and those that a browser doesn't show.
UNSEEN = ["noscript", "script", "style", "svg", "template"]
#: A number that would begin a list in Markdown: a reader wants it as it was written.
_ESCAPED_NUMBER = re.compile(r"^([ >]*\d{1,9})\\([.)])", re.MULTILINE)
#: The reference of a note and the letters of an ordinal stand above the line, but are no exponents.
_PLAIN_ABOVE = re.compile(r"\^(\[\d{1,6}\]|[A-Za-zºª.]{1,4}|↑)\^")
#: Fields of forms, which hold their values in attributes.
_INPUT = re.compile(r"<(?P<name>input|option)(?P<rest>(?:\s[^<>]{0,2000})?)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(?P<name>[a-zA-Z-]+)(?:\s*=\s*(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"'>]+))?")
_SILENT = frozenset({"hidden", "password", "submit", "button", "image", "reset", "file"})


def read_html(data: bytes) -> Reading:
    """Return a page as Markdown, without its scripts, styles and navigation.

    Raises:
        Unreadable: if it is no text, has no text, or is nested too deeply.
    """
    text = markdown(decode_declared(data)).replace("\u00ad", "")
    if not text.strip():
        raise Unreadable("has no text", "send a page whose text is in its HTML: scripts are not run")
    return Reading(text)


def markdown(html: str) -> str:
    """Convert HTML to Markdown."""
    from html_to_markdown import (  # noqa: PLC0415 - it comes with an extra
        ConversionError,
        ConversionOptions,
        PreprocessingOptions,
        convert,
    )

    options = ConversionOptions(
        autolinks=False,
        br_in_tables=False,
        bullets="-",
        exclude_selectors=UNSEEN,
        expand_abbreviations=False,
        extract_metadata=False,
        include_blockquote_citations=False,
        preprocessing=PreprocessingOptions(enabled=True, remove_navigation=True, remove_forms=False),
        skip_images=True,
        strip_tags=["a"],
        sub_symbol="~",
        sup_symbol="^",
    )
    try:
        result = convert(_INPUT.sub(_write_input, html), options)
    except ConversionError:
        raise Unreadable("is HTML that can't be read", "save it as text or Markdown") from None
    if any(str(warning.kind) == "depth_limit_exceeded" for warning in result.warnings):
        raise Unreadable("has elements nested too deep", "save it as text or Markdown")
    return _PLAIN_ABOVE.sub(r"\1", _ESCAPED_NUMBER.sub(r"\1\2", result.content or ""))


def _write_input(tag: re.Match[str]) -> str:
    """Return the value of a form's field as text: what is typed in, ``[x]`` or ``[ ]``; nothing for a button."""
    given = {match["name"].lower(): (match["value"] or "").strip("\"'") for match in _ATTRIBUTE.finditer(tag["rest"])}
    if (tag["name"].lower()) == "option":
        return f"{tag[0]}[x] " if "selected" in given else tag[0]
    kind = given.get("type", "text").lower()
    if "hidden" in given or kind in _SILENT:
        return ""
    if kind in {"checkbox", "radio"}:
        return "[x]" if "checked" in given else "[ ]"
    return f" {given.get('value', '')}"  # with its character references
