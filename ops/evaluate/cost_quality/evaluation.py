"""Evaluates how well a predictor chooses models, on graded texts that it was not fitted to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ops.evaluate.cost_quality.curve import Curve, cost_curve, oracle_gap, share_curve
from tasks.contract.errors import BadInput
from tasks.routing.quality.choice import calibrate
from tasks.routing.quality.outcomes import Floats, Outcomes, Prices, typical_usd
from tasks.routing.quality.predictor import QualityPredictor

#: Predictions that are timed, one text each.
TIMED = 200
#: Points of a curve in JSON: every percent.
POINTS = 101


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. Accuracies are mean grades on the test file, costs USD a call on it, or None."""

    train_rows: int
    test_rows: int
    accuracy: Mapping[str, float]
    cost_usd: Mapping[str, float] | None
    #: The ends of the curve. Of two models the more accurate in the training file is strong; of more, strong is the
    #: best single one there, and weak the cheapest.
    weak: str
    strong: str
    #: ``share`` of calls to the strong model, or share of the way from the weak one's ``cost`` to the strong one's.
    axis: str
    curve: Curve | None
    #: Accuracy and cost of the choice by predicted quality alone.
    router_accuracy: float
    router_cost_usd: float | None
    oracle_accuracy: float
    recovered_oracle_gap: float | None
    fit_s: float
    p50_ms: float
    #: Setting of the strategy → value, for the requested share.
    calibration: Mapping[str, float] | None = None

    @property
    def best_single(self) -> str:
        """The model that is best on the test file."""
        return max(self.accuracy, key=lambda model: self.accuracy[model])

    @property
    def apgr(self) -> float | None:
        return None if self.curve is None else self.curve.apgr

    def cpt(self, percent: float) -> float | None:
        return None if self.curve is None else self.curve.cpt(percent)

    def points(self, count: int = POINTS) -> list[dict[str, float | None]]:
        """The curve at even steps."""
        if self.curve is None:
            return []
        spent = np.linspace(0, 1, count)
        accuracy = self.curve.accuracy_at(spent)
        gap = self.curve.strong - self.curve.weak
        return [
            {
                "share": round(float(at), 6),
                "accuracy": round(float(found), 6),
                "recovered": round((float(found) - self.curve.weak) / gap, 6) if gap > 0 else None,
            }
            for at, found in zip(spent, accuracy, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "apgr": self.apgr,
            "cpt50": self.cpt(50),
            "cpt80": self.cpt(80),
            "recovered_oracle_gap": self.recovered_oracle_gap,
            "accuracy": self.router_accuracy,
            "cost_usd": self.router_cost_usd,
            "best_single": self.best_single,
            "best_single_accuracy": self.accuracy[self.best_single],
            "oracle_accuracy": self.oracle_accuracy,
            "weak": self.weak,
            "strong": self.strong,
            "models": {
                model: {"accuracy": accuracy, "cost_usd": None if self.cost_usd is None else self.cost_usd[model]}
                for model, accuracy in self.accuracy.items()
            },
            "axis": self.axis,
            "curve": self.points(),
            "calibration": None if self.calibration is None else dict(self.calibration),
            "train_rows": self.train_rows,
            "test_rows": self.test_rows,
            "fit_s": self.fit_s,
            "p50_ms": self.p50_ms,
        }


def evaluate(
    train: Outcomes, test: Outcomes, *, share: float | None = None, prices: Prices | None = None
) -> Evaluation:
    """Fit to `train` and choose models for `test`.

    With `share` the settings of the strategy are calibrated on the predictions for `test`, so that at most that share
    of its calls costs more than the cheapest model: by the cost of a typical call where `prices` are given, as the
    strategy computes it, else by the mean cost on `test`.

    Raises:
        ConfigError: if the files have not the same models, or `train` is too small.
        BadInput: if a `share` is requested and neither file has costs.
    """
    test = test.of_models(train.models)
    started = time.perf_counter()
    predictor = QualityPredictor.fit(train)
    fit_s = time.perf_counter() - started
    predicted = predictor.predict_all(test.prompts)
    weak, strong = _ends(train)
    curve: Curve | None = None
    axis = "share" if len(train.models) == 2 else "cost"
    if axis == "share":
        advantage = predicted[:, strong] - predicted[:, weak]
        curve = share_curve(advantage, test.correct[:, weak], test.correct[:, strong])
    elif test.costs is not None:
        curve = cost_curve(predicted, test.correct, test.costs, weak=weak, strong=strong)
    rows, chosen = np.arange(len(predicted)), predicted.argmax(axis=1)
    grades = test.correct[rows, chosen]
    means = None if test.costs is None else test.costs.mean(axis=0)
    return Evaluation(
        train_rows=len(train.prompts),
        test_rows=len(test.prompts),
        accuracy=_by_model(test, test.correct.mean(axis=0)),
        cost_usd=None if means is None else _by_model(test, means),
        weak=train.models[weak],
        strong=train.models[strong],
        axis=axis,
        curve=curve,
        router_accuracy=float(grades.mean()),
        router_cost_usd=None if test.costs is None else float(test.costs[rows, chosen].mean()),
        oracle_accuracy=float(test.correct.max(axis=1).mean()),
        recovered_oracle_gap=oracle_gap(grades, test.correct),
        fit_s=fit_s,
        p50_ms=_p50_ms(predictor, test),
        calibration=None if share is None else _calibrated(predicted, _typical(test.models, prices, means), share),
    )


def _ends(train: Outcomes) -> tuple[int, int]:
    accuracy = train.correct.mean(axis=0)
    strong = int(accuracy.argmax())
    if len(train.models) == 2 or train.costs is None:
        return int(accuracy.argmin()), strong
    # Of those that cost the same the more accurate one.
    return int(np.lexsort((-accuracy, train.costs.mean(axis=0)))[0]), strong


def _typical(models: Sequence[str], prices: Prices | None, means: Floats | None) -> Floats | None:
    if prices is None or any(model not in prices for model in models):
        return means
    return np.array([typical_usd(*prices[model]) for model in models])


def _calibrated(predicted: Floats, costs: Floats | None, share: float) -> dict[str, float]:
    if costs is None:
        raise BadInput("share", "without costs no model is the cheaper one", "give prices")
    found = {"share": share, "threshold": calibrate(predicted, costs, rule="threshold", share=share)}
    if np.ptp(costs) > 0:
        found["tradeoff"] = calibrate(predicted, costs, rule="tradeoff", share=share)
    return found


def _by_model(test: Outcomes, values: Floats) -> dict[str, float]:
    return dict(zip(test.models, map(float, values), strict=True))


def _p50_ms(predictor: QualityPredictor, test: Outcomes) -> float:
    taken = []
    for text in test.prompts[:TIMED]:
        started = time.perf_counter()
        predictor.predict(text)
        taken.append(time.perf_counter() - started)
    return 1000 * median(taken)
