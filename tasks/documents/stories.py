"""The stories of a DOCX (its body, its notes) as mammoth can read them: nothing is left that mammoth drops in silence.

Automatic numbers become marks, for which `place_labels` puts the labels into the finished Markdown; equations, text
boxes, fields, diagrams and forms become plain runs and paragraphs; hidden text goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

from tasks.documents.equations import M, linear
from tasks.documents.numbering import Numbering, NumberLabel, W, is_on

#: The prefix of the ids of styles that stand for the headings of a document, whatever its own styles are called.
HEADING = "pointsman-heading-"
#: The last level of a heading in Markdown.
LEAST_HEADING = 6
#: Two non-characters around the index of a label: no text has them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE} ?")
_NOT_TEXT = str.maketrans("", "", f"{_OPEN}{_CLOSE}\u00ad")

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_VML = "{urn:schemas-microsoft-com:vml}"
_OFFICE = "{urn:schemas-microsoft-com:office:office}"
_WORD_2010 = "{http://schemas.microsoft.com/office/word/2010/wordml}"
_PICTURES, _EMBEDDED = {f"{_A}blip", f"{_VML}imagedata"}, {f"{W}altChunk", f"{_OFFICE}OLEObject"}
_STRICT = "{http://purl.oclc.org/ooxml/"
#: Wrappers whose text mammoth leaves out.
_WRAPPERS = frozenset(f"{W}{name}" for name in ("fldSimple", "dir", "bdo"))
_DELETED = frozenset(f"{W}{name}" for name in ("del", "moveFrom"))


class Found(NamedTuple):
    """What the stories of a document have beside their text."""

    labels: list[NumberLabel]
    #: One for each picture, and for each embedded file, such as a sheet or an equation of an old program.
    pictures: list[None]
    embedded: list[None]


def simplify(root: Element, numbering: Numbering, found: Found, *, related: Callable[[str], Element | None]) -> None:
    """Change a story in place; `related` returns the part with the id of a relation."""
    as_transitional(root)
    for change in (_choose_alternative, _drop_hidden, _write_equation, _unwrap):
        _rewrite(root, change)
    found.pictures.extend(None for element in root.iter() if element.tag in _PICTURES)
    found.embedded.extend(None for element in root.iter() if element.tag in _EMBEDDED)
    _rewrite(root, lambda element: _lift_boxes(element, related))
    for paragraph in root.iter(f"{W}p"):
        _write_label(paragraph, numbering, found.labels)
    for text in root.iter(f"{W}t"):
        text.text = (text.text or "").translate(_NOT_TEXT)
    for paragraph in root.iter(f"{W}p"):
        _mark(paragraph)


def as_transitional(root: Element) -> None:
    """Rename the namespaces of a strict document: all differ from the others in the same way."""
    for element in root.iter():
        if element.tag.startswith(_STRICT):
            element.tag = _renamed(element.tag)
        for name in [name for name in element.attrib if name.startswith(_STRICT)]:
            element.attrib[_renamed(name)] = element.attrib.pop(name)


def _renamed(name: str) -> str:
    room, _, local = name.removeprefix(_STRICT).partition("}")
    first, _, rest = room.partition("/")
    return f"{{http://schemas.openxmlformats.org/{first}/2006/{rest}}}{local}"


def _rewrite(root: Element, change: Callable[[Element], Sequence[Element] | None]) -> None:
    """Replace each element for which `change` returns others by them, the deepest first; in linear time."""
    for parent in reversed(list(root.iter())):
        changed = [(child, change(child)) for child in parent]
        if any(others is not None for _, others in changed):
            parent[:] = [one for child, others in changed for one in ((child,) if others is None else others)]


def _choose_alternative(element: Element) -> Sequence[Element] | None:
    """Keep one of the forms of what is written for several programs: the first with text, else the fallback."""
    if element.tag != f"{_MC}AlternateContent":
        return None
    choices = list(element)
    return list(next((choice for choice in choices if _has_text(choice)), choices[-1] if choices else ()))


def _has_text(element: Element) -> bool:
    names = {f"{W}t", f"{M}t", f"{_DIAGRAM}relIds", f"{_CHART}chart"}
    return any(inner.tag in names for inner in element.iter())


def _drop_hidden(element: Element) -> Sequence[Element] | None:
    return () if element.tag == f"{W}r" and is_on(element.find(f"{W}rPr/{W}vanish")) else None


def _write_equation(element: Element) -> Sequence[Element] | None:
    if element.tag == f"{M}oMath":
        return [_run(" ".join(linear(element).split()))]
    if element.tag == f"{M}oMathPara":  # its equations are runs by now
        return [run for run in element if run.tag == f"{W}r"]
    return None


def _unwrap(element: Element) -> Sequence[Element] | None:
    """Put the text of fields, directions, ruby and forms where mammoth reads it."""
    if element.tag in _WRAPPERS:
        return [inner for inner in element if not inner.tag.endswith("Pr")]
    if element.tag == f"{W}ruby":
        base, above = (
            "".join(text.text or "" for text in element.iterfind(f"{W}{name}//{W}t")) for name in ("rubyBase", "rt")
        )
        return list(_run(f"{base}({above})" if above else base))
    if element.tag == f"{W}sdt" and (box := element.find(f"{W}sdtPr/{_WORD_2010}checkbox")) is not None:
        checked = box.find(f"{_WORD_2010}checked")
        on = checked is not None and checked.get(f"{_WORD_2010}val", "1") in {"1", "true", "on"}
        return [_run("[x]" if on else "[ ]")]
    data = element.find(f"{W}fldChar/{W}ffData") if element.tag == f"{W}r" else None
    chosen = "" if data is None else _chosen(data)
    return [element, _run(chosen)] if chosen else None


def _chosen(data: Element) -> str:
    """Return the state of an old form's check box, or the chosen entry of its list."""
    if (box := data.find(f"{W}checkBox")) is not None:
        data.remove(box)  # which mammoth writes as a picture of a box
        checked = box.find(f"{W}checked")
        return "[x]" if is_on(box.find(f"{W}default") if checked is None else checked) else "[ ]"
    entries = data.findall(f"{W}ddList/{W}listEntry")
    result = data.find(f"{W}ddList/{W}result")
    place = "0" if result is None else result.get(f"{W}val", "0")
    chosen = entries[int(place) :][:1] if place.isdecimal() and len(place) < 5 else []
    return chosen[0].get(f"{W}val", "") if chosen else ""


def _lift_boxes(paragraph: Element, related: Callable[[str], Element | None]) -> Sequence[Element] | None:
    """Make the paragraphs of text boxes, and the texts of diagrams and charts, stand after their paragraph."""
    if paragraph.tag != f"{W}p":
        return None
    lifted: list[Element] = []
    pending = [paragraph]
    while pending:
        element = pending.pop()
        if element.tag == f"{_VML}textpath" and element.get("string"):
            lifted.append(_paragraph(element.get("string", "")))
        elif element.tag == f"{_DIAGRAM}relIds":
            lifted += _shown(related(element.get(f"{_R}dm", "")))
        elif element.tag == f"{_CHART}chart":
            lifted += _shown(related(element.get(f"{_R}id", "")))
        boxes = element.findall(f"{W}txbxContent")
        for box in boxes:
            lifted.extend(box)
            element.remove(box)
        pending.extend(child for child in reversed(element) if child.tag != f"{W}p")
    return [paragraph, *lifted] if lifted else None


def _shown(part: Element | None) -> list[Element]:
    """Return the texts of a diagram or chart, a paragraph each; values of a chart stand in one."""
    if part is None:
        return []
    lines = ["".join(text.text or "" for text in line.iter(f"{_A}t")) for line in part.iter(f"{_A}p")]
    lines += [", ".join(value.text or "" for value in one.iter(f"{_CHART}v")) for one in part.iter(f"{_CHART}ser")]
    return [_paragraph(line) for line in lines if line.strip()]


#: The attribute of a paragraph that holds the index of its label.
_LABEL = "label"


def _write_label(paragraph: Element, numbering: Numbering, labels: list[NumberLabel]) -> None:
    properties = paragraph.find(f"{W}pPr")
    label = None if _is_deleted(paragraph, properties) else numbering.label(properties)
    level = numbering.heading(properties)
    if level:
        if properties is None:
            properties = Element(f"{W}pPr")
            paragraph.insert(0, properties)
        style = properties.find(f"{W}pStyle")
        style = SubElement(properties, f"{W}pStyle") if style is None else style
        style.set(f"{W}val", f"{HEADING}{min(level, LEAST_HEADING)}")
    if label is not None:
        paragraph.set(_LABEL, str(len(labels)))
        labels.append(NumberLabel(label.text, 0 if level else label.level, label.bullet))


def _is_deleted(paragraph: Element, properties: Element | None) -> bool:
    """Whether a tracked change takes the paragraph away: its mark, and all of its text."""
    if properties is None or not any(properties.find(f"{W}rPr/{name}") is not None for name in _DELETED):
        return False
    return all(child.tag in {f"{W}pPr", *_DELETED} for child in paragraph)


def _mark(paragraph: Element) -> None:
    index = paragraph.attrib.pop(_LABEL, None)
    if index is not None:
        place = 1 if paragraph.find(f"{W}pPr") is not None else 0
        paragraph.insert(place, _run(f"{_OPEN}{index}{_CLOSE}"))


def place_labels(markdown: str, labels: Sequence[NumberLabel]) -> str:
    """Put the labels in place of their marks: indented by level at the start of a line, bullets without blank lines."""

    def written(match: re.Match[str]) -> str:
        return f"{labels[int(match[1])].text} "

    lines: list[str] = []
    blank, in_list = 0, False
    for line in markdown.split("\n"):
        mark = _MARK.match(line)
        label = labels[int(mark[1])] if mark else None
        if not line:
            blank += 1
            continue
        bullet = label is not None and label.bullet
        lines += [""] * (0 if bullet and in_list else blank)
        lines.append("  " * (label.level if label else 0) + _MARK.sub(written, line))
        blank, in_list = 0, bullet
    return "\n".join([*lines, *[""] * blank])


def _run(text: str) -> Element:
    run = Element(f"{W}r")
    inner = SubElement(run, f"{W}t")
    inner.text = text
    inner.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    return run


def _paragraph(text: str) -> Element:
    paragraph = Element(f"{W}p")
    paragraph.append(_run(text))
    return paragraph
