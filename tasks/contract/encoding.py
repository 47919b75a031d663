"""Bytes as text, in the same way for every file: UTF-8, or what a byte order mark declares. The mark is taken off."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TextIO

#: A byte order mark that was decoded already.
MARK = "\ufeff"
#: The encodings that byte order marks declare; that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def find_encoding(data: bytes) -> str:
    """Return the encoding that the beginning of a file declares, by default UTF-8."""
    return next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), "utf-8")


def decode_text(data: bytes) -> str:
    """Decode the bytes of a file; line ends are kept.

    Raises:
        UnicodeDecodeError: if they are no text in their encoding.
    """
    return data.decode(find_encoding(data)).lstrip(MARK)


def read_text_file(path: Path) -> str:
    """Return the text of a file; its lines end with a line feed each.

    Raises:
        OSError: if it can't be read.
        UnicodeDecodeError: if it is no text.
    """
    return decode_text(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def open_text_file(path: Path) -> TextIO:
    """Open a file to read its lines; raises as `read_text_file` does, and while lines are read."""
    with path.open("rb") as file:
        encoding = find_encoding(file.read(4))
    # These take the mark off.
    return path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding[:6])
