"""The examples of a configuration as they are fitted: without what can't teach anything, and without contradictions."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tasks.contract.errors import ConfigError

#: Characters of one example that are read: examples are short requests, and a pasted document would drown them.
EXAMPLE_CHARACTERS = 2_000
#: Examples that are fitted, spread evenly over the routes: bounds the time of a fit to some minutes.
MAX_EXAMPLES = 30_000
#: Contradictions that an error names; the rest is counted.
NAMED = 5

_WORD = re.compile(r"\w")


def select_examples(examples: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the beginnings of the texts with a word in them, by route, without routes that have none.

    A text that stands twice under one route counts twice. Of more than 30,000 an even selection is kept.
    """
    usable = {route: [text for text in texts if _WORD.search(text)] for route, texts in examples.items()}
    usable = {route: texts for route, texts in usable.items() if texts}
    if sum(map(len, usable.values())) > MAX_EXAMPLES:
        share = max(1, MAX_EXAMPLES // len(usable))
        usable = {route: texts[:: -(-len(texts) // share)] for route, texts in usable.items()}
    return {route: [text[:EXAMPLE_CHARACTERS] for text in texts] for route, texts in usable.items()}


def refuse_contradictions(examples: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError if one text is an example of two routes (case, spaces and Unicode forms apart).

    It names the routes and the places, not the text.
    """
    places: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for route, texts in examples.items():
        for at, text in enumerate(texts):
            if folded := _folded(text):
                places[folded].append((route, at))
    clashes = [own for own in places.values() if len({route for route, _ in own}) > 1]
    if not clashes:
        return
    lines = []
    for own in clashes[:NAMED]:
        named = " and ".join(f"routes.{route}.examples[{at}]" for route, at in own)
        lines.append(f"{named}: the same text under two routes; keep it under the one it belongs to")
    if len(clashes) > NAMED:
        lines.append(f"and {len(clashes) - NAMED} more examples stand under two routes")
    raise ConfigError("\n".join(lines))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
