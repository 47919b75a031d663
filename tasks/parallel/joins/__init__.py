"""Make one answer of many parts: a join a module, each a pure function of `Work`."""

from tasks.parallel.joins.concatenate import concatenate
from tasks.parallel.joins.majority import majority
from tasks.parallel.joins.registry import (
    DEFAULT_JOINS,
    GROUP,
    JoinTraits,
    join_named,
    join_options,
    join_traits,
    joiner,
    joins,
)
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
    "GROUP",
    "Join",
    "JoinAnswer",
    "JoinQuestion",
    "JoinQuestions",
    "JoinTraits",
    "Joined",
    "Missing",
    "Piece",
    "Work",
    "check_policy",
    "concatenate",
    "join_named",
    "join_options",
    "join_traits",
    "joiner",
    "joins",
    "majority",
]
