"""Learn from votes that were cast what each model's vote weighs: with the right answers at hand, or without.

A question's votes go from model to ballot (`tasks.votes.reading`); "" abstains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tasks.votes.weights import ANSWERS, SUREST, scaled

__all__ = ["accuracies_of", "agreement", "learned"]

#: How strongly `learned` holds to "every vote weighs 1": as a normal prior whose variance is 1 over it. So strong that
#: some hundred questions move it, and ten hardly do.
RIDGE = 10.0
#: Newton's steps, and those of the expectation, at most; both settle in far fewer.
MOST_STEPS = 200
#: A change below this is none.
SETTLED = 1e-9

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
    Fitted by Newton's method, which is concave here, with a prior for equal weights (`RIDGE`). Questions that nobody
    got right, or that all agree on, say nothing.
    """
    models = _models(votes)
    place = {model: at for at, model in enumerate(models)}
    questions: list[tuple[npt.NDArray[np.float64], int]] = []
    for cast, truth in zip(votes, truths, strict=True):
        ballots = list(dict.fromkeys(ballot for ballot in cast.values() if ballot))
        if truth not in ballots or len(ballots) < 2:
            continue
        who = np.zeros((len(ballots), len(models)))
        for model, ballot in cast.items():
            if ballot:
                who[ballots.index(ballot), place[model]] = 1.0
        questions.append((who, ballots.index(truth)))
    prior = np.ones(len(models))
    weights = prior.copy()
    for _ in range(MOST_STEPS):
        slope, bend = -RIDGE * (weights - prior), RIDGE * np.eye(len(models))
        for who, right in questions:
            scores = who @ weights
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            mean = chances @ who
            slope += who[right] - mean
            bend += (who.T * chances) @ who - np.outer(mean, mean)
        step = np.linalg.solve(bend, slope)
        weights += step
        if np.abs(step).max(initial=0.0) < SETTLED:
            break
    return scaled({model: float(weights[at]) for model, at in place.items()})


def agreement(votes: Sequence[Votes], *, answers: int = ANSWERS) -> Mapping[str, float]:
    """How often each model is right as far as their agreement tells, without a single right answer.

    Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979, with one rate
    a model, and errors even among the other `answers`; that none of the ballots is right is among what is weighed. It
    is as good as its assumption: models that repeat each other's errors look better than they are.
    """
    models = _models(votes)
    asked = {model: sum(1 for cast in votes if cast.get(model)) for model in models}
    rates = {model: 0.7 for model in models if asked[model]}
    for _ in range(MOST_STEPS):
        right = dict.fromkeys(rates, 0.0)
        for cast in votes:
            chances = _chances(cast, rates, answers)
            for model, ballot in cast.items():
                if ballot:
                    right[model] += chances[ballot]
        found = {model: min(max((right[model] + 1) / (asked[model] + 2), 1 - SUREST), SUREST) for model in rates}
        change = max((abs(found[model] - rate) for model, rate in rates.items()), default=0.0)
        rates = found
        if change < SETTLED:
            break
    return rates


def _chances(cast: Votes, rates: Mapping[str, float], answers: int) -> dict[str, float]:
    """The chance of each ballot to be right, by the rates of who cast it and who did not."""
    voters = {model: ballot for model, ballot in cast.items() if ballot}
    ballots = list(dict.fromkeys(voters.values()))
    wrong = max(answers, len(ballots), 2) - 1
    odds = {model: rates[model] * wrong / (1 - rates[model]) for model in voters}
    likely = {
        ballot: float(np.prod([odds[model] for model, said in voters.items() if said == ballot])) for ballot in ballots
    }
    # Each answer that nobody gave has the chance that all are wrong.
    total = sum(likely.values()) + wrong + 1 - len(ballots)
    return {ballot: chance / total for ballot, chance in likely.items()}


def _models(votes: Iterable[Votes]) -> list[str]:
    return list(dict.fromkeys(model for cast in votes for model in cast))
