"""How well the ML classifier routes texts that it has not seen."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ops.evaluate.labelled import Labelled
from tasks.contract.errors import BadInput
from tasks.routing.classify.encoder import Encoder
from tasks.routing.classify.examples import ExampleClassifier

#: Steps of the curve from 0 to 1; it also has the classifier's own threshold.
STEPS = 100
#: Texts that are classified one by one for the time of one.
TIMED = 500
#: … after so many that warm the caches up.
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold would give: shares of the texts in scope and out of it (None without any)."""

    threshold: float
    accuracy: float
    oos_recall: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """`accuracy` takes the likeliest label whatever its confidence; `threshold` is the classifier's own."""

    accuracy: float
    oos_recall: float | None
    threshold: float
    accuracy_at_threshold: float
    curve: tuple[Point, ...]
    p50_ms: float
    fit_s: float
    held_out_accuracy: float
    in_scope: int
    out_of_scope: int
    labels: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(train: Sequence[Labelled], test: Sequence[Labelled], encoder: Encoder | None) -> Score:
    """Fit on `train`, without any cache, and classify every text of `test`.

    Raises:
        BadInput: if `train` can't be fitted.
        ConfigError: if the encoder gives no vectors.
    """
    start = time.perf_counter()
    fitted = _fit(train, encoder)
    fit_s = time.perf_counter() - start
    for row in test[:WARM_UP]:
        fitted.judge(row.text)
    times = []
    for row in test[:: -(-len(test) // TIMED)]:
        start = time.perf_counter()
        fitted.judge(row.text)
        times.append(time.perf_counter() - start)
    right, inside, outside = _answers(fitted, test)
    thresholds = sorted({*(step / STEPS for step in range(STEPS + 1)), fitted.threshold})
    own = _point(fitted.threshold, right, inside, outside)
    return Score(
        accuracy=float(right.mean()),
        oos_recall=own.oos_recall,
        threshold=fitted.threshold,
        accuracy_at_threshold=own.accuracy,
        curve=tuple(_point(threshold, right, inside, outside) for threshold in thresholds),
        p50_ms=statistics.median(times) * 1000,
        fit_s=fit_s,
        held_out_accuracy=fitted.held_out_accuracy,
        in_scope=len(inside),
        out_of_scope=len(outside),
        labels=len(fitted.routes),
    )


def cross_validate(rows: Sequence[Labelled], folds: int, encoder: Encoder | None) -> dict[str, Any]:
    """Accuracy on each of `folds` parts, fitted on the others; every label is spread evenly over the parts."""
    rank: defaultdict[str | None, int] = defaultdict(int)
    part = []
    for row in rows:
        part.append(rank[row.label] % folds)
        rank[row.label] += 1
    found = []
    for fold in range(folds):
        held = [row for row, own in zip(rows, part, strict=True) if own == fold and row.label is not None]
        if held:
            fitted = _fit([row for row, own in zip(rows, part, strict=True) if own != fold], encoder)
            found.append(float(_answers(fitted, held)[0].mean()))
    return {"accuracy": found, "accuracy_mean": statistics.fmean(found), "accuracy_sd": statistics.pstdev(found)}


def _fit(train: Sequence[Labelled], encoder: Encoder | None) -> ExampleClassifier:
    examples: defaultdict[str, list[str]] = defaultdict(list)
    for row in train:
        if row.label is not None:
            examples[row.label].append(row.text)
    outside = [row.text for row in train if row.label is None]
    fitted = ExampleClassifier.fit(examples, encoder=encoder, outside=outside)
    if fitted is None:
        raise BadInput("train", "fewer than two labels have a text with a word in it", "give it texts of two labels")
    return fitted


def _answers(fitted: ExampleClassifier, rows: Sequence[Labelled]) -> tuple[Any, Any, Any]:
    """Of the texts in scope whether the likeliest label is right; the confidence in scope, and out of it."""
    right, inside, outside = [], [], []
    for row, guess in zip(rows, fitted.guesses([row.text for row in rows]), strict=True):
        if row.label is None:
            outside.append(guess.confidence)
        else:
            inside.append(guess.confidence)
            right.append(guess.route == row.label)
    return np.array(right, bool), np.array(inside), np.array(outside)


def _point(threshold: float, right: Any, inside: Any, outside: Any) -> Point:
    accuracy = float((right & (inside >= threshold)).mean())
    return Point(threshold, accuracy, float((outside < threshold).mean()) if len(outside) else None)
