"""Compares the predictor of quality with ridge regression and nearest neighbours over TF-IDF, on the same folds.

    python -m ops.bench.cost_quality ../shared/data/outcomes/mmlu.csv --seeds 3

Five folds for each seed. Of two models the figure is APGR, of more the recovered share of the oracle's gap. The
interval is a paired bootstrap over questions, within their folds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ops.evaluate.cost_quality.curve import Curve, oracle_gap, share_curve
from tasks.contract.errors import PointsmanError
from tasks.routing.quality.outcomes import Floats, Outcomes, read_outcomes
from tasks.routing.quality.predictor import QualityPredictor

#: Name of a contestant → its predictions for the texts of a fold.
Predictions: TypeAlias = dict[str, "Floats"]

OURS = "ours"
FOLDS = 5
#: Resamples of the bootstrap.
RESAMPLES = 1_000
#: Settings of the peers; each is a contestant, so the best setting counts in hindsight.
PENALTIES = (1.0, 3.0, 10.0, 30.0)
NEIGHBOURS = (50, 100, 200)


@dataclass(frozen=True)
class PeerComparison:
    """The figure of each contestant in each fold, and the difference of ours to the best peer."""

    figure: str
    folds: Mapping[str, Sequence[float]]
    peer: str
    difference: float
    #: The 95 % interval of the difference.
    interval: tuple[float, float]
    #: Of ours and of the peer with two models: the share of the gap that is recovered at each percent of calls to the
    #: strong one, mean over the folds.
    curves: Mapping[str, Sequence[float]]

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "contestants": {
                name: {"mean": fmean(values), "spread": pstdev(values), "folds": list(values)}
                for name, values in self.folds.items()
            },
            "peer": self.peer,
            "difference": self.difference,
            "interval": list(self.interval),
            "curves": {name: list(values) for name, values in self.curves.items()},
        }

    def lines(self) -> list[str]:
        """Format mean ± standard deviation over the folds."""
        width = max(map(len, self.folds))
        low, high = self.interval
        return [
            f"{self.figure}, mean ± deviation over {len(self.folds[OURS])} folds",
            "",
            *(f"  {name:<{width}}  {fmean(values):.3f} ± {pstdev(values):.3f}" for name, values in self.folds.items()),
            "",
            f"ours over {self.peer}: {self.difference:+.4f}, 95 % from {low:+.4f} to {high:+.4f}",
        ]


def compare(outcomes: Outcomes, *, seeds: int, report: Callable[[str], None] = lambda _: None) -> PeerComparison:
    """Five folds for each seed; every contestant sees the same."""
    found: dict[str, list[float]] = {}
    kept: list[tuple[Predictions, Floats]] = []
    for number, (train, test) in enumerate(_folds(outcomes, seeds), 1):
        outcome = _predict_by_peers(train, test.prompts) | {OURS: QualityPredictor.fit(train).predict_all(test.prompts)}
        for name, predicted in outcome.items():
            found.setdefault(name, []).append(_figure(predicted, test.correct))
        kept.append((outcome, test.correct))
        report(f"fold {number} of {FOLDS * seeds}: ours {found[OURS][-1]:.3f}")
    peers = [name for name in found if name.startswith("TF-IDF")]
    peer = max(peers, key=lambda name: fmean(found[name]))
    differences = _bootstrap([(outcome[OURS], outcome[peer], correct) for outcome, correct in kept])
    low, high = np.quantile(differences, [0.025, 0.975])
    return PeerComparison(
        figure="APGR" if len(outcomes.models) == 2 else "recovered oracle gap",
        folds=found,
        peer=peer,
        difference=fmean(found[OURS]) - fmean(found[peer]),
        interval=(float(low), float(high)),
        curves=_curves(kept, (OURS, peer)) if len(outcomes.models) == 2 else {},
    )


def _folds(outcomes: Outcomes, seeds: int) -> Iterator[tuple[Outcomes, Outcomes]]:
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(outcomes.prompts))
        for fold in range(FOLDS):
            test = np.sort(order[fold::FOLDS])
            yield _rows(outcomes, np.setdiff1d(order, test)), _rows(outcomes, test)


def _rows(outcomes: Outcomes, rows: NDArray[np.intp]) -> Outcomes:
    prompts = tuple(outcomes.prompts[row] for row in rows)
    return Outcomes(outcomes.source, prompts, outcomes.models, outcomes.correct[rows])


def _figure(predicted: Floats, correct: Floats) -> float:
    """APGR of two models, the recovered gap of more; 0 where a sample leaves no gap."""
    if correct.shape[1] == 2:
        return _curve(predicted, correct).apgr or 0.0
    chosen = correct[np.arange(len(correct)), predicted.argmax(axis=1)]
    return oracle_gap(chosen, correct) or 0.0


def _curve(predicted: Floats, correct: Floats) -> Curve:
    strong = int(correct.mean(axis=0).argmax())
    weak = 1 - strong
    return share_curve(predicted[:, strong] - predicted[:, weak], correct[:, weak], correct[:, strong])


def _curves(folds: Sequence[tuple[Predictions, Floats]], names: Sequence[str]) -> dict[str, list[float]]:
    shares = np.linspace(0, 1, 101)
    found: dict[str, list[float]] = {}
    for name in names:
        recovered = []
        for outcome, correct in folds:
            curve = _curve(outcome[name], correct)
            recovered.append((curve.accuracy_at(shares) - curve.weak) / (curve.strong - curve.weak or np.nan))
        found[name] = [float(value) for value in np.nanmean(recovered, axis=0)]
    return found


def _bootstrap(folds: Sequence[tuple[Floats, Floats, Floats]]) -> Floats:
    chance = np.random.default_rng(0)
    found = np.zeros(RESAMPLES)
    for at in range(RESAMPLES):
        differences = []
        for ours, peer, correct in folds:
            drawn = chance.integers(len(correct), size=len(correct))
            differences.append(_figure(ours[drawn], correct[drawn]) - _figure(peer[drawn], correct[drawn]))
        found[at] = fmean(differences)
    return found


def _predict_by_peers(train: Outcomes, prompts: Sequence[str]) -> Predictions:
    """scikit-learn's, over words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge as Peer
    from sklearn.neighbors import NearestNeighbors

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    known = vectorizer.fit_transform(train.prompts)
    asked = vectorizer.transform(prompts)
    outcome: Predictions = {}
    for penalty in PENALTIES:
        outcome[f"TF-IDF, ridge {penalty:g}"] = Peer(alpha=penalty).fit(known, train.correct).predict(asked)
    nearest = NearestNeighbors(metric="cosine", algorithm="brute").fit(known)
    order = nearest.kneighbors(asked, n_neighbors=min(max(NEIGHBOURS), len(train.prompts)), return_distance=False)
    for count in NEIGHBOURS:
        outcome[f"TF-IDF, {count} neighbours"] = train.correct[order[:, :count]].mean(axis=1)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.cost_quality", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="graded answers, as for eval cost-quality")
    parser.add_argument("--seeds", type=int, default=3, help="five folds for each (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--plot", type=Path, help="draw the curves of files with two models (.png or .svg)")
    options = parser.parse_args(arguments)
    found: dict[str, PeerComparison] = {}
    try:
        for file in options.files:
            found[file.name] = compare(
                read_outcomes(file),
                seeds=max(1, options.seeds),
                report=lambda line: print(line, file=sys.stderr),
            )
    except PointsmanError as error:
        print(f"cost_quality: {error}", file=sys.stderr)
        return 1
    if options.plot is not None:
        from ops.evaluate.plots import draw_peers

        draw_peers({name: finding.curves for name, finding in found.items()}, options.plot)
    if options.json:
        print(json.dumps({name: finding.as_json() for name, finding in found.items()}, indent=2))
    else:
        print("\n\n".join("\n".join([name, *finding.lines()]) for name, finding in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
