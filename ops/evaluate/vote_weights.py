"""Learn from votes that were cast what each model's vote weighs: with the right answers at hand, or without.

A question's votes go from model to ballot (`tasks.parallel.votes.ballot`); "" abstains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tasks.parallel.votes.weights import ANSWERS, SUREST, scaled

__all__ = ["accuracies_of", "agreement", "learned"]

#: How strongly `learned` holds to "every vote weighs 1": as a normal prior whose variance is 1 over it. So strong that
#: some hundred questions move it, and ten hardly do.
RIDGE = 10.0
#: Newton's steps, and those of the expectation, at most; both settle in far fewer.
MOST_STEPS = 200
#: A change of a weight or a rate below this is none.
SETTLED = 1e-7

Votes = Mapping[str, str]


def accuracies_of(votes: Sequence[Votes], truths: Sequence[str]) -> Mapping[str, float]:
    """How often each model was right, with one right and one wrong answer added: no one is sure after three questions.

    `truths` are the right ballots. A question on which a model abstained doesn't count for it.
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
    """The weights under which the right ballots of these questions win most clearly; their mean is 1.

    A conditional logit (McFadden 1974): a ballot is right with a chance in proportion to exp(the weights of who cast
    it). Other than weights from accuracies alone it sees who repeats whose errors, and counts their agreement for less.
    Fitted by Newton's method, as the likelihood is concave, with a prior for equal weights (`RIDGE`). Questions that
    nobody got right, or that all agree on, say nothing.
    """
    models = _models(votes)
    # Only who agrees with whom matters, not on what: the same patterns come again and again.
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
        slope, bend = -RIDGE * (weights - prior), RIDGE * np.eye(len(models))
        for who, right, times in questions:
            scores = who @ weights
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            mean = chances @ who
            slope += times * (who[right] - mean)
            bend += times * ((who.T * chances) @ who - np.outer(mean, mean))
        step = np.linalg.solve(bend, slope)
        weights += step
        if np.abs(step).max(initial=0.0) < SETTLED:
            break
    return scaled(dict(zip(models, weights.tolist(), strict=True)))


def agreement(votes: Sequence[Votes], *, answers: int = ANSWERS) -> Mapping[str, float]:
    """How often each model is right as far as their agreement tells, without a single right answer.

    Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979, with one rate
    a model, and errors even among the other `answers`; that none of the ballots is right is among what is weighed. It
    is as good as its assumption: models that repeat each other's errors look better than they are.
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
    """The chance of each side to be right, by the rates of who took it and who did not."""
    sides = max(pattern, default=-1) + 1
    wrong = max(answers, sides, 2) - 1
    likely = [1.0] * sides
    for side, rate in zip(pattern, rates, strict=True):
        if side >= 0:
            likely[side] *= rate * wrong / (1 - rate)
    # Each answer that nobody gave has the chance that all are wrong.
    total = sum(likely) + wrong + 1 - sides
    return [chance / total for chance in likely]


def _pattern(cast: Votes, models: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
    """Which side each model took, counted from 0 in order of appearance (-1: it abstained), and the ballots of them."""
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
