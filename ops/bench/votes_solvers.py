"""Four unequal solvers of GSM8K: weights are learned on one half of the questions and scored on the other.

The data (questions, right answers and the four answers to each) are published with the GSM8K paper (Cobbe et al. 2021).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from ops.evaluate.vote_weights import accuracies_of, agreement, learned
from tasks.contract.errors import ConfigError
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.weights import Scale, weights_of


@dataclass(frozen=True, slots=True)
class Solved:
    """The ballots of each question by solver, and the right ballots."""

    votes: Sequence[Mapping[str, str]]
    truths: Sequence[str]

    def part(self, places: Sequence[int]) -> Solved:
        return Solved([self.votes[place] for place in places], [self.truths[place] for place in places])


@dataclass(frozen=True, slots=True)
class Halves:
    """Mean accuracies over halves by method, and how often a method is not below, and above, the best solver."""

    accuracy: Mapping[str, float]
    not_below: Mapping[str, float]
    above: Mapping[str, float]
    halves: int


def read_solvers(path: Path) -> Solved:
    """Read lines of ``{"answer": …, "answers": {solver: …}}``.

    Raises:
        ConfigError: if the file can't be read or has another form.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        votes = [{solver: normalize(answer) for solver, answer in row["answers"].items()} for row in rows]
        return Solved(votes, [normalize(row["answer"]) for row in rows])
    except OSError as error:
        raise ConfigError(f"--data: {path.name} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(f"--data: {path.name} must hold an object with answer and answers in each line") from None


def score(solved: Solved, weights: Mapping[str, float]) -> float:
    """Return the share of questions whose weighted vote is right; ties go by the order of the solvers in the file."""
    scale = Scale(weights)
    right = 0
    for votes, truth in zip(solved.votes, solved.truths, strict=True):
        winner = count(
            [Vote(at, ballot, "", scale.of(solver)) for at, (solver, ballot) in enumerate(votes.items())]
        ).winner
        right += winner is not None and winner.ballot == truth
    return right / len(solved.truths)


def score_halves(solved: Solved, *, splits: int, seed: int) -> Halves:
    """Learn on a random half and score on the other, and the reverse; `splits` times."""
    random = Random(f"{seed} halves")  # noqa: S311 - the same halves in every run
    places = list(range(len(solved.truths)))
    found: dict[str, list[float]] = {}
    for _ in range(splits):
        random.shuffle(places)
        middle = len(places) // 2
        for known, others in ((places[:middle], places[middle:]), (places[middle:], places[:middle])):
            for name, accuracy in _methods(solved.part(known), solved.part(others)).items():
                found.setdefault(name, []).append(accuracy)
    best = found["best solver"]
    pairs = {name: list(zip(found[name], best, strict=True)) for name in found}
    return Halves(
        {name: fmean(accuracies) for name, accuracies in found.items()},
        {name: fmean(method >= one for method, one in pairs[name]) for name in found},
        {name: fmean(method > one for method, one in pairs[name]) for name in found},
        2 * splits,
    )


def _methods(known: Solved, others: Solved) -> dict[str, float]:
    """Return the accuracy of each method of voting on `others`, learned from `known`."""
    rates = accuracies_of(known.votes, known.truths)
    best = max(rates, key=lambda solver: rates[solver])
    return {
        "best solver": score(others, {solver: float(solver == best) for solver in rates}),
        "plain majority": score(others, dict.fromkeys(rates, 1.0)),
        "weights learned": score(others, learned(known.votes, known.truths)),
        "weights of accuracies": score(others, weights_of(rates)),
        "weights of agreement": score(others, weights_of(agreement(known.votes))),
    }
