"""Keywords to routes: the most distinct keywords found in a text win."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING

from tasks.classify.decision import Abstention, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["KeywordRules"]

#: Keywords named in a reason; the rest is counted, so that the reason stays a sentence.
NAMED_KEYWORDS = 5

#: Scripts that put no spaces between words (Thai … Khmer, kana, Han): there a keyword is a word wherever it stands.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class KeywordRules:
    """Whole-word, case-insensitive keywords, one list a route; keywords may hold several words and any punctuation.

    Where two keywords begin at one place the longer one is meant ("refund policy" is not "refund"), and matches do not
    overlap. One keyword may stand under several routes and then counts for each. Blank keywords are ignored.
    """

    name = "rules"

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        owners: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for route, keywords in rules.items():
            for keyword in keywords:
                if folded := " ".join(_fold(keyword).split()):
                    owners[folded][route] = None
        self._routes = {keyword: tuple(routes) for keyword, routes in owners.items()}
        self._pattern = _alternation(self._routes)

    def classify(self, text: str) -> Verdict | None:
        """Return the route with the most distinct keywords in `text`; None when nothing matches or routes tie."""
        said = self.judge(text)
        return said if isinstance(said, Verdict) else None

    def judge(self, text: str) -> Verdict | Abstention:
        """As `classify`, with the reason of an abstention.

        Confidence is the rule of succession, (h + 1) / (h + r + 2), for h hits of the winner and r of all other routes
        together: 2/3 for a single hit, 3/4 for two, towards 1 with more, and less the more others match.
        One pass: time is linear in the text.
        """
        if self._pattern is None:
            return Abstention(self.name, "no keyword is configured")
        found = {" ".join(match[0].split()) for match in self._pattern.finditer(_fold(text))}
        hits: defaultdict[str, list[str]] = defaultdict(list)
        for keyword in sorted(found):
            for route in self._routes[keyword]:
                hits[route].append(keyword)
        if not hits:
            return Abstention(self.name, "no keyword found")
        most = max(map(len, hits.values()))
        leaders = sorted(route for route, keywords in hits.items() if len(keywords) == most)
        if len(leaders) > 1:
            plural = "s" if most > 1 else ""
            return Abstention(self.name, f"tie between {' and '.join(leaders)}, {most} keyword{plural} each")
        others = sum(map(len, hits.values())) - most
        named = ", ".join(map(repr, hits[leaders[0]][:NAMED_KEYWORDS]))
        more = f" and {most - NAMED_KEYWORDS} more" if most > NAMED_KEYWORDS else ""
        confidence = (most + 1) / (most + others + 2)
        return Verdict(leaders[0], self.name, confidence, f"keyword{'s' if most > 1 else ''} {named}{more}")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _alternation(keywords: Collection[str]) -> re.Pattern[str] | None:
    """One pattern for all keywords, of equal beginnings the longest first; None when there is none.

    It is a tree over common beginnings. A flat alternation tries every keyword at every position: a thousand of them
    took 20 s for a megabyte.
    """
    # No border is asked for before a keyword that begins in a script without spaces.
    spaced = sorted(keyword for keyword in keywords if not _UNSPACED.match(keyword))
    unspaced = sorted(keyword for keyword in keywords if _UNSPACED.match(keyword))
    branches = [rf"(?<!\w){_tree(spaced)}"] if spaced else []
    branches += [_tree(unspaced)] if unspaced else []
    return re.compile("|".join(branches)) if branches else None


def _tree(keywords: Sequence[str], done: int = 0) -> str:
    """The pattern of what follows the first `done` characters, which all `keywords` (sorted) have in common."""
    first, last = keywords[0], keywords[-1]
    shorter = min(len(first), len(last))
    common = next((at for at in range(done, shorter) if first[at] != last[at]), shorter)
    stem = "".join(r"\s+" if letter == " " else re.escape(letter) for letter in first[done:common])
    longer = [keyword for keyword in keywords if len(keyword) > common]
    branches = [_tree(list(group), common) for _, group in groupby(longer, key=lambda keyword: keyword[common])]
    if len(keywords) > len(longer):
        branches.append("" if _UNSPACED.match(first[common - 1]) else r"(?!\w)")
    return f"{stem}(?:{'|'.join(branches)})"
