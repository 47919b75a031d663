"""Votes: ballots, how they are counted, and when enough are in. Pure.

`tasks.parallel.early_stop` knows the joins and is imported by its own name: joins stand on what is here.
"""

from tasks.parallel.votes.count import Count, count
from tasks.parallel.votes.normalize import normalize

__all__ = ["Count", "count", "normalize"]
