"""Simulated voters, whose accuracies and correlated errors are calibrated to published accuracies.

Each question has its own chance of a right answer: 0 with probability `never` (a hopeless question, or a wrong key),
else drawn from a Beta distribution. Wrong answers are one of 20, by a Dirichlet distribution for each question: the
smaller its parameter, the more they agree. Four parameters are fitted to four accuracies and to nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RIGHT = "right"
#: Wrong answers that a question has.
WRONG = 20


@dataclass(frozen=True, slots=True)
class Population:
    """Voters of one kind. `published` are the accuracies that the parameters were fitted to, by the voters."""

    about: str
    never: float
    alpha: float
    beta: float
    likeness: float
    published: Mapping[str, float]


POPULATIONS: Mapping[str, Population] = {
    "gpt-3.5": Population(
        "500 real questions, 40 answers of GPT-3.5 each: four measured accuracies",
        never=0.0612, alpha=0.559, beta=0.107, likeness=0.0272,
        published={"one": 0.787, "majority of 5": 0.810, "majority of 40": 0.816, "any of 40": 0.920},
    ),
    # Two figures for four parameters, so `never` is set to 0 and α + β to 2.
    "palm-540b": Population(
        "PaLM-540B on GSM8K (Wang et al. 2023), its greedy accuracy taken for that of one answer: hard questions",
        never=0.0, alpha=1.13, beta=0.87, likeness=0.1,
        published={"one": 0.565, "majority of 40": 0.744},
    ),
}  # fmt: skip


def draw(population: Population, questions: int, n: int, seed: int) -> list[Sequence[str]]:
    """Return the ballots of `n` voters on each question; the same seed gives the same voters."""
    random = np.random.default_rng(seed)
    chance = random.beta(population.alpha, population.beta, questions)
    chance = np.where(random.random(questions) < population.never, 0.0, chance)
    names = np.array([f"wrong {place}" for place in range(WRONG)])
    lies = random.dirichlet(np.full(WRONG, population.likeness), questions)
    found: list[Sequence[str]] = []
    for place in range(questions):
        hits = random.random(n) < chance[place]
        found.append(np.where(hits, RIGHT, random.choice(names, n, p=lies[place])).tolist())
    return found
