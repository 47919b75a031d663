"""Plain text: decode the bytes of a file, or say why it is unreadable."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.contract.encoding import MARK, find_encoding


class Unreadable(Exception):
    """Raised by the readers of each kind; `tasks.documents.reader` turns it into a `BadInput` that names the file.

    `problem` and `remedy` quote nothing of the document.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem)


class Gap(NamedTuple):
    """What a reader could not read of a document. With `fails`, the text is surely not all that the document says."""

    reason: str
    pages: tuple[int, ...] = ()
    fails: bool = False
    #: Recognizing the text of the pages (OCR) may help.
    pictures: bool = False


class Reading(NamedTuple):
    text: str
    gaps: tuple[Gap, ...] = ()


#: The first bytes of files that are no text, whatever their names.
_OTHERS = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive, as DOCX is",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "an RTF document",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"II*\x00": "a picture",
    b"MM\x00*": "a picture",
}
#: What the first entry of a ZIP archive says that it is.
_ARCHIVES = {
    b"mimetypeapplication/vnd.oasis.opendocument": "an OpenDocument file",
    b"mimetypeapplication/epub+zip": "an EPUB book",
}
#: Bytes at the start of a page that may declare its encoding (as in the HTML standard).
DECLARED_WITHIN = 1024
_DECLARED = re.compile(
    rb"""<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,100}?encoding)\s{0,8}=\s{0,8}["']?\s{0,8}([A-Za-z0-9_:.-]{2,24})""",
    re.IGNORECASE,
)
#: Encodings that pages still declare; some of Python's encodings are none of text …
_PAGES = re.compile(
    r"iso-?8859-\d{1,2}(?:-i)?|latin-?[1-9]|(?:us-)?ascii|windows-(?:125\d|874|31j)|cp(?:125\d|437|850|852|866|932|936|949)"
    r"|ibm8(?:50|52|66)|koi8-[rut]|gb2312|x-gbk|gbk|gb18030|big5(?:-hkscs)?|(?:x-)?s(?:hift[_-])?jis|euc-(?:jp|kr)"
    r"|ks_c_5601-1987|iso-2022-(?:jp|kr)|tis-620|macintosh|x-mac-cyrillic"
)
#: … and many are read as a larger one that programs write under their name (the WHATWG's Encoding Standard).
_LARGER = {
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "latin-1", "ascii", "us-ascii"), "cp1252"),
    **dict.fromkeys(("iso-8859-9", "latin5", "latin-5"), "cp1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620", "windows-874"), "cp874"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "cp936"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "x-sjis", "sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987"), "cp949"),
    "iso-8859-8-i": "iso-8859-8",
    "big5": "big5hkscs",
    "macintosh": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
}


def decode(data: bytes) -> str:
    """Decode UTF-8, or what a byte order mark declares, which is taken off; line ends are kept.

    Raises:
        Unreadable: if the bytes are neither.
    """
    _refuse_others(data)
    return _decode(data, find_encoding(data))


def decode_declared(data: bytes) -> str:
    """Decode like `decode`, or else in the encoding that a page of HTML or XML declares."""
    try:
        return decode(data)
    except Unreadable:
        declared = _DECLARED.search(data[:DECLARED_WITHIN])
        name = declared[1].decode("ascii").lower() if declared else ""
        if not _PAGES.fullmatch(name):
            raise
    return _decode(data, _LARGER.get(name, name))


def _refuse_others(data: bytes) -> None:
    for start, kind in _OTHERS.items():
        if data.startswith(start):
            named = next((name for sign, name in _ARCHIVES.items() if data[30:].startswith(sign)), kind)
            remedy = "send text, Markdown, CSV, JSON, .html, .docx or .pdf, named so"
            raise Unreadable(f"is not text, but {named}", remedy)


def _decode(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        problem = "is not UTF-8 text" if encoding == "utf-8" else f"is not text in {encoding}, which it declares"
        raise Unreadable(problem, "save it in UTF-8") from None
    if "\x00" in text:
        raise Unreadable("is not text: it holds zero bytes", "save it as text in UTF-8")
    return text.lstrip(MARK)
