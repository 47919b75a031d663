"""Make one answer of many parts: a join a module, each a pure function of `Work`."""

from tasks.parallel.joins.concatenate import concatenate
from tasks.parallel.joins.declare import Traits, joiner, traits_of
from tasks.parallel.joins.majority import majority
from tasks.parallel.joins.policy import check_policy
from tasks.parallel.joins.registry import DEFAULT_JOINS, GROUP, join_named, join_options, joins
from tasks.parallel.joins.values import Answer, Ask, Join, Joined, Missing, Piece, Question, Work

__all__ = [
    "DEFAULT_JOINS",
    "GROUP",
    "Answer",
    "Ask",
    "Join",
    "Joined",
    "Missing",
    "Piece",
    "Question",
    "Traits",
    "Work",
    "check_policy",
    "concatenate",
    "join_named",
    "join_options",
    "joiner",
    "joins",
    "majority",
    "traits_of",
]
