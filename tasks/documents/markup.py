"""HTML as Markdown: headings, lists, tables, the text of links. Runs in the reader process only."""

from __future__ import annotations

from tasks.documents.plain import decode_html
from tasks.documents.unreadable import Unreadable

__all__ = ["markdown", "read_html"]

#: Elements without readable text.
UNSEEN = ["noscript", "script", "style", "svg", "template"]


def read_html(data: bytes) -> str:
    """Return a page as Markdown, without its scripts, styles and navigation.

    Raises:
        Unreadable: if it is no text, has no text, or is nested too deeply.
    """
    text = markdown(decode_html(data))
    if not text.strip():
        raise Unreadable("has no text", "send a page whose text is in its HTML: scripts are not run")
    return text


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
    )
    try:
        result = convert(html, options)
    except ConversionError:
        raise Unreadable("is HTML that can't be read", "save it as text or Markdown") from None
    if any(str(warning.kind) == "depth_limit_exceeded" for warning in result.warnings):
        raise Unreadable("has elements nested too deep", "save it as text or Markdown")
    return result.content or ""
