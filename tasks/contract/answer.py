"""The one reader of JSON that a model wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

#: Levels of nesting. Data that is made on purpose has fewer.
MAX_DEPTH = 64
#: Values in one text, and tokens of one that is no strict JSON. A text with more is made to keep a reader busy.
MOST_VALUES = 1_000
MOST_TOKENS = 500_000
#: Characters before a value that say whether a fence, a colon or the beginning of a line is there.
_BEFORE = 60


class NotJSON(ValueError):
    """An answer holds no JSON. The message gives the reason and never the text of the answer."""


def parse_answer(text: str, *, whole: bool = False) -> Any:
    """Return the JSON value of an answer.

    It is the whole text or the content of one fenced block around it; else the last complete object or array in the
    text: one that opens a fenced block before others, an object before an array. With `whole`, other text than a fence
    around the value is refused. Beyond JSON these are read: line breaks in strings, comments, trailing commas, single
    and typographic quotes, keys without quotes, `True`, `False`, `None`. A half of a surrogate pair becomes U+FFFD.

    Raises:
        NotJSON: if there is none, if the last value is cut, if a key stands twice with different values, or if it has
            more than `MAX_DEPTH` levels, NaN or infinity. A cut value is never completed.
    """
    text = text.removeprefix("\ufeff").strip()
    try:
        return _loads(text)
    except NotJSON as error:
        reason = str(error)
    body = _without_fence(text)
    if body is not text:
        try:
            return _loads(body)
        except NotJSON:
            pass
    found = list(islice(_scan(body, whole=whole), MOST_VALUES + 1))
    if len(found) > MOST_VALUES:
        raise NotJSON(f"holds more than {MOST_VALUES:,} values")
    if found and found[-1].cut:
        raise NotJSON("is cut: its JSON has no end")
    complete = [one for one in found if one.value is not None]
    if not complete:
        raise NotJSON(next((one.reason for one in reversed(found) if one.reason), reason))
    # Of those of the highest rank the last.
    return max(reversed(complete), key=lambda one: one.rank).value


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object of an answer, as `parse_answer` reads it.

    Raises:
        NotJSON: if the answer holds no JSON object.
    """
    value = parse_answer(text)
    if not isinstance(value, dict):
        raise NotJSON("is no JSON object")
    return value


def is_whole_json(text: str) -> bool:
    """Whether a text that was cut is an object or an array to its last bracket, so that nothing is lost.

    A number that stands alone may lack digits.
    """
    try:
        return isinstance(parse_answer(text, whole=True), dict | list)
    except NotJSON:
        return False


def closed_object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object with exactly these properties: providers can promise to keep such a schema.

    Models write the properties in this order, so a reason belongs before the verdict.
    """
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _loads(text: str) -> Any:
    """Parse JSON in which strings may hold line breaks."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique, strict=False)
    except RecursionError:
        raise NotJSON("is nested too deeply") from None
    except NotJSON:
        raise
    except json.JSONDecodeError as error:
        raise NotJSON(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError:  # a number of 5,000 digits
        raise NotJSON("holds a number of too many digits") from None
    _check_finite(value)
    return _mend_surrogates(value) if "\\ud" in text or "\\uD" in text or _SURROGATE.search(text) else value


def _refuse_constant(word: str) -> None:
    raise NotJSON(f"{word} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[key] != value for key, value in pairs):
        raise NotJSON("gives a key twice, with different values")
    return found


def _without_fence(text: str) -> str:
    # Not by a pattern: its backtracking over runs of blanks would take minutes.
    if not text.startswith("```") or not text.endswith("```") or len(text) < 6:
        return text
    opening, _, rest = text[3:-3].partition("\n")
    return rest if not opening.strip() or opening.strip().isalnum() else text


@dataclass(frozen=True, slots=True)
class _Found:
    """A place in a text where an object or array begins: its value, or why it has none."""

    value: Any = None
    #: The higher the likelier it is the answer.
    rank: int = 0
    cut: bool = False
    reason: str = ""


#: The tokens of JSON as models write it. Possessive: no input makes them slow.
_TOKEN = re.compile(
    r"""
      (?P<blank>\s++)
    | (?P<comment>//[^\n]*+|\#[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)
    | (?P<mark>[{}\[\],:])
    | (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    | (?P<single>'[^'\\]*+(?:\\.[^'\\]*+)*+')
    | (?P<curly>[“„][^“”„]*+[”“])
    | (?P<number>-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d++)?(?![\w.]))
    | (?P<key>[A-Za-z_$][\w$-]*+(?=\s{0,20}:))
    | (?P<word>(?:true|false|null|True|False|None|NaN|-?Infinity)\b)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = re.compile(r"[{\[]")
_FENCE = re.compile(r"(?:```|~~~)[ \t]*[\w+-]*\s*\Z")
_PLACED = re.compile(r"(?:\A|\n|:|：)[ \t>*_]*\Z")
#: An array behind a colon in prose ends here; one behind these words is a reference or a bound.
_GOES_ON = re.compile(r"[.;,]?(?:\s|\Z)")
_COLON = re.compile(r"[:：] ?\Z")
_REFERS = re.compile(
    r"\b(?:see|sources?|references?|refs?|citations?|cited|cf|footnotes?|notes?|pages?|interval|range|bounds|quellen?|siehe"
    r"|verweise?|fußnoten?|seiten?|intervall|bereich|références?|notes?|voir|pages?|intervalle|fuentes?|referencias?|véase|notas?"
    r"|intervalo|rango)\b[^:：\n]{0,20}[:：][ \t*_]*\Z",
    re.IGNORECASE,
)
_LINE_END = re.compile(r"[ \t*_.]*(?:\n|\Z|```)")
_BEGINS = re.compile(r"""\{\s{0,99}(?:["'“„}]|\w+\s?:|\Z)|\[\s{0,99}(?:["'“„{\[\]\d-]|\Z)""")
_WORDS = {"True": "true", "False": "false", "None": "null"}
#: A backslash before a character that JSON does not escape.
_BAD_ESCAPE = re.compile(r"\\(?:([\"\\/bfnrt]|u[0-9a-fA-F]{4})|(.))", re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _scan(text: str, *, whole: bool) -> Iterator[_Found]:
    """Yield what stands at each place where an object or array begins, outside of others."""
    place = 0
    while opening := _OPENING.search(text, place):
        start = opening.start()
        if whole and text[:start].strip():
            return
        before = text[max(start - _BEFORE, 0) : start]
        fenced = _FENCE.search(before) is not None
        written, place, bare_key = _rewrite(text, start)
        if written is None:
            yield _Found(cut=place >= len(text) and _looks_cut(text, start))
            continue
        if whole and text[place:].strip():
            return
        # An object of JavaScript within code or prose.
        if bare_key and not fenced and text[:start].strip():
            yield _Found(reason="has JavaScript or prose around its braces")
            continue
        try:
            value = _loads(written)
        except NotJSON as error:
            yield _Found(reason=str(error))
            continue
        placed = _is_placed(text, place, before, value)
        # "[1]" is a reference, "{}" a placeholder.
        if not fenced and not placed and not (value and _holds_text(value)):
            yield _Found(reason="has brackets within prose alone")
            continue
        yield _Found(value, 2 * fenced + isinstance(value, dict))


def _is_placed(text: str, end: int, before: str, value: Any) -> bool:
    """Whether a value stands on lines of its own, or behind a colon in prose with more than one item."""
    if not isinstance(value, dict) and _REFERS.search(before):
        return False
    if _PLACED.search(before) and _LINE_END.match(text, end):
        return True
    return len(value) > 1 and _COLON.search(before) is not None and _GOES_ON.match(text, end) is not None


def _rewrite(text: str, start: int) -> tuple[str | None, int, bool]:
    """Return the value that begins at a place as JSON, None if it has no end; where to go on; whether a key is bare."""
    out: list[str] = []
    closers: list[str] = []
    bare_key = False
    place = start
    while (token := _TOKEN.match(text, place)) and len(out) < MOST_TOKENS:
        place = token.end()
        kind, word = token.lastgroup, token.group()
        if kind in {"blank", "comment"}:
            continue
        if len(closers) > MAX_DEPTH:
            raise NotJSON(f"has more than {MAX_DEPTH} levels")
        if kind == "mark" and not _balance(word, closers, out):
            return None, place, bare_key
        if kind == "key":
            bare_key = True
            word = json.dumps(word)
        elif kind in {"string", "single", "curly"}:
            word = _as_string(word)
        out.append(_WORDS.get(word, word))
        if not closers:
            return "".join(out), place, bare_key
    return None, len(text) if _ends_here(text, place) else place + 1, bare_key


def _balance(mark: str, closers: list[str], out: list[str]) -> bool:
    """Open or close a level, without a comma before its end; return whether the mark may stand here."""
    if mark in "{[":
        closers.append("}" if mark == "{" else "]")
    if mark in "}]":
        if out[-1] == ",":
            out.pop()
        return closers.pop() == mark
    return True


def _ends_here(text: str, place: int) -> bool:
    """Whether the text ends within the token at a place: a string or comment without an end, half of a word."""
    rest = text[place : place + 9]
    quoted = rest[:1] in {'"', "'", "“", "„"} or rest.startswith("/*")
    return not rest or quoted or (len(rest) < 9 and re.fullmatch(r"-|/|[A-Za-z]+", rest) is not None)


def _looks_cut(text: str, start: int) -> bool:
    """Whether what begins here is JSON that lacks its end, not a bracket in prose."""
    return (
        re.match(r"""\{\s{0,99}(?:["'“}]|\w+\s?:|\Z)|\[\s{0,99}(?:["'“{\[\]\d-]|\Z)""", text[start : start + 200])
        is not None
    )


def _as_string(word: str) -> str:
    """Return a quoted text as a JSON string."""
    inner = word[1:-1]
    if word[0] != '"':
        inner = re.sub(r'(?<!\\)"', '\\\\"', inner)
    return '"' + _BAD_ESCAPE.sub(_mend_escape, inner) + '"'


def _mend_escape(match: re.Match[str]) -> str:
    if match[1]:
        return match.group()
    # JavaScript's quote and line break; of any other the backslash is a character.
    return match[2] if match[2] in "'\n" else "\\\\" + match[2]


def _holds_text(value: Any) -> bool:
    return isinstance(value, dict) or any(isinstance(inner, str | dict | list) for inner in value)


def _mend_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mend_surrogates(key): _mend_surrogates(inner) for key, inner in value.items()}
    return [_mend_surrogates(inner) for inner in value] if isinstance(value, list) else value


def _check_finite(value: Any) -> None:
    """Check each level in a loop: deep nesting would overflow a recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for inner in level:
            if isinstance(inner, dict):
                below.extend(inner.values())
            elif isinstance(inner, list):
                below.extend(inner)
            elif isinstance(inner, float) and not math.isfinite(inner):
                raise NotJSON("holds a number beyond the range of floats")
        if not below:
            return
        level = below
    raise NotJSON(f"has more than {MAX_DEPTH} levels")
