"""Joins: pure functions of `Work` that make one output of many parts.

The modules are the joins (`majority` also holds `weighted`, `scores` `mean` and `median`, `synthesis` `reduction`) and
what they share: `work` (their values), `registry` (declaration and lookup), `outputs` (distinct, as JSON, refusals),
`similarity`, `question_material` and `verdicts` (questions to a model), `tree` (rounds of questions).
"""

from tasks.parallel.joins.registry import DEFAULT_JOINS, JOINS, JoinOptions, JoinTraits, joiner
from tasks.parallel.joins.work import (
    Join,
    JoinAnswer,
    Joined,
    JoinQuestion,
    JoinQuestions,
    Missing,
    Piece,
    Work,
    check_policy,
)

__all__ = [
    "DEFAULT_JOINS",
    "JOINS",
    "Join",
    "JoinAnswer",
    "JoinOptions",
    "JoinQuestion",
    "JoinQuestions",
    "JoinTraits",
    "Joined",
    "Missing",
    "Piece",
    "Work",
    "check_policy",
    "joiner",
]
