"""Keywords and regular expressions to routes: the most distinct ones found in a text win.

A keyword stands for the inflected forms of its words: text and keywords are compared by the stems of the Snowball
project (https://snowballstem.org), in the language of the route. Where a language has no inflection, or its script puts
no spaces between words, a stem is the word itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

import Stemmer

from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.patterns import Patterns

#: Keywords and patterns named in a reason; the rest is counted, so that the reason stays a sentence.
NAMED = 5
#: Characters of a pattern that are shown in a reason.
SHOWN = 60

#: Characters of the longest word that is stemmed: no language has longer ones, and hostile texts do.
LONGEST_WORD = 60

#: Scripts that put no spaces between words (Thai … Khmer, kana, Han): there a keyword is a word wherever it stands.
_UNSPACED_CHARACTERS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_UNSPACED = re.compile(f"[{_UNSPACED_CHARACTERS}]")
#: Hangul: Korean puts particles and endings behind a word without a space, and no stemmer takes them off.
_HANGUL = re.compile(r"[\u1100-\u11ff\uac00-\ud7a3]")
#: Signs within words that `\w` leaves out: accents, Hebrew and Arabic points, the vowel signs of Indian scripts.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0981-\u0dff"
#: A run of letters of other scripts, as stemmers read it: numbers, signs and what joins words stay as they are.
_WORD = re.compile(rf"(?:(?![{_UNSPACED_CHARACTERS}])(?:[^\W\d_]|[{_MARKS}]))+")
#: The borders of a keyword: no letter goes on there, or one of a script without spaces.
_START = rf"(?:(?<![\w{_MARKS}])|(?<=[{_UNSPACED_CHARACTERS}]))"
_END = rf"(?:(?![\w{_MARKS}])|(?=[{_UNSPACED_CHARACTERS}]))"


class Rules:
    """Keywords and patterns, lists of each by route.

    Keywords are whole words, whatever their case and inflection ("invoice" is found in "invoices"); they may hold
    several words and any punctuation. Where two of one language begin at one place the longer one is meant ("refund
    policy" is not "refund"), and matches do not overlap. Blank keywords are ignored; those of one stem are one keyword.
    Patterns are those of `classify.patterns`. Either may stand under several routes and then counts for each; a word
    that is found by a keyword and by a pattern counts twice.
    """

    name = "rules"
    slow = False

    def __init__(
        self,
        keywords: Mapping[str, Sequence[str]],
        patterns: Mapping[str, Sequence[str]] | None = None,
        languages: Mapping[str, str | None] | None = None,
    ) -> None:
        """`keywords`, `patterns` and the language of the keywords by route: English, or None for exact words.

        Raises:
            ValueError: if a pattern doesn't compile; the configuration has checked them.
        """
        spoken = {route: (languages or {}).get(route, "english") for route in keywords}
        self._keywords = [
            _Keywords(language, {route: own for route, own in keywords.items() if spoken[route] == language})
            for language in dict.fromkeys(spoken.values())
        ]
        self._keywords = [own for own in self._keywords if own.pattern is not None]
        self._patterns = Patterns(patterns or {})

    def judge(self, text: str) -> Verdict | Abstention:
        """Return the route with the most hits in `text`, or an abstention when nothing matches or routes tie.

        A hit is a keyword or a pattern that is found, however often. Confidence is the rule of succession,
        (h + 1) / (h + r + 2), for h hits of the winner and r of all other routes together: 2/3 for a single hit, 3/4
        for two, towards 1 with more, and less the more others match. Time is linear in the text.
        """
        if not self._keywords and not self._patterns:
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
        folded = _fold(text) if self._keywords else ""
        for own in self._keywords:
            for route, keyword in own.found(folded):
                hits[route].append(("keyword", keyword))
        for pattern, routes in self._patterns.found(text):
            for route in routes:
                hits[route].append(("pattern", pattern))
        return hits


class _Keywords:
    """The keywords of the routes of one language."""

    def __init__(self, language: str | None, keywords: Mapping[str, Sequence[str]]) -> None:
        self._stemmer = Stemmer.Stemmer(language) if language else None
        # By what is compared, and by route: the keyword that reasons name.
        self._owners: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for route, own in keywords.items():
            for folded in (" ".join(_fold(keyword).split()) for keyword in own):
                if folded:
                    self._owners[self._reduced(folded)].setdefault(route, folded)
        self.pattern = _alternation(self._owners, exact=language is None)

    def found(self, folded: str) -> list[tuple[str, str]]:
        """Each route with each of its keywords that stand in a text, in alphabetical order."""
        assert self.pattern is not None
        stems = {" ".join(match[0].split()) for match in self.pattern.finditer(self._reduced(folded))}
        return sorted((route, keyword) for stem in stems for route, keyword in self._owners[stem].items())

    def _reduced(self, folded: str) -> str:
        """A text with the stem of each word in its place."""
        if self._stemmer is None:
            return folded
        words = {word for word in _WORD.findall(folded) if len(word) <= LONGEST_WORD}
        stems = dict(zip(words, self._stemmer.stemWords(list(words)), strict=True))
        return _WORD.sub(lambda match: stems.get(match[0], match[0]), folded)


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


def _alternation(keywords: Collection[str], *, exact: bool) -> re.Pattern[str] | None:
    """One pattern for all keywords, of equal beginnings the longest first; None when there is none.

    It is a tree over common beginnings. A flat alternation tries every keyword at every position: a thousand of them
    took 20 s for a megabyte.
    """
    # No border is asked for before a keyword that begins in a script without spaces.
    spaced = sorted(keyword for keyword in keywords if not _UNSPACED.match(keyword))
    unspaced = sorted(keyword for keyword in keywords if _UNSPACED.match(keyword))
    branches = [f"{_START}{_tree(spaced, exact=exact)}"] if spaced else []
    branches += [_tree(unspaced, exact=exact)] if unspaced else []
    return re.compile("|".join(branches)) if branches else None


def _tree(keywords: Sequence[str], done: int = 0, *, exact: bool) -> str:
    """The pattern of what follows the first `done` characters, which all `keywords` (sorted) have in common."""
    first, last = keywords[0], keywords[-1]
    shorter = min(len(first), len(last))
    common = next((at for at in range(done, shorter) if first[at] != last[at]), shorter)
    common_part = "".join(r"\s+" if letter == " " else re.escape(letter) for letter in first[done:common])
    longer = [keyword for keyword in keywords if len(keyword) > common]
    branches = [
        _tree(list(group), common, exact=exact) for _, group in groupby(longer, key=lambda keyword: keyword[common])
    ]
    if len(keywords) > len(longer):
        open_end = _UNSPACED.match(first[common - 1]) or (_HANGUL.match(first[common - 1]) and not exact)
        branches.append("" if open_end else _END)
    return f"{common_part}(?:{'|'.join(branches)})"
