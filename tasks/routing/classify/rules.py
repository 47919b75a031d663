"""Keywords and regular expressions to routes: the most distinct ones found in a text win."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.patterns import Patterns

#: Keywords and patterns named in a reason; the rest is counted, so that the reason stays a sentence.
NAMED = 5
#: Characters of a pattern that are shown in a reason.
SHOWN = 60

#: Scripts that put no spaces between words (Thai … Khmer, kana, Han): there a keyword is a word wherever it stands.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Rules:
    """Keywords and patterns, lists of each by route.

    Keywords are whole words, whatever their case; they may hold several words and any punctuation. Where two begin at
    one place the longer one is meant ("refund policy" is not "refund"), and matches do not overlap. Blank keywords are
    ignored. Patterns are those of `classify.patterns`. Either may stand under several routes and then counts for
    each; a word that is found by a keyword and by a pattern counts twice.
    """

    name = "rules"
    slow = False

    def __init__(
        self, keywords: Mapping[str, Sequence[str]], patterns: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`keywords` and `patterns` by route.

        Raises:
            ValueError: if a pattern doesn't compile; the configuration has checked them.
        """
        owners: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for route, own in keywords.items():
            for keyword in own:
                if folded := " ".join(_fold(keyword).split()):
                    owners[folded][route] = None
        self._routes = {keyword: tuple(routes) for keyword, routes in owners.items()}
        self._pattern = _alternation(self._routes)
        self._patterns = Patterns(patterns or {})

    def judge(self, text: str) -> Verdict | Abstention:
        """Return the route with the most hits in `text`, or an abstention when nothing matches or routes tie.

        A hit is a keyword or a pattern that is found, however often. Confidence is the rule of succession,
        (h + 1) / (h + r + 2), for h hits of the winner and r of all other routes together: 2/3 for a single hit, 3/4
        for two, towards 1 with more, and less the more others match. Time is linear in the text.
        """
        if self._pattern is None and not self._patterns:
            return Abstention(self.name, "no keyword is configured")
        hits = self._hits(text)
        if not hits:
            return Abstention(self.name, f"no keyword{' or pattern' if self._patterns else ''} found")
        most = max(map(len, hits.values()))
        leaders = sorted(route for route, found in hits.items() if len(found) == most)
        if len(leaders) > 1:
            what = "hit" if self._patterns else "keyword"
            return Abstention(self.name, f"tie between {' and '.join(leaders)}, {most} {what}{'s' * (most > 1)} each")
        others = sum(map(len, hits.values())) - most
        return Verdict(leaders[0], self.name, (most + 1) / (most + others + 2), _reason(hits[leaders[0]]))

    def _hits(self, text: str) -> dict[str, list[tuple[str, str]]]:
        """By route what was found: keywords, then patterns."""
        hits: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        if self._pattern is not None:
            for keyword in sorted({" ".join(match[0].split()) for match in self._pattern.finditer(_fold(text))}):
                for route in self._routes[keyword]:
                    hits[route].append(("keyword", keyword))
        for pattern, routes in self._patterns.found(text):
            for route in routes:
                hits[route].append(("pattern", pattern))
        return hits


def _reason(found: Sequence[tuple[str, str]]) -> str:
    """Such as ``keywords 'invoice', 'refund', pattern 'INV-[0-9]+' and 2 more``."""
    named = found[:NAMED]
    shown = []
    for kind in ("keyword", "pattern"):
        own = [what for of, what in named if of == kind]
        if own:
            several = "s" * (sum(of == kind for of, _ in found) > 1)
            shown.append(f"{kind}{several} {', '.join(map(repr if kind == 'keyword' else _shown, own))}")
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(shown) + more


def _shown(pattern: str) -> str:
    """A pattern as it stands in the configuration, with its backslashes."""
    return f"'{pattern[:SHOWN]}…'" if len(pattern) > SHOWN else f"'{pattern}'"


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
    common_part = "".join(r"\s+" if letter == " " else re.escape(letter) for letter in first[done:common])
    longer = [keyword for keyword in keywords if len(keyword) > common]
    branches = [_tree(list(group), common) for _, group in groupby(longer, key=lambda keyword: keyword[common])]
    if len(keywords) > len(longer):
        branches.append("" if _UNSPACED.match(first[common - 1]) else r"(?!\w)")
    return f"{common_part}(?:{'|'.join(branches)})"
