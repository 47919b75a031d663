"""What is said of parts that are missing, and how much of the whole an answer holds."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.parallel.joins.values import Missing

__all__ = ["coverage", "gap", "gaps"]

#: Missing parts that are named under an answer one by one; `details` name all.
MOST_NAMED = 20


def gap(missing: Missing, noun: str = "section") -> str:
    """What stands in an answer for a part that is missing; people count from 1."""
    title = " ".join(missing.title.split())
    named = f" “{title}”" if title else ""
    return f"[{noun} {missing.index + 1}{named} is missing: {missing.reason}]"


def gaps(missing: Sequence[Missing], noun: str = "section") -> str:
    """The missing parts, one a line, "" for none; past `MOST_NAMED` they are only counted."""
    lines = [gap(one, noun) for one in missing[:MOST_NAMED]]
    if len(missing) > MOST_NAMED:
        lines.append(f"[{len(missing) - MOST_NAMED:,} more {noun}s are missing]")
    return "\n".join(lines)


def coverage(held: int, missing: int) -> float:
    """The confidence of an answer that is made of sections: the share of them that it holds."""
    return held / (held + missing) if held + missing else 0.0
