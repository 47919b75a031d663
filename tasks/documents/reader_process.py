"""The reader process: documents in, texts out, within limits of time and memory that the system enforces.

A parser that hangs, grows or crashes on a hostile document ends this process and nothing else. The process has an
environment without keys.

In: one line of JSON, ``{"kinds": [...], "sizes": [...], "seconds": S, "memory": BYTES, "most": CHARACTERS}``, then the
documents one after the other. Out: one line of JSON for each, ``{"text": …}``; for the first unreadable document
``{"problem": …, "remedy": …}``, and no line after it.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import struct
import sys
import zipfile
import zlib
from typing import Any, BinaryIO, NoReturn
from xml.parsers import expat

from tasks.documents.plain import Unreadable, decode_html

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

    mammoth makes HTML of it.

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


#: Pages of a document at most.
PAGES = 5_000
#: PDFium's error code for a document that needs a password (``FPDF_ERR_PASSWORD``).
PASSWORD = 4
#: PDFium's characters for a hyphen at the end of a line.
_HYPHENS = str.maketrans({"\x02": "-", "\ufffe": "-", "\f": "\n", "\x00": None})


def read_pdf(data: bytes) -> str:
    """Return the text of all pages by PDFium, each with a form feed at its end, in the order of the page's content.

    Raises:
        Unreadable: if it is no PDF, damaged, encrypted, too long, or has no text.
    """
    import pypdfium2  # noqa: PLC0415 - it comes with an extra

    if b"%PDF-" not in data[:1024]:
        raise Unreadable("is called a PDF, but is none", "give it the ending of what it is")
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == PASSWORD:
            raise Unreadable("is encrypted", "save it without a password") from None
        raise Unreadable("is a damaged PDF", "open it and save it anew") from None
    try:
        return _read_pages(document)
    except pypdfium2.PdfiumError:
        raise Unreadable("is a damaged PDF", "open it and save it anew") from None
    finally:
        document.close()


def _read_pages(document: Any) -> str:
    total = len(document)
    if total > PAGES:
        raise Unreadable(f"has {total:,} pages, the limit is {PAGES:,}", "split it into several files")
    pages: list[str] = []
    for page in document:
        found = page.get_textpage()
        pages.append(found.get_text_bounded().replace("\r\n", "\n").translate(_HYPHENS).rstrip())
        found.close()
        page.close()
    if not any(pages):
        raise Unreadable("has no text: its pages are pictures", "run it through text recognition (OCR) first")
    return "".join(f"{page}\n\f" for page in pages)


READERS = {"docx": read_docx, "html": read_html, "pdf": read_pdf}


def main() -> None:
    head = json.loads(sys.stdin.buffer.readline())
    # On systems without these limits, the parent's timeout remains.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (head["seconds"], head["seconds"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (head["memory"], head["memory"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(head, sys.stdin.buffer, sys.stdout.buffer)


def serve(head: dict[str, object], source: BinaryIO, target: BinaryIO) -> None:
    """Read the documents that the head announces."""
    kinds, sizes, most = head["kinds"], head["sizes"], head["most"]
    assert isinstance(kinds, list)
    assert isinstance(sizes, list)
    assert isinstance(most, int)
    for kind, size in zip(kinds, sizes, strict=True):
        reply = _read(kind, source.read(size), most)
        target.write(json.dumps(reply).encode() + b"\n")
        target.flush()
        if "text" not in reply:
            return
        most -= len(reply["text"])


def _read(kind: str, data: bytes, most: int) -> dict[str, str]:
    try:
        text = READERS[kind](data)
    except Unreadable as error:
        return {"problem": error.problem, "remedy": error.remedy}
    except MemoryError:
        return {"problem": "takes too much memory to read", "remedy": "save it as text or Markdown"}
    if len(text) > most:
        return {
            "problem": "has more text than a job may have",
            "remedy": "split it, or raise limits.payload_bytes in the configuration",
        }
    # A PDF can hold halves of surrogate pairs, which JSON for other services may not.
    return {"text": text.encode("utf-8", "replace").decode()}
