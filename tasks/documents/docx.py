"""DOCX as Markdown, by way of mammoth's HTML. Runs in the reader process only."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import NoReturn
from xml.parsers import expat

from tasks.documents.markup import markdown
from tasks.documents.unreadable import Unreadable

__all__ = ["UNPACKED_BYTES", "read_docx"]

#: Unpacked bytes of all files in the archive: text compresses ten to twenty times, a bomb a thousand times and more.
UNPACKED_BYTES = 256 * 1024 * 1024
#: … of which so many may be XML, which takes some twenty times its size in memory once it is parsed.
XML_BYTES = 32 * 1024 * 1024
#: Files in the archive.
ENTRIES = 10_000
#: The first bytes of old Office documents and of encrypted new ones.
_COMPOUND = b"\xd0\xcf\x11\xe0"
_BODY = "word/document.xml"
#: Errors of the unpacker on a damaged archive …
_BROKEN = (EOFError, OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)
#: … and of the library on a damaged document.
_DAMAGE = (*_BROKEN, ArithmeticError, AttributeError, LookupError, TypeError)


def read_docx(data: bytes) -> str:
    """Return the document as Markdown: headings, lists, tables and footnotes; pictures are left out.

    Raises:
        Unreadable: if it is no DOCX, damaged, encrypted, too large once unpacked, or empty.
    """
    if data.startswith(_COMPOUND):
        raise Unreadable("is encrypted, or an old Word document", "save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_archive(archive)
    except _BROKEN:
        raise Unreadable("is called a DOCX, but is none, or damaged", "open it and save it anew") from None
    text = _convert(data)
    if not text.strip():
        raise Unreadable("has no text", "send a document with text")
    return text


def _convert(data: bytes) -> str:
    import mammoth  # noqa: PLC0415 - it comes with an extra

    try:
        html = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=lambda _: [], external_file_access=False, include_embedded_style_map=False
        ).value
    except RecursionError:
        raise Unreadable("has elements nested too deep", "save it as text or Markdown") from None
    except _DAMAGE as error:
        raise Unreadable(f"is a damaged DOCX ({type(error).__name__})", "open it and save it anew") from None
    return markdown(html)


def _check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse archives that are dangerous to unpack or to parse; an entry larger than its declared size is damaged."""
    entries = archive.infolist()
    xml = [entry for entry in entries if entry.filename.endswith((".xml", ".rels"))]
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > ENTRIES or unpacked > UNPACKED_BYTES or sum(entry.file_size for entry in xml) > XML_BYTES:
        raise Unreadable("unpacks to more than a document has", "save it without what is embedded, or as text")
    if _BODY not in archive.namelist():
        raise Unreadable("is called a DOCX, but is another archive", "give it the ending of what it is")
    if any(entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for entry in entries):
        raise Unreadable("is packed in a way that Word never does", "open it and save it anew")
    for entry in xml:
        _check_xml(archive.read(entry))


def _check_xml(xml: bytes) -> None:
    """Refuse document types: Word writes none, and their entities are the usual attack by XML."""
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(xml, True)
    except expat.ExpatError:
        raise Unreadable("is a damaged DOCX", "open it and save it anew") from None


def _refuse(*_: object) -> NoReturn:
    raise Unreadable("declares a document type, which Word never does", "open it and save it anew")
