"""Regular expressions of producers and operators, matched by RE2: in time linear in the text, whatever the pattern."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

#: Bytes that one compiled pattern and its automaton may take.
MEMORY = 4 * 1024 * 1024


@lru_cache(maxsize=1024)
def compile_regex(pattern: str, *, most: int) -> Any:
    """Compile a pattern of at most `most` characters; it matches what `as_unicode` returns.

    Raises:
        ValueError: with the problem.
    """
    if len(pattern) > most:
        raise ValueError(f"has {len(pattern):,} characters, at most {most:,} are allowed")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no Unicode") from None
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(
            f"is no regular expression of RE2: {reason}; it has no look-around and no references back"
        ) from None


def as_unicode(text: str) -> str:
    """`text` with each half of a surrogate pair replaced: RE2 reads UTF-8, which has none."""
    return text.encode("utf-8", "replace").decode()
