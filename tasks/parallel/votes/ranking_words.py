"""Words that say the order of a ranking: which end comes first, ordinals, and comparisons of two candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

_WORST = (
    r"(?:worst|least\b(?:[\s_-]\w+)?|lowest|weakest|bottom|schlechtest\w*|schwächst\w*|niedrigst\w*|pires?"
    r"|moins[\s_-]bon\w*"
    r"|plus[\s_-]mauvais\w*|plus[\s_-]faible|peor(?:es)?|last|most[\s_-]disliked)"
)
_BEST = (
    r"(?:best|most\b(?:[\s_-]\w+)?|highest|strongest|top|first|best\w*|höchst\w*|stärkst\w*|meilleure?s?"
    r"|plus[\s_-]fort"
    r"|mejor(?:es)?)"
)
_TO = (
    r"[\s_-]{1,3}(?:to|zu[mr]?|bis(?:[\s_-]zu[mr]?)?|nach|au|à|aux?|a(?:l|[\s_-]la)?|->|→|up[\s_-]to)[\s_-]{1,3}"
    r"(?:the[\s_-]|la[\s_-]|le[\s_-]|lo[\s_-])?"
)
_FIRST = r"[\s_-](?:first|zuerst|zuvor|d['’]abord|en[\s_-]premier|primero)\b"
_STARTS = r"(?:start|begin|beginn|angefangen|commenç|empez)\w*(?: with| from| mit| par| por)(?: the| de[mr]| le| el)? "
_WORST_FIRST = re.compile(
    rf"(?<![^\W_])(?<!not )(?<!nicht )(?<!pas ){_WORST}(?:{_TO}{_BEST}|{_FIRST}|(?=\s?(?:->"
    rf"|→)\s?{_BEST}))(?! would\b| is\b)",
    re.IGNORECASE,
)
_BEST_FIRST = re.compile(rf"(?<![^\W_]){_BEST}(?:{_TO}{_WORST}|{_FIRST})", re.IGNORECASE)
#: An order whose direction these words leave open.
_EITHER = re.compile(
    r"\b(?:ascending|aufsteigend\w*|croissant|ascendente|increasing|revers\w+[\s_](?:order|rank\w*)"
    r"|umgekehrt\w*|inverse[ds]?"
    r"|orden inverso|countdown)\b",
    re.IGNORECASE,
)
#: The words of each place, in their order; of the last, which has place 0, the worst.
_PLACES = (
    r"last|worst|least \w+|bottom|lowest|letzt\w*|schlechtest\w*|dernier|dernière|pire|últim[oa]|peor",
    r"first(?:ly)?|1st|best|winner|erste[nrs]?|erstens|premi(?:er|ère|èrement)|primer[oa]?|mejor|meilleure?|top",
    r"second(?:ly)?|2nd|runner-up|zweite[nrs]?|zweitens|deuxième(?:ment)?|seconde?|segund[oa]",
    r"third(?:ly)?|3rd|dritte[nrs]?|drittens|troisième(?:ment)?|tercer[oa]?",
    r"fourth(?:ly)?|4th|vierte[nrs]?|viertens|quatrième(?:ment)?|cuart[oa]",
    r"fifth(?:ly)?|5th|fünfte[nrs]?|fünftens|cinquième(?:ment)?|quint[oa]",
    r"sixth(?:ly)?|6th|sechste[nrs]?|sechstens|sixième(?:ment)?|sext[oa]",
)
ORDINALS = "|".join(f"(?P<p{place}>{words})" for place, words in enumerate(_PLACES))
_ORDINAL = re.compile(rf"(?<![\w-])(?:{ORDINALS})(?![\w-])", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;\n]|\b(?:and|und|et|y|while|but)\b", re.IGNORECASE)
_THEN = re.compile(r"\s{0,9}(?:then|next|dann|puis|ensuite|luego|después)\b", re.IGNORECASE)
#: Stands for the last place.
_LAST = 10_000
_BETTER = re.compile(
    r"(?:\s[^\W\d_]+){0,2}?\s(?:over|beats?|above|ahead of|better than|stronger than|preferable to|besser als"
    r"|schlägt|vor"
    r"|meilleure? que|mieux que|devant|bat|mejor que|supera a|antes que|(?P<worse>worse than|below|behind|weaker than"
    r"|schlechter als|hinter|pire que|derrière|peor que|loses to))\s(?:the |la |el )?\Z",
    re.IGNORECASE,
)
DENIES = re.compile(r"\b(?:not|nicht|pas|isn['’]t|never|neither|no)\b", re.IGNORECASE)


class NoOrder(Exception):
    """A text has a tie, or orders that contradict each other."""


def worst_first(text: str) -> bool:
    """Whether a text says that it gives the worst first; raise `NoOrder` where it says both, or an open direction."""
    worst, best = _WORST_FIRST.search(text), _BEST_FIRST.search(text)
    if (worst and best) or (_EITHER.search(text) and not worst and not best):
        raise NoOrder
    return worst is not None


def place_of(ordinal: re.Match[str]) -> int:
    """Return the place that an ordinal names, the best 1; the last is behind all others."""
    place = next(place for place in range(len(_PLACES)) if ordinal[f"p{place}"])
    return place or _LAST


def order_of_places(text: str, candidates: Callable[[str], Sequence[str]], among: int) -> list[str] | None:
    """Return the order that ordinals or comparisons in prose give, None where a text has none of either.

    `candidates` finds the names in a text; `among` is the number of all candidates: the last of four is the fourth.

    Raises:
        NoOrder: where they contradict each other, or leave the place of a candidate open.
    """
    placed: list[tuple[int, str]] = []
    for clause in _CLAUSE.split(text):
        ordinals = list(_ORDINAL.finditer(clause))
        named = set(candidates(clause))
        if len(ordinals) == 1 and len(named) == 1:
            placed.append((place_of(ordinals[0]), named.pop()))
        elif placed and len(named) == 1 and _THEN.match(clause):
            placed.append((placed[-1][0] + 1, named.pop()))
    if len(placed) == 1 and placed[0][0] == _LAST:
        raise NoOrder
    if len(placed) < 2:
        return _order_of_pairs(text, candidates)
    places = sorted(dict.fromkeys(placed))
    expected = list(range(1, len(places) + 1))
    numbers = [among if place == _LAST else place for place, _ in places]
    if DENIES.search(text) or numbers != expected:
        raise NoOrder
    names = [name for _, name in places]
    if set(names) != set(candidates(text)) or len(set(names)) < len(names):
        raise NoOrder
    return names


def _order_of_pairs(text: str, candidates: Callable[[str], Sequence[str]]) -> list[str] | None:
    """Return the one order that "A is better than B" and its relatives give, None without any."""
    mentions: list[tuple[int, str]] = []
    place = 0
    lowered = text.casefold()
    for name in candidates(text):
        place = lowered.find(name, place)
        if place < 0:
            return None
        mentions.append((place, name))
        place += len(name)
    above: dict[str, set[str]] = {name: set() for _, name in mentions}
    found = False
    for (start, one), (after, other) in pairwise(mentions):
        between = _BETTER.match(text[start + len(one) : after])
        if between:
            found = True
            winner, loser = (other, one) if between["worse"] else (one, other)
            above[loser].add(winner)
    if not found:
        return None
    order: list[str] = []
    while above:
        free = [name for name, others in above.items() if not others - set(order)]
        if len(free) != 1 or DENIES.search(text):
            raise NoOrder
        order.append(free[0])
        del above[free[0]]
    return order
