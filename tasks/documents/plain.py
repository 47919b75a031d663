"""Plain text: decode the bytes of a file, or say why it is unreadable."""

from __future__ import annotations

import codecs
import re


class Unreadable(Exception):
    """Raised by the readers of each kind; `tasks.documents.reader` turns it into a `BadInput` that names the file.

    `problem` and `remedy` quote nothing of the document.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem)


#: The first bytes of files that are no text, whatever their names.
_OTHERS = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive, as DOCX is",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
#: Bytes at the start of an HTML page that may declare its encoding (as in the HTML standard).
DECLARED_WITHIN = 1024
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s{0,8}=\s{0,8}[\"']?\s{0,8}([A-Za-z0-9_-]{2,20})", re.IGNORECASE)
#: Encodings that pages still declare; some of Python's encodings are none of text.
_PAGES = re.compile(
    r"iso-8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|euc-(?:jp|kr)"
)


def decode(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark; line ends are kept.

    Raises:
        Unreadable: if the bytes are neither.
    """
    _refuse_others(data)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode(data, "utf-16")
    return _decode(data, "utf-8-sig")


def decode_html(data: bytes) -> str:
    """Decode like `decode`, or else in the encoding that the page declares."""
    try:
        return decode(data)
    except Unreadable:
        declared = _DECLARED.search(data[:DECLARED_WITHIN])
        name = declared[1].decode("ascii").lower() if declared else ""
        if not _PAGES.fullmatch(name):
            raise
    # Browsers read Latin-1 as its superset cp1252.
    return _decode(data, "cp1252" if name in {"iso-8859-1", "latin1", "latin-1"} else name)


def _refuse_others(data: bytes) -> None:
    for start, kind in _OTHERS.items():
        if data.startswith(start):
            raise Unreadable(f"is not text, but {kind}", "send text, .html, .pdf or .docx, named so")


def _decode(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise Unreadable("is not UTF-8 text", "save it in UTF-8") from None
    if "\x00" in text:
        raise Unreadable("is not text: it holds zero bytes", "save it as text in UTF-8")
    return text
