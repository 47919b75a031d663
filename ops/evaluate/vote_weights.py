"""Learn the weight of each model's vote from past votes, with the right answers or without.

The votes of a question map each model to its ballot (`tasks.parallel.votes.ballot`); "" abstains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tasks.parallel.votes.weights import ANSWERS, SUREST, scaled

#: Inverse variance of the normal prior of `learned` for "every vote weighs 1": some hundred questions move it, ten
#: hardly do.
RIDGE = 10.0
#: Most steps of Newton's method, and of expectation maximization; both settle in far fewer.
MOST_STEPS = 200
#: Smaller changes of a weight or a rate count as none.
SETTLED = 1e-7

Votes = Mapping[str, str]


def accuracies_of(votes: Sequence[Votes], truths: Sequence[str]) -> Mapping[str, float]:
    """Return the accuracy of each model, with one right and one wrong answer added: three questions prove little.

    `truths` are the right ballots. Questions on which a model abstained do not count for it.
    """
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for cast, truth in zip(votes, truths, strict=True):
        for model, ballot in cast.items():
            if ballot:
                asked[model] = asked.get(model, 0) + 1
                right[model] = right.get(model, 0) + (ballot == truth)
    return {model: (right[model] + 1) / (asked[model] + 2) for model in _models(votes) if model in asked}


def learned(votes: Sequence[Votes], truths: Sequence[str]) -> Mapping[str, float]:
    """Return the weights under which the right ballots of these questions win most clearly; their mean is 1.

    A conditional logit (McFadden 1974): the chance that a ballot is right is proportional to exp(the weights of its
    voters). Unlike weights from accuracies alone, it detects models that repeat each other's errors, and their
    agreement counts less. Fitted by Newton's method, since the likelihood is concave, with a prior for equal weights
    (`RIDGE`). Questions without a right ballot, or with one ballot only, have no effect.
    """
    models = _models(votes)
    # Only the pattern of agreement matters, not the answers: few patterns recur again and again.
    patterns: Counter[tuple[tuple[int, ...], int]] = Counter()
    for cast, truth in zip(votes, truths, strict=True):
        pattern, ballots = _pattern(cast, models)
        if truth in ballots and len(ballots) > 1:
            patterns[pattern, ballots.index(truth)] += 1
    questions = [
        (np.array([[float(side == ballot) for side in pattern] for ballot in range(max(pattern) + 1)]), right, times)
        for (pattern, right), times in patterns.items()
    ]
    prior = np.ones(len(models))
    weights = prior.copy()
    for _ in range(MOST_STEPS):
        gradient, hessian = -RIDGE * (weights - prior), RIDGE * np.eye(len(models))
        for cast_by, right, times in questions:
            scores = cast_by @ weights
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            mean = chances @ cast_by
            gradient += times * (cast_by[right] - mean)
            hessian += times * ((cast_by.T * chances) @ cast_by - np.outer(mean, mean))
        step = np.linalg.solve(hessian, gradient)
        weights += step
        if np.abs(step).max(initial=0.0) < SETTLED:
            break
    return scaled(dict(zip(models, weights.tolist(), strict=True)))


def agreement(votes: Sequence[Votes], *, answers: int = ANSWERS) -> Mapping[str, float]:
    """Estimate the accuracy of each model from their agreement alone, without right answers.

    Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979, with one rate
    a model, and errors spread evenly over the other `answers`; possibly no ballot is right. The estimate assumes
    independent errors: models that repeat each other's errors look better than they are.
    """
    models = _models(votes)
    patterns = Counter(_pattern(cast, models)[0] for cast in votes)
    asked = [sum(times for pattern, times in patterns.items() if pattern[at] >= 0) for at in range(len(models))]
    rates = [0.7] * len(models)
    for _ in range(MOST_STEPS):
        right = [0.0] * len(models)
        for pattern, times in patterns.items():
            chances = _chances(pattern, rates, answers)
            for at, side in enumerate(pattern):
                if side >= 0:
                    right[at] += times * chances[side]
        found = [
            min(max((hits + 1) / (times + 2), 1 - SUREST), SUREST) for hits, times in zip(right, asked, strict=True)
        ]
        change = max((abs(new - rate) for new, rate in zip(found, rates, strict=True)), default=0.0)
        rates = found
        if change < SETTLED:
            break
    return {model: rate for model, rate, times in zip(models, rates, asked, strict=True) if times}


def _chances(pattern: Sequence[int], rates: Sequence[float], answers: int) -> list[float]:
    """Return the chance of each ballot to be right, by the rates of the models that cast it and of the others."""
    sides = max(pattern, default=-1) + 1
    wrong = max(answers, sides, 2) - 1
    likely = [1.0] * sides
    for side, rate in zip(pattern, rates, strict=True):
        if side >= 0:
            likely[side] *= rate * wrong / (1 - rate)
    # Each answer without a vote has the chance that all votes are wrong.
    total = sum(likely) + wrong + 1 - sides
    return [chance / total for chance in likely]


def _pattern(cast: Votes, models: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
    """Return the ballot number of each model, from 0 in order of appearance (-1: abstained), and the ballots."""
    ballots: list[str] = []
    sides = []
    for model in models:
        ballot = cast.get(model, "")
        if ballot and ballot not in ballots:
            ballots.append(ballot)
        sides.append(ballots.index(ballot) if ballot else -1)
    return tuple(sides), ballots


def _models(votes: Iterable[Votes]) -> list[str]:
    return list(dict.fromkeys(model for cast in votes for model in cast))
