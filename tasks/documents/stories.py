"""The stories of a DOCX (its body, its notes) as mammoth can read them: nothing is left that mammoth drops in silence.

Automatic numbers become marks, for which `place_labels` puts the labels into the finished Markdown; equations, text
boxes, fields, diagrams and forms become plain runs and paragraphs; hidden text goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
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
    for step in (_choose_alternatives, _drop_hidden, _write_equations, _unwrap):
        step(root)
    found.pictures.extend(None for element in root.iter() if element.tag in _PICTURES)
    found.embedded.extend(None for element in root.iter() if element.tag in _EMBEDDED)
    _lift_boxes(root, related)
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


def _choose_alternatives(root: Element) -> None:
    """Keep one of the forms of what is written for several programs: the first with text, else the fallback."""
    for parent in list(root.iter()):
        for alternatives in parent.findall(f"{_MC}AlternateContent"):
            choices = list(alternatives)
            kept = next((choice for choice in choices if _has_text(choice)), choices[-1] if choices else ())
            _replace(parent, alternatives, list(kept))


def _has_text(element: Element) -> bool:
    names = {f"{W}t", f"{M}t", f"{_DIAGRAM}relIds", f"{_CHART}chart"}
    return any(inner.tag in names for inner in element.iter())


def _drop_hidden(root: Element) -> None:
    for parent in list(root.iter()):
        for run in parent.findall(f"{W}r"):
            if is_on(run.find(f"{W}rPr/{W}vanish")):
                parent.remove(run)


def _write_equations(root: Element) -> None:
    for parent in list(root.iter()):
        for name in ("oMathPara", "oMath"):
            for equation in parent.findall(M + name):
                lines = [equation] if name == "oMath" else equation.findall(f"{M}oMath")
                _replace(parent, equation, [_run(" ".join("; ".join(map(linear, lines)).split()))])


def _unwrap(root: Element) -> None:
    """Put the text of fields, directions, ruby and old forms where mammoth reads it."""
    for parent in reversed(list(root.iter())):
        for child in list(parent):
            if child.tag in _WRAPPERS:
                _replace(parent, child, [inner for inner in child if not inner.tag.endswith("Pr")])
            elif child.tag == f"{W}ruby":
                base, above = (
                    "".join(text.text or "" for text in child.iterfind(f"{W}{name}//{W}t"))
                    for name in ("rubyBase", "rt")
                )
                _replace(parent, child, list(_run(f"{base}({above})" if above else base)))
            elif child.tag == f"{W}sdt" and (box := child.find(f"{W}sdtPr/{_WORD_2010}checkbox")) is not None:
                checked = box.find(f"{_WORD_2010}checked")
                on = checked is not None and checked.get(f"{_WORD_2010}val", "1") in {"1", "true", "on"}
                _replace(parent, child, [_run("[x]" if on else "[ ]")])
        for run in parent.findall(f"{W}r"):
            data = run.find(f"{W}fldChar/{W}ffData")
            if data is not None and (chosen := _chosen(data)):
                _replace(parent, run, [run, _run(chosen)])


def _chosen(data: Element) -> str:
    """Return the state of an old form's check box, or the chosen entry of its list."""
    if (box := data.find(f"{W}checkBox")) is not None:
        data.remove(box)  # which mammoth writes as a picture of a box
        checked = box.find(f"{W}checked")
        return "[x]" if is_on(box.find(f"{W}default") if checked is None else checked) else "[ ]"
    entries = data.findall(f"{W}ddList/{W}listEntry")
    result = data.find(f"{W}ddList/{W}result")
    place = "0" if result is None else result.get(f"{W}val", "0")
    return entries[int(place)].get(f"{W}val", "") if place.isdecimal() and int(place[:4]) < len(entries) else ""


def _lift_boxes(root: Element, related: Callable[[str], Element | None]) -> None:
    """Make the paragraphs of text boxes, and the texts of diagrams and charts, stand after their paragraph."""
    parents = {child: parent for parent in root.iter() for child in parent}
    for paragraph in list(root.iter(f"{W}p")):
        lifted: list[Element] = []
        for holder, box in _boxes(paragraph):
            holder.remove(box)
            lifted.extend(box)
        for element in paragraph.iter():
            if element.tag == f"{_VML}textpath" and element.get("string"):
                lifted.append(_paragraph(element.get("string", "")))
            elif element.tag == f"{_DIAGRAM}relIds":
                lifted += _shown(related(element.get(f"{_R}dm", "")))
            elif element.tag == f"{_CHART}chart":
                lifted += _shown(related(element.get(f"{_R}id", "")))
        if lifted and (parent := parents.get(paragraph)) is not None:
            place = list(parent).index(paragraph) + 1
            parent[place:place] = lifted
            parents |= dict.fromkeys(lifted, parent)


def _boxes(paragraph: Element) -> Iterator[tuple[Element, Element]]:
    """Yield the outermost text boxes of a paragraph, each with its parent."""
    pending = [paragraph]
    while pending:
        element = pending.pop()
        boxes = element.findall(f"{W}txbxContent")
        yield from ((element, box) for box in boxes)
        pending.extend(child for child in reversed(element) if child.tag != f"{W}txbxContent")


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


def _replace(parent: Element, child: Element, by: Sequence[Element]) -> None:
    place = list(parent).index(child)
    parent[place : place + 1] = by


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
