"""Normalize a free answer, so that equal answers become equal ballots."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from tasks.contract.answer import NotJSON, parse_answer
from tasks.parallel.votes.latex import unwrap_latex

#: Wrappings removed from one answer ("**Answer:** (`5`)." has four); further ones stay, so that time is linear.
MAX_WRAPPINGS = 16
#: Characters of the longest number that is rewritten: a longer run of digits is an identifier.
MAX_NUMBER = 40

#: Characters without meaning around an answer. No sign, currency, %, #, + or bracket: "-5", "$5", "C#", "f(x)".
_EDGE = " \t\r\n.,;:!?\"'`´“”„‘’‚«»‹›*_~…。、，！？"
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+|my\s+)?(?:(?:final|correct|right|best)\s+)?"
    r"answer(?:\s+is\b[\s*_:]*|[\s*_]*[:=][\s*_]*)",
)
_BULLET = re.compile(r"[-*+•]\s+")
_NUMBER = re.compile(
    r"(?P<sign>[-+−]?)\s?(?P<currency>[$€£¥₹]?)\s?(?P<sign2>[-+−]?)(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)"
    r"(?:\.(?P<fraction>[0-9]*))?(?P<unit>\s?[%€£$¥₹°]|\s[^\W\d_]+)?",
)
_BRACKETS = {"(": ")", "[": "]", "{": "}", "$": "$"}


def normalize(answer: str) -> str:
    r"""Return the ballot of a free answer; answers with equal ballots vote for the same thing.

    The ballot is case-folded, with whitespace collapsed, without quotes, punctuation, Markdown emphasis, brackets or
    ``\boxed{…}`` around it, and without a leading "Answer:" or "The answer is". A single number becomes canonical
    ("1,200.50" is "1200.5"); a currency, percent sign or one unit word stays ("$5.00" is "$5", not "5"). Numbers inside
    sentences stay as they are ("Python 3.10" is not "Python 3.1"). A JSON object or array, also in a code fence,
    becomes compact JSON with sorted keys and normalized strings. Idempotent for at most 16 wrappings; never raises.
    """
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        # Not by a pattern: its backtracking over runs of blanks would take quadratic time.
        text = text[text.index("\n") : -3].strip()
    if text[:1] in {"{", "["}:
        try:
            value = _normalize_json(parse_answer(text, whole=True))
        except NotJSON:
            return _normalize_text(text)
        written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        # No store takes a lone surrogate ("\\ud800" is legal JSON).
        return written.encode("utf-8", "replace").decode()
    return _normalize_text(text)


def _normalize_text(text: str) -> str:
    if text.startswith(("\\", "$")) and "\\" in text:
        text = unwrap_latex(text)
    # NFC again after case folding, which may separate letter and accent ("ǰ").
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    text = " ".join(text.split())
    for _ in range(MAX_WRAPPINGS):
        shorter = _unwrap(text)
        if not shorter or shorter == text:
            break
        text = shorter
    return _normalize_number(text)


def _unwrap(text: str) -> str:
    """Remove one wrapping; return the same text if there is none, "" if there is nothing else."""
    if (lead := _LEAD.match(text)) and lead.end() < len(text):
        return text[lead.end() :]
    if bullet := _BULLET.match(text):
        return text[bullet.end() :]
    stripped = text.strip(_EDGE)
    # The point of ".5" belongs to the number.
    if re.match(r"[0-9]", stripped) and re.search(r"(?:^|[^.])\.$", text[: text.find(stripped)][-2:]):
        stripped = "." + stripped
    if stripped != text:
        return stripped
    if text.startswith("\\boxed{") and text.endswith("}"):
        return text[7:-1].strip()
    closing = _BRACKETS.get(text[:1])
    inside = text[1:-1]
    # A single pair only: "(a) or (b)", "[1] … [2]" and "$5 or 6$ …" keep theirs.
    if closing and len(text) > 2 and text.endswith(closing) and not {text[0], closing} & set(inside):
        return inside.strip()
    return text


def _normalize_number(text: str) -> str:
    """Return `text` in canonical form if it is one number."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_NUMBER else None
    if match is None or not (match["whole"] or match["fraction"]) or (match["sign"] and match["sign2"]):
        return text
    whole = match["whole"].replace(",", "")
    # "007" and "02134" are codes, not quantities.
    if len(whole) > 1 and whole.startswith("0"):
        return text
    fraction = (match["fraction"] or "").rstrip("0")
    digits = f"{whole or '0'}.{fraction}" if fraction else whole or "0"
    sign = "-" if {match["sign"], match["sign2"]} & {"-", "−"} and digits != "0" else ""
    unit = match["unit"] or ""
    # "5 %" is "5%", "5 km" keeps its space.
    unit = unit.strip() if not unit.strip().isalpha() else unit
    return f"{sign}{match['currency']}{digits}{unit}"


def _normalize_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalize_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalize_json(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return _normalize_text(value) if isinstance(value, str) else value
