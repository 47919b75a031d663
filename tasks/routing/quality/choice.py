"""Chooses the cheapest model that is good enough, and calibrates the setting that says so.

Two ways to say "good enough", as in the options of the strategy `cost_quality`:

``threshold``
    the least probability of a good answer: the cheapest model that reaches it is taken, the best where none does;
``tradeoff``
    USD that a call may cost more for 1.0 more probability: the most ``quality - cost / tradeoff`` is taken. Between two
    models the dear one is taken where its advantage is at least ``(dear - cheap) / tradeoff``. That compares the models
    with each other, and so gets more out of each dear call than a threshold does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.contract.errors import BadInput

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.intp]"
Rule: TypeAlias = Literal["threshold", "tradeoff"]

#: Values that `calibrate` tries for a required quality.
STEPS = 400


def choose_by_quality(
    quality: Mapping[str, float],
    costs: Mapping[str, float],
    *,
    threshold: float | None = None,
    tradeoff: float | None = None,
) -> str:
    """The model that is taken. `quality` are probabilities, `costs` USD of a call (no cost counts as 0).

    Equals go to the cheaper one, then to the better one, then to the first. Raising the threshold or the tradeoff never
    makes the choice worse by prediction, and lowering it never makes it dearer.

    Raises:
        BadInput: if not exactly one of `threshold` and `tradeoff` is given, or there is nothing to choose from.
    """
    if not quality:
        raise BadInput("quality", "has no model", "predict at least one")
    models = list(quality)
    predicted = np.array([[quality[model] for model in models]])
    prices = np.array([costs.get(model, 0.0) for model in models])
    return models[int(choose_all(predicted, prices, threshold=threshold, tradeoff=tradeoff)[0])]


def choose_all(
    predicted: Floats, costs: Floats, *, threshold: float | None = None, tradeoff: float | None = None
) -> Ints:
    """The same for many texts, as column numbers.

    `predicted` is texts × models, `costs` of the same shape or one number a model.
    """
    if (threshold is None) == (tradeoff is None):
        raise BadInput("threshold", "give either threshold or tradeoff", "leave one of them out")
    if tradeoff is not None and not tradeoff > 0:
        raise BadInput("tradeoff", "must be above 0: USD for 1.0 more probability")
    costs = np.broadcast_to(costs, predicted.shape)
    if threshold is not None:
        good = predicted >= threshold
        none = ~good.any(axis=1, keepdims=True)
        # Of the good ones the cheapest, where there is none the best.
        first = np.where(none, -predicted, np.where(good, costs, np.inf))
        return _least(first, costs, -predicted)
    assert tradeoff is not None
    return _least(costs / tradeoff - predicted, costs, -predicted)


def _least(*keys: Floats) -> Ints:
    """The column with the least first key, among equals the least second, and so on."""
    able = np.ones(keys[0].shape, np.bool_)
    for key in keys:
        left = np.where(able, key, np.inf)
        able &= left == left.min(axis=1, keepdims=True)
    found: Ints = able.argmax(axis=1)
    return found


def calibrate(
    predicted: Floats, costs: Floats, *, rule: Rule, share: float | None = None, quality: float | None = None
) -> float:
    """Find the threshold or tradeoff that keeps to a share or reaches a quality on texts like the `predicted` ones.

    `share`: at most that share of the calls goes to a model that costs more than the cheapest, and as many as it allows
    (as RouteLLM's ``calibrate_threshold``). `quality`: the least value whose choices are predicted to be right that
    often on average; the mean prediction of a fitted predictor is close to the truth. `costs` are USD, one a model.

    Raises:
        BadInput: if not exactly one of the two is given, the share is out of range, no setting reaches the quality,
            or, for a tradeoff, the models cost the same.
    """
    if (share is None) == (quality is None):
        raise BadInput("share", "give either share or quality", "leave one of them out")
    if rule == "tradeoff" and not np.ptp(costs) > 0:
        raise BadInput("costs", "all models cost the same", "calibrate a threshold, or give prices")
    critical = _critical(predicted, costs, rule)
    if share is not None:
        return _for_share(critical, share, rule)
    assert quality is not None
    tried = _tried(predicted, costs, critical, rule)
    rows = np.arange(len(predicted))
    for value in tried:
        if predicted[rows, _chosen(predicted, costs, rule, value)].mean() >= quality:
            return value
    most = predicted.max(axis=1).mean()
    raise BadInput("quality", f"{quality:.3f} is not reached", f"the best of all models has {most:.3f}")


def _critical(predicted: Floats, costs: Floats, rule: Rule) -> Floats:
    """For each text the setting up to which it goes to a cheapest model; infinite where it always does."""
    cheapest = costs == costs.min()
    base = predicted[:, cheapest].max(axis=1)
    if rule == "threshold":
        return np.where(predicted.max(axis=1) > base, base, np.inf)
    gain = predicted[:, ~cheapest] - base[:, None]
    more = np.broadcast_to(costs[~cheapest] - costs.min(), gain.shape)
    needed = np.where(gain > 0, more / np.where(gain > 0, gain, 1.0), np.inf)
    least: Floats = needed.min(axis=1)
    return least


def _for_share(critical: Floats, share: float, rule: Rule) -> float:
    if not 0 <= share <= 1:
        raise BadInput("share", "must be from 0 to 1")
    ordered = np.sort(critical)
    allowed = int(np.floor(share * len(ordered) + 1e-9))
    # The first text that must stay with the cheapest model sets the bound; where none must, all may leave.
    if allowed < len(ordered) and np.isfinite(ordered[allowed]):
        bound = float(ordered[allowed])
        # At the very bound of a tradeoff two models are worth the same, and rounding would choose.
        return bound if rule == "threshold" else bound * (1 - 1e-9)
    if rule == "threshold":
        return 1.0
    finite = ordered[np.isfinite(ordered)]
    return float(finite[-1] * 2) if len(finite) and finite[-1] > 0 else 1.0


def _tried(predicted: Floats, costs: Floats, critical: Floats, rule: Rule) -> list[float]:
    if rule == "threshold":
        found = np.quantile(predicted, np.linspace(0, 1, STEPS))
        return [0.0, *map(float, np.unique(found)), 1.0]
    finite = critical[np.isfinite(critical) & (critical > 0)]
    spread = float(np.ptp(costs))
    low = min([*finite, spread]) / 2
    # At the highest a difference of one in a million is worth the dearest call.
    return [float(value) for value in np.geomspace(low, spread * 1e6, STEPS)]


def _chosen(predicted: Floats, costs: Floats, rule: Rule, value: float) -> Ints:
    if rule == "threshold":
        return choose_all(predicted, costs, threshold=value)
    return choose_all(predicted, costs, tradeoff=value)
