"""The text of a PDF, page by page, with PDFium. Runs in the reader process only."""

from __future__ import annotations

from typing import Any

from tasks.documents.unreadable import Unreadable

__all__ = ["PAGES", "read_pdf"]

#: Pages of a document at most.
PAGES = 5_000
#: PDFium's error code for a document that needs a password (``FPDF_ERR_PASSWORD``).
PASSWORD = 4
#: PDFium's characters for a hyphen at the end of a line.
_HYPHENS = str.maketrans({"\x02": "-", "\ufffe": "-", "\f": "\n", "\x00": None})


def read_pdf(data: bytes) -> str:
    """Return the text of all pages, each with a form feed at its end, in the order of the page's content.

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
