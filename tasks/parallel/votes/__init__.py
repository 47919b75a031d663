"""Votes: ballots, their count, their weights, and the posterior of a lead. Pure; the joins build on it."""

from tasks.parallel.votes.count import Count, count
from tasks.parallel.votes.normalize import normalize

__all__ = ["Count", "count", "normalize"]
