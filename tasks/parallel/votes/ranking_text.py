"""The one reader of rankings: the order of candidates that a text gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.ranking_words import DENIES, ORDINALS, NoOrder, order_of_places, place_of, worst_first

#: Candidates of one ballot at most; the rest of a longer list is ignored. So a thousand ballots take linear time.
MOST_CANDIDATES = 100
#: Characters and lines of a text that are read.
MOST_READ, MOST_LINES = 200_000, 2_000
#: Characters of a name that stands on a line of its own.
MOST_NAME = 80
_NUMBERED = re.compile(
    r"\s{0,20}[*_#>]{0,4}\s?[(\[]?(?:#|No\. ?|Rank ?|Place ?|Platz ?|Rang ?|第)?(\d{1,4})"
    r"(?:st|nd|rd|th|er|e|º)?(?:名|位)?(?: place| rank)?[.):：\]、-]{1,2}[*_]{0,3}\s*(\S.*)", re.IGNORECASE,
)  # fmt: skip
_BULLET = re.compile(r"\s{0,20}[-*•+]\s+(\S.*)")
_ORDINAL = re.compile(
    rf"\s{{0,20}}[-*•+]?\s?[*_]{{0,3}}(?:in |at )?(?:{ORDINALS})(?: place| choice"
    r"| rank)?[*_]{0,3}\s?[:：–-]\s*(?P<item>\S.*)",
    re.IGNORECASE,
)
_CHAIN = re.compile(r"\s?(?:>{1,3}|≻|›|→|&gt;)\s?")
_CHAIN_UP = re.compile(r"(?:(?<=\s)|(?<=[*_\"'`]))(?:<{1,3}|≺)\s")
_THEN = re.compile(
    r"\s?(?:,? (?:and )?(?:then|followed by|finally|lastly|dann|gefolgt von|puis|luego|después)\b|[,、，]|, and )\s?",
    re.IGNORECASE,
)
#: Where the reason behind a name begins.
_REASON = re.compile(
    r"\s[–—-]{1,2}\s|\s?[:：]\s|\s\(|\s\[|\s?[–—]\s?(?=\S+ \S+ )|,? (?:because|since|weil|parce que|porque|as it"
    r"|with its)\b"
)
_BOLD = re.compile(r"(?:\*\*|__)(.{1,200}?)(?:\*\*|__)")
_RANK_KEY = re.compile(r"rank|place|position|platz|rang|order|no\.?$|^#$|puesto|名次", re.IGNORECASE)
_NAME_KEY = re.compile(r"name|candidate|option|item|city|choice|title|answer|kandidat|nom|nombre|名", re.IGNORECASE)
_FINAL = re.compile(r"\b(?:final|revised|overall|endgültig|updated)\b", re.IGNORECASE)
_TIE = re.compile(r"\s(?:=|~|≈|≥|≤)\s|\b(?:tied?|equal(?:ly)?|joint|ex aequo|gleichauf)\b", re.IGNORECASE)


def read_ranking(text: str, among: Sequence[str] = ()) -> dict[str, str]:
    """Return the candidates of a text, the best first, each with its original name; {} if the text ranks none.

    The text holds a JSON array of names or of objects with a name, or an object from names to ranks; a table; a
    numbered list, whose numbers count; a list of bullets; names with ``>`` between them; or one name a line, or names
    with commas. Reasons may follow a name. With `among` others are ignored. Names with equal normal forms are one
    candidate, in the first of their places. A tie, or two lists that differ, is no ranking. Pure; takes time in
    proportion to the text.
    """
    _, text = split_reasoning(text)
    reader = _RankingReader(among)
    try:
        names = reader.read(text[:MOST_READ].replace("&gt;", ">").replace("&lt;", "<"))
    except NoOrder:
        return {}
    found: dict[str, str] = {}
    for name in names[:MOST_CANDIDATES]:
        known = reader.known(name)
        if known is not None:
            found.setdefault(normalize(known), known)
    return found


class _RankingReader:
    """Finds the candidates that lines, cells and items name."""

    def __init__(self, among: Sequence[str]) -> None:
        self._among = {normalize(name): name for name in among}
        names = sorted((name for pair in self._among.items() for name in pair), key=len, reverse=True)
        self._named = (
            re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names), re.IGNORECASE) if names else None
        )

    def known(self, name: str) -> str | None:
        """Return the candidate that a name stands for; the name itself where all candidates count."""
        plain = normalize(name)
        if self._named is None:
            return name.strip() if plain else None
        return self._among.get(plain)

    def read(self, text: str) -> Sequence[str]:
        reverse = worst_first(text)
        names = self._read_json_or_prose(text, reverse=reverse)
        # A chain of ">" says its order itself.
        if reverse and len(names) > 1 and _CHAIN.search(text):
            raise NoOrder
        return names[::-1] if reverse and not _CHAIN_UP.search(text) else names

    def _read_json_or_prose(self, text: str, *, reverse: bool) -> Sequence[str]:
        try:
            return self._read_json(parse_answer(text))
        except NotJSON:
            pass
        lines = [line for line in text.splitlines()[:MOST_LINES] if line.strip()]
        table = [line for line in lines if line.strip().startswith("|")]
        if len(table) > 2 and (rows := self._read_table(table)):
            if reverse:
                raise NoOrder
            return rows
        if found := self._read_chain(lines) or self._read_lists(lines):
            return found
        if self._among and not reverse and (order := order_of_places(text, self._all, len(self._among))):
            return order
        return self._read_plain(lines)

    # -- JSON and tables ---------------------------------------------------------------------------

    def _read_json(self, value: Any) -> Sequence[str]:
        if isinstance(value, dict):
            lists = [item for item in value.values() if isinstance(item, list)]
            if len(lists) != 1:
                return self._read_ranks(value)
            value = lists[0]
        if not isinstance(value, list):
            return ()
        named = [(_name_of(item), _rank_of(item)) for item in value]
        ranks = [rank for _, rank in named]
        if all(rank is not None for rank in ranks) and named:
            return _by_rank([(rank or 0, name) for name, rank in named])
        return [name for name, _ in named if name]

    def _read_ranks(self, value: Mapping[str, Any]) -> Sequence[str]:
        """Read {"Berlin": 1, "Paris": 2} and {"1": "Berlin", "2": "Paris"}."""
        if value and all(isinstance(rank, int) and not isinstance(rank, bool) for rank in value.values()):
            # Points would be higher for the better ones: ranks are the numbers from 1.
            ranks = sorted(value.values())
            return (
                _by_rank([(rank, name) for name, rank in value.items()])
                if ranks == list(range(1, len(ranks) + 1))
                else ()
            )
        if value and all(key.isdecimal() and isinstance(name, str) for key, name in value.items()):
            return _by_rank([(int(key), name) for key, name in value.items()])
        return ()

    def _read_table(self, lines: Sequence[str]) -> Sequence[str]:
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
        head, body = rows[0], [row for row in rows[1:] if not all(set(cell) <= set(":- ") for cell in row)]
        rank = next((at for at, cell in enumerate(head) if _RANK_KEY.search(cell)), None)
        column = next((at for at, cell in enumerate(head) if _NAME_KEY.search(cell)), None)
        if self._named is not None or column is None:
            columns = [at for at in range(len(head)) if at != rank]
            named = {at: sum(len(row) > at and self._names(row[at]) for row in body) for at in columns}
            fits = [at for at, names in named.items() if names]
            column = max(fits, key=lambda at: (named[at] if self._named else 0, -at), default=None)
        if column is None:
            return ()
        body = [row for row in body if len(row) > column]
        names = [self._item(row[column]) for row in body]
        if rank is None:
            return names
        numbers = [re.search(r"\d{1,4}", row[rank]) for row in body]
        return _by_rank([(int(number[0]), name) for number, name in zip(numbers, names, strict=True) if number])

    def _names(self, cell: str) -> bool:
        return self.known(self._item(cell)) is not None

    # -- lists -------------------------------------------------------------------------------------

    def _read_lists(self, lines: Sequence[str]) -> Sequence[str]:
        lists: list[list[tuple[int, str]]] = []
        for line in lines:
            match = _NUMBERED.match(line)
            if match is None:
                continue
            number = int(match[1])
            if not lists or (number == 1 and lists[-1][-1][0] != 1 and lists[-1][0][0] == 1):
                lists.append([])
            lists[-1].append((number, match[2]))
        found = [self._items(_sort_numbers(one)) for one in lists]
        found = [one for one in found if any(self.known(name) is not None for name in one)]
        if len(found) > 1:
            normal = [[normalize(self.known(name) or "") for name in one if self.known(name)] for one in found]
            if any(one != normal[-1] for one in normal) and not _FINAL.search("\n".join(lines)):
                return found[0] if self._named is None and len(normal[0]) > len(normal[-1]) else ()
        if len(lists) == 1 and len(lists[0]) == 1 and len(set(self._all(lists[0][0][1]))) > 1:
            return ()
        if found:
            return found[-1]
        ordinals = [match for match in map(_ORDINAL.match, lines) if match]
        if len(ordinals) > 1:
            return self._items(_by_rank([(place_of(match), match["item"]) for match in ordinals]))
        bullets = [match[1] for match in map(_BULLET.match, lines) if match]
        return self._items(bullets)

    def _read_chain(self, lines: Sequence[str]) -> Sequence[str]:
        """Read the last line of names with ``>`` between them."""
        for line in reversed(lines):
            upwards = _CHAIN_UP.search(line) is not None
            names = (_CHAIN_UP if upwards else _CHAIN).split(line)
            if len(names) < 2 or line.lstrip().startswith(">"):
                continue
            if upwards and _CHAIN.search(line):
                raise NoOrder
            if any(_TIE.search(f" {name} ") for name in names):
                raise NoOrder
            head = re.split(r"[:：]\s|\bis\s", names[0])[-1]
            items = [self._item(name) for name in (head, *names[1:-1], re.split(r"[.;]\s", names[-1])[0])]
            return items[::-1] if upwards else items
        return ()

    def _read_plain(self, lines: Sequence[str]) -> Sequence[str]:
        if len(lines) == 1:
            head = re.split(r"[:：]\s", lines[0])[-1]
            names = [name for name in _THEN.split(head) if name]
            if any(len(set(self._all(name))) > 1 for name in names) or any(map(DENIES.search, names)):
                return ()
            if len(names) > 1 and all(len(name) <= MOST_NAME for name in names):
                return [self._item(name) for name in names]
            return lines if self._named is not None and self.known(lines[0]) else ()
        return self._items(lines) if all(len(line) <= MOST_NAME and len(line.split()) < 9 for line in lines) else ()

    def _items(self, items: Sequence[str]) -> list[str]:
        """Return the names of list items without the reasons behind them, unless two would become one."""
        if any(_TIE.search(item) for item in items if self._named is not None and len(set(self._all(item))) > 1):
            raise NoOrder
        names = [self._item(item) for item in items]
        if self._named is None and len({normalize(name) for name in names}) < len({normalize(item) for item in items}):
            return list(items)
        return names

    def _all(self, item: str) -> list[str]:
        return [normalize(name) for name in self._named.findall(item)] if self._named is not None else []

    def _item(self, item: str) -> str:
        """Return the name in a list item: a candidate that it begins with, its only candidate, or what comes first."""
        item = item.strip()
        if self.known(item) is not None and self._named is not None:
            return item
        bold = _BOLD.match(item.lstrip("#> "))
        if self._named is None:
            name = bold[1] if bold else _REASON.split(item)[0]
            return name.strip().rstrip(":") or item
        plain = item.strip(" *_`\"'“”„([#>")
        begins = self._named.match(plain)
        if begins:
            return begins[0]
        others = dict.fromkeys(self._all(item))
        return next(iter(others)) if len(others) == 1 else ""


def _name_of(item: Any) -> str:
    if isinstance(item, Mapping):
        texts = [value for value in item.values() if isinstance(value, str)]
        named = next(
            (value for key, value in item.items() if _NAME_KEY.search(str(key)) and isinstance(value, str)), None
        )
        return named or (texts[0] if texts else "")
    return item if isinstance(item, str) else str(item) if isinstance(item, int | float) else ""


def _rank_of(item: Any) -> int | None:
    if not isinstance(item, Mapping):
        return None
    return next((value for key, value in item.items() if _RANK_KEY.search(str(key)) and type(value) is int), None)


def _by_rank(ranked: Sequence[tuple[int, str]]) -> list[str]:
    """Return names by their ranks, the lowest first; raise `NoOrder` for a tie."""
    if len({rank for rank, _ in ranked}) < len(ranked):
        raise NoOrder
    return [name for _, name in sorted(ranked)]


def _sort_numbers(items: Sequence[tuple[int, str]]) -> list[str]:
    """Return the items of a numbered list by their numbers; Markdown's may all be the same, other repetitions tie."""
    numbers = [number for number, _ in items]
    if len(set(numbers)) == 1:
        return [item for _, item in items]
    return _by_rank(items)
