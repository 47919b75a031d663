"""Savings and losses of early stop, and the value of weights, measured on votes over known answers.

No model is asked. Exact stop is compared with the computed optimum over every vote of five; confidence with whole votes
of 40 simulated voters; weights with the best of four solvers of GSM8K, on other questions than those they were learned
from. --calls are the simulated questions, --rounds the random halves, --level the most votes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Size
from ops.bench.votes_exact import WRONG, AskedVotes, expected, least_calls, published, run_vote, winner_of
from ops.bench.votes_solvers import read_solvers, score_halves
from ops.bench.votes_voters import POPULATIONS, RIGHT, draw
from tasks.parallel.early_stop import StopRule
from tasks.parallel.votes.posterior import enough_votes

FULL = Size(calls=20_000, rounds=200, levels=(40,))
QUICK = Size(calls=300, rounds=2, levels=(40,))
#: The answers of the solvers, beside the checkout; without them the measurement of weights is skipped.
DATA = Path("../shared/data/votes/gsm8k_solvers.jsonl")
#: Accuracies of the voters for the exact stop.
RATES = (0.56, 0.79, 0.95)
#: Votes of the exact stop.
EXACT_VOTES = 5
SEED = 40


async def measure(size: Size, *, data: Path = DATA) -> Report:
    """Measure with `calls` simulated questions, `rounds` random halves, and `levels` votes at most.

    Raises:
        ConfigError: if `data` is not the default file and can't be read.
    """
    (n,) = size.levels
    figures, exact = _exact()
    populations = {name: draw(kind, size.calls, n, SEED) for name, kind in POPULATIONS.items()}
    rules = _rules(n)
    votes = {name: {rule: _played(rules[rule], questions) for rule in rules} for name, questions in populations.items()}
    simulated = {name: _summary(votes[name], questions) for name, questions in populations.items()}
    figures += _confidence(simulated["gpt-3.5"], n)
    details: dict[str, Any] = {
        "exact": exact,
        "simulated": simulated,
        "calibration": {name: _calibration(name, questions) for name, questions in populations.items()},
    }
    if data != DATA or data.exists():  # noqa: ASYNC240 - nothing else runs on this loop
        halves = score_halves(read_solvers(data), splits=size.rounds, seed=SEED)
        details["solvers"] = asdict(halves)
        figures += _weights(halves.accuracy)
    return Report(
        "votes",
        f"Votes: {EXACT_VOTES} with exact stop, {n} with confidence, four with weights; CPU of a rule for one ballot",
        {"questions": size.calls, "halves": 2 * size.rounds, "votes": n, "seed": SEED},
        dict.fromkeys(rules, "gpt-3.5, simulated"),
        {name: [_round(*one)] for name, one in votes["gpt-3.5"].items()},
        figures,
        details,
    )


def _rules(n: int) -> dict[str, StopRule | None]:
    return {
        "whole vote": None,
        "exact": StopRule(exact=True),
        "confidence 0.95": StopRule(exact=True, enough=enough_votes(n, 0.95)),
        "confidence 0.99": StopRule(exact=True, enough=enough_votes(n, 0.99)),
        "published 0.95": StopRule(exact=True, enough=published(n, 0.95)),
        "published 0.99": StopRule(exact=True, enough=published(n, 0.99)),
    }


def _exact() -> tuple[list[Figure], list[dict[str, Any]]]:
    """Compare our rule with the optimum, for each accuracy and each kind of error."""
    table: list[dict[str, Any]] = []
    for rate in RATES:
        for wrong in WRONG:
            ours, least = expected(EXACT_VOTES, rate, wrong), least_calls(EXACT_VOTES, rate, wrong)
            table.append({
                "right": rate, "wrong": wrong, "calls": ours.calls, "optimum": least, "waves": ours.waves,
                "differing": ours.differing,
            })  # fmt: skip
    # The last digits of a sum depend on its order.
    over = [round(100 * (row["calls"] / row["optimum"] - 1), 9) for row in table]
    return [
        Figure("exact stop: calls over the computed optimum", max(over), unit="%", must=2, goal=0, higher=False),
        Figure(
            "exact stop: votes whose answer differs from the whole vote's", sum(row["differing"] for row in table),
            unit="votes", must=0, goal=0, higher=False,
        ),
    ], table  # fmt: skip


def _confidence(found: Mapping[str, Mapping[str, float]], n: int) -> list[Figure]:
    sure, whole = found["confidence 0.95"], found["whole vote"]
    return [
        Figure("confidence 0.95: fewer calls", 100 * (1 - sure["calls"] / n), unit="%", must=80, goal=84),
        Figure(
            "confidence 0.95: points lost", 100 * (whole["accuracy"] - sure["accuracy"]),
            unit="points", must=0.3, higher=False,
        ),
    ]  # fmt: skip


def _weights(accuracy: Mapping[str, float]) -> list[Figure]:
    over = {name: 100 * (share - accuracy["best solver"]) for name, share in accuracy.items()}
    return [
        Figure(
            "weights learned: points above the best solver", over["weights learned"], unit="points", must=0, goal=0.1
        ),
        Figure("plain majority: points above the best solver", over["plain majority"], unit="points"),
    ]


def _played(stopping: StopRule | None, questions: Sequence[Sequence[str]]) -> tuple[list[AskedVotes], float, float]:
    """Run the vote of each question; return the votes, the wall time and the CPU time in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    votes = [run_vote(stopping, ballots) for ballots in questions]
    return votes, time.perf_counter() - wall, time.process_time() - cpu


def _round(votes: Sequence[AskedVotes], wall: float, cpu: float) -> Round:
    ballots = sum(vote.calls for vote in votes)
    return Round(ballots, ballots, wall, {"rule and count": 1000 * cpu / ballots})


def _summary(
    votes: Mapping[str, tuple[list[AskedVotes], float, float]], questions: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return mean calls and waves, accuracy, and the share of answers equal to those of the whole vote, by rule."""
    whole = [vote.winner for vote in votes["whole vote"][0]]
    count = len(questions)
    return {
        rule: {
            "calls": sum(vote.calls for vote in found) / count,
            "waves": sum(vote.waves for vote in found) / count,
            "accuracy": sum(vote.winner == RIGHT for vote in found) / count,
            "same answer": sum(vote.winner == winner for vote, winner in zip(found, whole, strict=True)) / count,
        }
        for rule, (found, _, _) in votes.items()
    }


def _calibration(name: str, questions: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return the accuracies of the simulated voters beside the published ones that they were fitted to."""
    count = len(questions)
    found = {
        "one": sum(ballots[0] == RIGHT for ballots in questions) / count,
        "majority of 5": sum(winner_of(ballots[:5]) == RIGHT for ballots in questions) / count,
        "majority of 40": sum(winner_of(ballots[:40]) == RIGHT for ballots in questions) / count,
        "any of 40": sum(RIGHT in ballots[:40] for ballots in questions) / count,
    }
    wanted = POPULATIONS[name].published
    return {name: {"simulated": found[name], "published": wanted[name]} for name in wanted}
