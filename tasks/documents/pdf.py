"""The text of PDFs by PDFium: pages, values of forms, annotations; and which pages have none."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tasks.documents.plain import Gap, Reading, Unreadable

#: Pages of a document at most.
PAGES = 5_000
#: PDFium's error code for a document that needs a password (``FPDF_ERR_PASSWORD``).
PASSWORD = 4
#: PDFium's characters for a hyphen at the end of a line; a soft hyphen is none.
_HYPHENS = str.maketrans({"\x02": "-", "\ufffe": "-", "\f": "\n", "\x00": None, "\u00ad": None})
#: Signs on a page up to which pictures may hold the rest of its text, and their least share of the page.
FEW_SIGNS, LARGE_SHARE = 200, 0.5
#: The share of signs without a meaning (private use, replacements) from which a page's font has no letters.
WITHOUT_MEANING = 0.3
#: Form fields and annotations of a page, and characters of each, that are read.
NOTES, NOTE_CHARACTERS = 10_000, 100_000


class Ocr(NamedTuple):
    """Text recognition of pictures (`tasks.documents.ocr`), until the `time.monotonic` of `until`."""

    recognize: Callable[[Any], str]
    until: float


class _Page(NamedTuple):
    text: str
    #: Why it is not all that the page shows: "" or the reason.
    gap: str = ""
    fails: bool = False


#: Reasons of gaps; OCR may help with these.
_PICTURE, _PARTLY = "no text, but pictures", "pictures beside little text"
_SYMBOLS = "text in an unknown code"
_OCR_HELPS = frozenset({_PICTURE, _PARTLY, _SYMBOLS})
_BLANK = "blank"
_LATE, _NOTHING = "no text, but pictures; out of time for OCR", "pictures in which OCR finds no text"


def read_pdf(data: bytes, ocr: Ocr | None = None) -> Reading:
    """Return the text of all pages, each with a form feed at its end, in the order of the page's content.

    Values of form fields, and annotations, stand at the end of their page. Pages without text are gaps.

    Raises:
        Unreadable: if it is no PDF, damaged, encrypted, or too long.
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
        return _read_pages(document, ocr)
    except pypdfium2.PdfiumError:
        raise Unreadable("is a damaged PDF", "open it and save it anew") from None
    finally:
        document.close()


def _read_pages(document: Any, ocr: Ocr | None) -> Reading:
    from pypdfium2 import raw  # noqa: PLC0415

    total = len(document)
    if total > PAGES:
        raise Unreadable(f"has {total:,} pages, the limit is {PAGES:,}", "split it into several files")
    if not total:
        raise Unreadable("is a damaged PDF: it has no pages", "open it and save it anew")
    if document.get_formtype() == raw.FORMTYPE_XFA_FULL:
        raise Unreadable("is a form that only Adobe's programs can show (XFA)", "print it to a PDF")
    document.init_forms()
    pages = [_read_page(document, page, ocr) for page in document]
    gaps = [
        Gap(reason, tuple(at for at, page in enumerate(pages, 1) if page.gap == reason), fails, reason in _OCR_HELPS)
        for reason, fails in dict.fromkeys((page.gap, page.fails) for page in pages if page.gap)
    ]
    if attached := raw.FPDFDoc_GetAttachmentCount(document):
        gaps.append(Gap(f"{attached} attached file{'s' * (attached > 1)}"))
    return Reading("".join(f"{page.text}\n\f" for page in pages), tuple(gaps))


def _read_page(document: Any, page: Any, ocr: Ocr | None) -> _Page:
    found = page.get_textpage()
    text = found.get_text_bounded().replace("\r\n", "\n").translate(_HYPHENS).rstrip()
    found.close()
    notes = list(_notes(document, page))
    kept = _Page("\n".join(part for part in (text, *notes) if part))
    strange = sum("\ue000" <= sign <= "\uf8ff" or sign == "\ufffd" for sign in text)
    if strange > WITHOUT_MEANING * len(text):
        kept = _recognized(page, kept._replace(gap=_SYMBOLS, fails=True), notes, ocr)
    elif len(text) <= FEW_SIGNS:
        shown = _shown(page)
        if not kept.text and shown is None:
            kept = kept._replace(gap=_BLANK)
        elif not kept.text:
            kept = _recognized(page, kept._replace(gap=_PICTURE, fails=True), notes, ocr)
        elif shown is not None and shown >= LARGE_SHARE:
            kept = _recognized(page, kept._replace(gap=_PARTLY), notes, ocr)
    page.close()
    return kept


def _recognized(page: Any, kept: _Page, notes: list[str], ocr: Ocr | None) -> _Page:
    """Return the page with the text of its picture, where that is more than its own."""
    if ocr is None:
        return kept
    if time.monotonic() > ocr.until:
        return kept._replace(gap=_LATE) if kept.gap == _PICTURE else kept
    scale = min(SCALE, LARGEST_SIDE / max(*page.get_size(), 1))
    bitmap = page.render(scale=scale, rev_byteorder=True)
    text = ocr.recognize(bitmap.to_numpy()).strip()
    bitmap.close()
    if not text:
        return kept if kept.gap == _SYMBOLS else kept._replace(gap=_NOTHING, fails=False)
    if kept.gap == _PARTLY and len(text) <= len(kept.text):
        return kept._replace(gap="")
    return _Page("\n".join((text, *notes)))


#: Pixels for each point of a page that is recognized (144 to the inch), and of its longer side at most.
SCALE, LARGEST_SIDE = 2.0, 3_000


def _shown(page: Any) -> float | None:
    """Return the share of the page that its largest picture covers; None if nothing stands on the page."""
    from pypdfium2 import PdfiumError, raw  # noqa: PLC0415

    width, height = page.get_size()
    share: float | None = None
    for drawn in page.get_objects(max_depth=5):
        share = share or 0.0
        if drawn.type == raw.FPDF_PAGEOBJ_IMAGE and width and height:
            try:
                left, bottom, right, top = drawn.get_bounds()
            except PdfiumError:
                continue
            # The bounds of a picture inside a form are those of the form's own coordinates.
            share = max(share, min(1.0, abs((right - left) * (top - bottom)) / (width * height)))
    return share


def _notes(document: Any, page: Any) -> Iterator[str]:
    """Yield the values of the form fields of a page, and its annotations, a line each."""
    from pypdfium2 import raw  # noqa: PLC0415

    ignored = {raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP}
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), NOTES)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            if raw.FPDFAnnot_GetFlags(annotation) & (raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW):
                continue
            if kind == raw.FPDF_ANNOT_WIDGET:
                note = "" if document.formenv is None else _field(document.formenv, annotation)
            elif kind in ignored:
                note = ""
            else:
                text = _string(lambda *room, of=annotation: raw.FPDFAnnot_GetStringValue(of, b"Contents", *room))
                note = f"[Annotation: {text}]" if text else ""
            if note:
                yield note
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _field(form: Any, widget: Any) -> str:
    """Return name and value of a form field; "" for one without a value, a button or a password."""
    from pypdfium2 import raw  # noqa: PLC0415

    kind = raw.FPDFAnnot_GetFormFieldType(form, widget)
    name = _string(lambda *room: raw.FPDFAnnot_GetFormFieldAlternateName(form, widget, *room))
    name = name or _string(lambda *room: raw.FPDFAnnot_GetFormFieldName(form, widget, *room))
    if kind == raw.FPDF_FORMFIELD_CHECKBOX:
        value = "yes" if raw.FPDFAnnot_IsChecked(form, widget) else "no"
    elif kind == raw.FPDF_FORMFIELD_RADIOBUTTON:
        chosen = raw.FPDFAnnot_IsChecked(form, widget)
        value = _string(lambda *room: raw.FPDFAnnot_GetFormFieldExportValue(form, widget, *room)) if chosen else ""
    elif kind in {raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}:
        options = range(max(0, min(raw.FPDFAnnot_GetOptionCount(form, widget), NOTES)))
        chosen_ones = [option for option in options if raw.FPDFAnnot_IsOptionSelected(form, widget, option)]
        labels = [
            _string(lambda *room, at=option: raw.FPDFAnnot_GetOptionLabel(form, widget, at, *room))
            for option in chosen_ones
        ]
        value = ", ".join(labels) or _value(form, widget)
    elif kind == raw.FPDF_FORMFIELD_TEXTFIELD and not raw.FPDFAnnot_GetFormFieldFlags(form, widget) & _IS_PASSWORD:
        value = _value(form, widget)
    else:
        value = ""
    return f"[Form field {name}: {value}]" if value else ""


#: Bit 14 of a text field's flags (PDF 32000-1, 12.7.4.3).
_IS_PASSWORD = 1 << 13


def _value(form: Any, widget: Any) -> str:
    from pypdfium2 import raw  # noqa: PLC0415

    return _string(lambda *room: raw.FPDFAnnot_GetFormFieldValue(form, widget, *room))


def _string(ask: Callable[..., int]) -> str:
    """Return a text of PDFium, which is asked for its bytes (UTF-16 with a zero at the end) and then for the text."""
    from pypdfium2 import raw  # noqa: PLC0415

    size = min(ask(None, 0), 2 * NOTE_CHARACTERS)
    if size <= 2:
        return ""
    room = ctypes.create_string_buffer(size)
    ask(ctypes.cast(room, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    text = room.raw.decode("utf-16-le", "replace").partition("\x00")[0]
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_HYPHENS).strip()
