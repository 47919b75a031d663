"""Equations of a DOCX (OMML, ECMA-376-1, 22.1) as one line of text: ``x = (-b ± √(b^2 - 4ac))/(2a)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from xml.etree.ElementTree import Element

#: The namespace of OMML; that of strict documents is renamed to it.
M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"


def linear(element: Element) -> str:
    """Return the text of an equation, or of a part of one; structures that are not known show what they hold."""
    if not element.tag.startswith(M):
        # Deleted text, properties of runs and the like; inserted text stands in a wrapper.
        return _inside(element) if element.tag.endswith(("}ins", "}moveTo", "}r", "}sdt", "}sdtContent")) else ""
    name = element.tag.removeprefix(M)
    if name == "t":
        return element.text or ""
    if name.endswith("Pr"):
        return ""
    write = _STRUCTURES.get(name)
    return _inside(element) if write is None else write(element)


def _inside(element: Element) -> str:
    return "".join(map(linear, element))


def _part(element: Element, name: str) -> str:
    child = element.find(M + name)
    return "" if child is None else _inside(child).strip()


def _grouped(written: str) -> str:
    """Put what is more than one symbol or number in brackets."""
    return written if len(written) == 1 or written.isdecimal() else f"({written})"


def _property(element: Element, structure: str, name: str, default: str) -> str:
    found = element.find(f"{M}{structure}Pr/{M}{name}")
    return default if found is None else found.get(f"{M}val", "")


def _scripts(element: Element, base: str) -> str:
    below, above = _part(element, "sub"), _part(element, "sup")
    return base + (f"_{_grouped(below)}" if below else "") + (f"^{_grouped(above)}" if above else "")


def _fraction(element: Element) -> str:
    return f"{_grouped(_part(element, 'num'))}/{_grouped(_part(element, 'den'))}"


def _root(element: Element) -> str:
    degree = _part(element, "deg")
    return f"√{f'[{degree}]' if degree else ''}({_part(element, 'e')})"


def _nary(element: Element) -> str:
    return f"{_scripts(element, _property(element, 'nary', 'chr', '∫'))} {_part(element, 'e')}"


def _delimited(element: Element) -> str:
    first, last = _property(element, "d", "begChr", "("), _property(element, "d", "endChr", ")")
    between = _property(element, "d", "sepChr", "|")
    return first + between.join(_inside(inner).strip() for inner in element.iterfind(f"{M}e")) + last


def _function(element: Element) -> str:
    return f"{_part(element, 'fName')} {_part(element, 'e')}"


def _matrix(element: Element) -> str:
    rows = (", ".join(_inside(cell).strip() for cell in row.iterfind(f"{M}e")) for row in element.iterfind(f"{M}mr"))
    return f"[{'; '.join(rows)}]"


def _equations(element: Element) -> str:
    return "; ".join(_inside(line).strip().replace("&", "") for line in element.iterfind(f"{M}e"))


def _accent(element: Element) -> str:
    return _part(element, "e") + _property(element, "acc", "chr", "\u0302")


def _bar(element: Element) -> str:
    return _part(element, "e") + "\u0305"


def _limit(sign: str) -> Callable[[Element], str]:
    return lambda element: f"{_part(element, 'e')}{sign}{_grouped(_part(element, 'lim'))}"


def _prescript(element: Element) -> str:
    return f"{_scripts(element, '')} {_part(element, 'e')}"


def _phantom(element: Element) -> str:
    return "" if _property(element, "phant", "show", "1") in {"0", "off", "false"} else _part(element, "e")


def _script(element: Element) -> str:
    return _scripts(element, _part(element, "e"))


_STRUCTURES: Mapping[str, Callable[[Element], str]] = {
    "f": _fraction, "rad": _root, "nary": _nary, "d": _delimited, "func": _function, "m": _matrix, "eqArr": _equations,
    "acc": _accent, "bar": _bar, "limLow": _limit("_"), "limUpp": _limit("^"), "sPre": _prescript, "phant": _phantom,
    "sSub": _script, "sSup": _script, "sSubSup": _script,
}  # fmt: skip
