"""DOCX as Markdown: the archive is checked, its stories are made readable, mammoth makes HTML of them."""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import NoReturn
from xml.etree.ElementTree import Element, fromstring, tostring
from xml.parsers import expat

from tasks.documents.markup import markdown
from tasks.documents.numbering import Numbering, W
from tasks.documents.plain import Gap, Reading, Unreadable
from tasks.documents.stories import HEADING, LEAST_HEADING, Found, as_transitional, place_labels, simplify

#: Unpacked bytes of all files in the archive: text compresses ten to twenty times, a bomb a thousand times and more.
UNPACKED_BYTES = 256 * 1024 * 1024
#: … of which so many may be XML, which takes some twenty times its size in memory once it is parsed.
XML_BYTES = 32 * 1024 * 1024
#: Files in the archive.
ENTRIES = 10_000
#: The first bytes of old Office documents and of encrypted new ones.
_COMPOUND = b"\xd0\xcf\x11\xe0"
#: Errors of the unpacker on a damaged archive …
_BROKEN = (EOFError, OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)
#: … and of the library on a damaged document.
_DAMAGE = (*_BROKEN, ArithmeticError, AttributeError, LookupError, TypeError)

_RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
#: The ends of the types of relations; those of strict documents differ in what stands before.
_MAIN, _NOTES = "/officeDocument", ("/footnotes", "/endnotes")
_EMPTY = f'<w:numbering xmlns:w="{W[1:-1]}"/>'.encode()


def read_docx(data: bytes) -> Reading:
    """Return the document as Markdown: headings, lists with their numbers, tables, notes, text boxes, equations.

    Raises:
        Unreadable: if it is no DOCX, damaged, encrypted, too large once unpacked, or empty.
    """
    if data.startswith(_COMPOUND):
        raise Unreadable("is encrypted, or an old Word document", "save it as .docx without a password")
    found = Found([], [], [])
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            main = _check_archive(archive)
            changed = _simplify_stories(archive, main, found)
            plain = _rewrite(archive, changed)
    except RecursionError:
        raise Unreadable("has elements nested too deep", "save it as text or Markdown") from None
    except _DAMAGE:
        raise Unreadable("is called a DOCX, but is none, or damaged", "open it and save it anew") from None
    text = place_labels(_convert(plain), found.labels)
    counted = ((len(found.pictures), "picture"), (len(found.embedded), "embedded file"))
    unread = [f"{count} {what}{'s' * (count > 1)}" for count, what in counted if count]
    if not text.strip():
        problem = f"has no text, but {' and '.join(unread)}" if unread else "has no text"
        raise Unreadable(problem, "send a document with text")
    return Reading(text, tuple(map(Gap, unread)))


def _convert(data: bytes) -> str:
    import mammoth  # noqa: PLC0415 - it comes with an extra

    styles = "\n".join(f"p.{HEADING}{level} => h{level}:fresh" for level in range(1, LEAST_HEADING + 1))
    try:
        html = mammoth.convert_to_html(
            io.BytesIO(data),
            convert_image=lambda _: [],
            external_file_access=False,
            include_embedded_style_map=False,
            style_map=styles,
        ).value
    except RecursionError:
        raise Unreadable("has elements nested too deep", "save it as text or Markdown") from None
    except _DAMAGE as error:
        raise Unreadable(f"is a damaged DOCX ({type(error).__name__})", "open it and save it anew") from None
    return markdown(html)


def _simplify_stories(archive: zipfile.ZipFile, main: str, found: Found) -> dict[str, bytes]:
    """Return the parts that `simplify` changed, by name."""
    relations = _relations(archive, main)
    by_type = {kind.rpartition("/")[2]: target for kind, target in relations.values()}

    def part(name: str | None) -> Element | None:
        if name is None or name not in archive.namelist():
            return None
        root = fromstring(archive.read(name))  # noqa: S314 - checked by _check_xml
        as_transitional(root)
        return root

    numbering = Numbering(part(by_type.get("numbering")), part(by_type.get("styles")))
    changed: dict[str, bytes] = {}
    stories = [main, *(target for kind, target in relations.values() if kind.endswith(_NOTES))]
    for story in stories:
        if (root := part(story)) is not None:
            own = relations if story == main else _relations(archive, story)
            if story == main and root.find(f"{W}body") is None:
                raise _another()
            simplify(root, numbering, found, related=lambda name, own=own: part(own.get(name, ("", None))[1]))  # type: ignore[misc]
            changed[story] = tostring(root)
    if "numbering" in by_type:
        changed[by_type["numbering"]] = _EMPTY
    return changed


def _rewrite(archive: zipfile.ZipFile, changed: Mapping[str, bytes]) -> bytes:
    """Pack the XML of the archive anew, with these parts; pictures and the like are not read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name in dict.fromkeys(entry.filename for entry in archive.infolist()):
            if name in changed or _is_xml(name):
                target.writestr(name, changed.get(name) or archive.read(name))
    return packed.getvalue()


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Return type and target of a part's relations, by their id; "" stands for the package."""
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{name}.rels")
    if path not in archive.namelist():
        return {}
    return {
        relation.get("Id", ""): (
            relation.get("Type", ""),
            posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/"),
        )
        for relation in fromstring(archive.read(path)).iter(_RELATION)  # noqa: S314 - checked by _check_xml
        if relation.get("TargetMode") != "External"
    }


def _is_xml(name: str) -> bool:
    return name.endswith((".xml", ".rels"))


def _check_archive(archive: zipfile.ZipFile) -> str:
    """Refuse archives that are dangerous to unpack or to parse, and return the name of the main part.

    An entry larger than its declared size is damaged.
    """
    entries = archive.infolist()
    xml = [entry for entry in entries if _is_xml(entry.filename)]
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > ENTRIES or unpacked > UNPACKED_BYTES or sum(entry.file_size for entry in xml) > XML_BYTES:
        raise Unreadable("unpacks to more than a document has", "save it without what is embedded, or as text")
    if any(entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for entry in entries):
        raise Unreadable("is packed in a way that Word never does", "open it and save it anew")
    for entry in xml:
        _check_xml(archive.read(entry))
    # Where its relation is missing the usual name counts, as in Word.
    main = next((target for kind, target in _relations(archive, "").values() if kind.endswith(_MAIN)), _BODY)
    if not _is_xml(main) or main not in archive.namelist():
        raise _another()
    return main


_BODY = "word/document.xml"


def _another() -> Unreadable:
    return Unreadable("is called a DOCX, but is another archive, or damaged", "give it the ending of what it is")


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
