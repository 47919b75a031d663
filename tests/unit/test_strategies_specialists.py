"""Strategies that choose a model for what it is good at, unless it is closed, failing or slow."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput, ConfigError
from tasks.contract.job import Job
from tasks.loading.load import parse
from tasks.routing.options import read_options
from tasks.routing.snapshot import ModelLoad, Snapshot, Traits
from tasks.routing.strategies import contextual, cost_quality, profile
from tasks.workflows.check_job import check_job
from tests.snapshots import chosen, idle, names, request

METRICS = ("speed", "accuracy", "creativity", "ethics", "cost")
#: The field's example: what each is good at.
TEXTBOOK = {
    "gpt-4": {"speed": 50, "accuracy": 90, "creativity": 95, "ethics": 85},
    "gemini": {"speed": 40, "accuracy": 95, "creativity": 85, "ethics": 80},
    "claude": {"speed": 60, "accuracy": 85, "creativity": 80, "ethics": 95},
}
SCORES = st.fixed_dictionaries(dict.fromkeys(METRICS, st.floats(0, 100)))
FLEETS = st.lists(SCORES, min_size=2, max_size=5)


def traits_of(fleet):
    return {model: Traits(scores=scores) for model, scores in zip(names(len(fleet)), fleet, strict=True)}


def first(strategy, asked, snapshot):
    return strategy(asked, tuple(snapshot.models), snapshot).preferences[0].model


def busy(load, **figures):
    return replace(ModelLoad(capacity=4, singles=load), **figures)


# -- profiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "model"), [("accuracy", "gemini"), ("creativity", "gpt-4"), ("ethics", "claude"), ("speed", "claude")]
)
@pytest.mark.parametrize("by", ["job", "route"])
def test_textbook_s_priorities_choose_their_models(metric, model, by):
    traits = {name: Traits(scores=scores) for name, scores in TEXTBOOK.items()}
    options = read_options("profile", {"priority": metric}) if by == "route" else None
    asked = request(traits=traits, options=options, priority_metric=metric if by == "job" else None)
    ranking = profile(asked, tuple(TEXTBOOK), Snapshot(1, {name: ModelLoad(capacity=1) for name in TEXTBOOK}))
    assert ranking.preferences[0].model == model
    assert ranking.reason == f"the best in {metric}: {model} with {TEXTBOOK[model][metric]} of 100"


@given(fleet=FLEETS, metric=st.sampled_from(METRICS), loads=st.lists(st.integers(0, 8), min_size=5, max_size=5))
def test_best_in_what_counts_is_chosen_however_much_it_has_to_do(fleet, metric, loads):
    second, first = sorted(scores[metric] for scores in fleet)[-2:]
    assume(first > second + 0.01)
    models = dict(zip(names(len(fleet)), map(busy, loads), strict=False))
    asked = request(traits=traits_of(fleet), priority_metric=metric)
    best = max(range(len(fleet)), key=lambda place: fleet[place][metric])
    assert chosen(profile, asked, Snapshot(3, models)) == f"m{best}"


@given(fleet=FLEETS, weights=st.dictionaries(st.sampled_from(METRICS), st.floats(0.01, 100), min_size=1))
def test_several_metrics_count_by_their_weights(fleet, weights):
    def worth(scores):
        return sum(scores[metric] * weight for metric, weight in weights.items()) / sum(weights.values())

    asked = request(traits=traits_of(fleet), options=read_options("profile", {"weights": weights}))
    taken = first(profile, asked, Snapshot(1, idle(len(fleet))))
    assert worth(fleet[int(taken[1:])]) == pytest.approx(max(map(worth, fleet)), abs=1e-5)


@given(fleet=FLEETS, metric=st.sampled_from(METRICS))
def test_job_s_priority_goes_before_the_route_s(fleet, metric):
    asked = request(traits=traits_of(fleet), priority_metric=metric)
    routed = replace(asked, options=read_options("profile", {"priority": "speed"}))
    snapshot = Snapshot(1, idle(len(fleet)))
    assert profile(asked, tuple(snapshot.models), snapshot) == profile(routed, tuple(snapshot.models), snapshot)


@given(better=st.floats(0, 50))
def test_model_that_gets_better_is_never_preferred_less(better):
    snapshot = Snapshot(1, idle(3))

    def place(score):
        asked = request(traits=traits_of([{"accuracy": score}, {"accuracy": 40}, {"accuracy": 60}]))
        return [preference.model for preference in profile(asked, names(3), snapshot).preferences].index("m0")

    assert place(30 + better) <= place(30)


def test_equal_scores_go_to_the_less_loaded_and_equals_take_turns():
    asked = request(traits=traits_of([{"accuracy": 90}] * 3))
    uneven = Snapshot(1, {"m0": busy(3), "m1": busy(1), "m2": busy(2)})
    assert chosen(profile, asked, uneven) == "m1"
    taken = Counter(chosen(profile, asked, Snapshot(turn, idle(3))) for turn in range(30))
    assert taken == {"m0": 10, "m1": 10, "m2": 10}


def test_model_without_the_score_comes_last():
    asked = request(traits={"m0": Traits(scores={}), "m1": Traits(scores={"accuracy": 1})})
    assert first(profile, asked, Snapshot(1, idle(2))) == "m1"


PROFILES = """\
models:
  a: {provider: simulated, profile: {accuracy: 90}}
  b: {provider: simulated, profile: {accuracy: 80, creativity: 70}}
routes:
  r: {models: [a, b], strategy: profile%s}
default_route: r
"""


def test_priority_metric_that_a_model_lacks_is_refused_with_the_remedy():
    config = parse(PROFILES % "")
    check_job(Job(text="x", priority_metric="accuracy"), config)
    # Where no score says it, a model's price does.
    check_job(Job(text="x", priority_metric="cost"), config)
    with pytest.raises(BadInput) as caught:
        check_job(Job(text="x", priority_metric="creativity"), config)
    assert str(caught.value).startswith("priority_metric: model 'a' has no creativity in its profile")
    assert "write models.a.profile.creativity, or measure it: pointsman profile" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{priority: beauty}", "input should be 'speed', 'accuracy'"),
        ("{weights: {beauty: 1}}", "input should be 'speed', 'accuracy'"),
        ("{weights: {accuracy: 0}}", "weights must be above 0"),
        ("{weights: {accuracy: -1}}", "weights must be above 0"),
        ("{priority: accuracy, weights: {accuracy: 1}}", "priority and weights exclude each other"),
        ("{failing: 0}", "greater than 0"),
        ("{slow_s: -1}", "greater than 0"),
        ("{overflow: perhaps}", "boolean"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_the_configuration(options, message):
    with pytest.raises(ConfigError, match=rf"(?i)routes\.r\.options.*: .*{message}"):
        parse(PROFILES % f", options: {options}")


# -- context -----------------------------------------------------------------------------------------

CONTEXT = read_options(
    "contextual",
    {
        "specialists": [
            {"when": {"topic": "law", "language": ["de", "fr"]}, "models": ["m0"]},
            {"when": {"topic": "law"}, "models": ["m1", "m2"]},
            {"when": {"tier": "gold"}, "models": ["m3"]},
        ],
        "default": ["m4"],
    },
)


@pytest.mark.parametrize(
    ("metadata", "wanted", "message"),
    [
        ({"topic": "law", "language": "fr"}, {"m0"}, "context 1 (topic, language): m0"),
        ({"topic": "law", "language": "en", "tier": "gold"}, {"m1", "m2"}, "context 2 (topic): "),
        ({"tier": "gold", "hour": 7}, {"m3"}, "context 3 (tier): m3"),
        ({"topic": "art"}, {"m4"}, "no context holds: the default: m4"),
        ({}, {"m4"}, "no context holds: the default: m4"),
        ({"topic": ["law"], "tier": {"gold": True}}, {"m4"}, "no context holds: the default: m4"),
        ({"topic": None, "tier": 3.5}, {"m4"}, "no context holds: the default: m4"),
    ],
)
def test_contextual_takes_the_first_matching_specialist_or_the_default(metadata, wanted, message):
    asked = request(metadata=metadata, options=CONTEXT)
    taken = {first(contextual, asked, Snapshot(turn, idle(5))) for turn in range(10)}
    assert taken == wanted
    assert contextual(asked, names(5), Snapshot(0, idle(5))).reason.startswith(message)


NIGHT = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "facts", "is_met"),
    [
        ({"score": {"min": 0.8}}, {"metadata": {"score": 0.9}}, True),
        ({"score": {"min": 0.8}}, {"metadata": {"score": 0.7}}, False),
        ({"score": {"min": 0.8}}, {"metadata": {"score": "high"}}, False),
        ({"score": 1}, {"metadata": {"score": True}}, False),
        ({"urgent": True}, {"metadata": {"urgent": True}}, True),
        ({"urgent": True}, {"metadata": {"urgent": 1}}, False),
        ({"hour": "22-6"}, {"at": NIGHT}, True),
        ({"hour": "8-18"}, {"at": NIGHT}, False),
        ({"weekday": "mon-fri"}, {"at": NIGHT}, False),
        ({"weekday": ["sat", "sun"]}, {"at": NIGHT}, True),
        ({"length": {"min": 1000}}, {"length": 1200}, True),
        ({"length": {"min": 1000}}, {"length": 12}, False),
    ],
)
def test_context_is_written_as_the_conditions_of_a_route(when, facts, is_met):
    options = read_options("contextual", {"specialists": [{"when": when, "models": ["m0"]}], "default": ["m1"]})
    assert first(contextual, request(options=options, **facts), Snapshot(1, idle(3))) == ("m0" if is_met else "m1")


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{}", "has no condition, so it would always hold"),
        ("{topic: null}", "topic: "),
        ("{topic: []}", "topic: is an empty list, so nothing fulfils it"),
        ("{weekday: noday}", "weekday: "),
        ("{score: {least: 1}}", "score: "),
    ],
)
def test_context_that_makes_no_sense_is_refused_with_its_place(when, message):
    text = PROFILES.replace("profile%s", f"contextual, options: {{specialists: [{{when: {when}, models: [a]}}]}}")
    with pytest.raises(ConfigError, match=rf"routes\.r\.options\.specialists\[0\]\.when.*{re.escape(message)}"):
        parse(text)


@given(parts=st.integers(0, 5000), singles=st.integers(0, 30))
def test_specialist_is_not_left_for_having_much_to_do(parts, singles):
    """While it has room: admission decides whether it has."""
    fleet = {**idle(5), "m3": ModelLoad(capacity=4, singles=singles, parts=parts)}
    assert chosen(contextual, request(metadata={"tier": "gold"}, options=CONTEXT), Snapshot(1, fleet)) == "m3"


def test_contextual_takes_the_less_loaded_of_two_specialists():
    fleet = {**idle(5), "m1": busy(2), "m2": busy(1)}
    asked = request(metadata={"topic": "law"}, options=CONTEXT)
    assert {chosen(contextual, asked, Snapshot(turn, fleet)) for turn in range(5)} == {"m2"}


def test_share_without_a_default_compares_all_models():
    options = read_options("contextual", {"specialists": [{"when": {"tier": "gold"}, "models": ["m0"]}]})
    taken = {chosen(contextual, request(options=options), Snapshot(turn, idle(3))) for turn in range(9)}
    assert taken == set(names(3))


def test_specialist_that_is_not_on_the_route_is_refused():
    text = PROFILES.replace("profile%s", "contextual, options: {specialists: [{when: {topic: law}, models: [c]}]}")
    with pytest.raises(
        ConfigError, match=r"options\.specialists\[0\]\.models\[0\]: 'c' is not among the models of this"
    ):
        parse(text)


# -- failing, slow, or without room ----------------------------------------------------------------------

BEST_IS_M0 = {f"m{place}": Traits(scores={"accuracy": score}) for place, score in enumerate((90, 80, 70))}


def by_profile(fleet, **options):
    asked = request(traits=BEST_IS_M0, options=read_options("profile", options) if options else None)
    return profile(asked, names(3), Snapshot(1, fleet))


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"errors": 0.6, "faults": 3, "fault_s": 1.0}, "failing"),
        ({"latency_s": 3.0, "seen_s": 1.0}, "slow"),
        ({"closed": "breaker"}, "breaker"),
        ({"closed": "drained"}, "drained"),
        ({"closed": "dead"}, "dead"),
    ],
)
def test_specialist_that_is_closed_failing_or_slow_is_passed_over(figures, why):
    fleet = {**idle(3), "m0": ModelLoad(capacity=4, **figures)}
    ranking = by_profile(fleet, slow_s=2.0)
    assert [preference.model for preference in ranking.preferences] == ["m1", "m2", "m0"]
    assert f"(m0 is passed over: {why})" in ranking.reason


@pytest.mark.parametrize(
    "figures",
    [
        # Failures so old that it may be well again, a share of them that is allowed, and one that answers again.
        {"errors": 0.6, "faults": 3, "fault_s": 31.0},
        {"errors": 0.4, "faults": 3, "fault_s": 1.0},
        {"errors": 0.9, "faults": 0, "seen_s": 0.1},
        {"latency_s": 3.0, "seen_s": 31.0},
        {"latency_s": 1.9, "seen_s": 1.0},
    ],
)
def test_specialist_gets_calls_again_after_an_answer_or_once_facts_are_old(figures):
    fleet = {**idle(3), "m0": ModelLoad(capacity=4, **figures)}
    assert by_profile(fleet, slow_s=2.0).preferences[0].model == "m0"


def test_best_specialist_is_taken_where_all_are_passed_over():
    fleet = {model: ModelLoad(capacity=4, errors=0.9, faults=5, fault_s=0.1) for model in names(3)}
    ranking = by_profile(fleet)
    assert [preference.model for preference in ranking.preferences] == ["m0", "m1", "m2"]
    assert "passed over" not in ranking.reason


def test_route_may_allow_more_failures_and_any_slowness():
    fleet = {**idle(3), "m0": ModelLoad(capacity=4, errors=0.6, faults=3, fault_s=1.0, latency_s=1e4, seen_s=0.0)}
    assert by_profile(fleet, failing=0.7).preferences[0].model == "m0"


@pytest.mark.parametrize("overflow", [True, False])
def test_call_waits_for_its_model_or_takes_another_as_the_route_says(overflow):
    assert by_profile(idle(3), overflow=overflow).bound is not overflow


# -- cost and quality ------------------------------------------------------------------------------------

PRICED = {"m0": Traits(cost_usd=0.03, scores={"accuracy": 95}), "m1": Traits(cost_usd=0.01, scores={"accuracy": 80}),
          "m2": Traits(cost_usd=0.001, scores={"accuracy": 60})}  # fmt: skip


def routed(options=None, quality=None):
    asked = request(traits=PRICED, quality=quality or {}, options=read_options("cost_quality", options or {}))
    return cost_quality(asked, names(3), Snapshot(1, idle(3)))


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({}, "m1 m0 m2"),
        ({"threshold": 0.5}, "m2 m1 m0"),
        ({"threshold": 0.9}, "m0 m1 m2"),
        ({"threshold": 0.99}, "m0 m1 m2"),
        ({"tradeoff": 1000.0}, "m0 m1 m2"),
        ({"tradeoff": 0.01}, "m2 m1 m0"),
        ({"tradeoff": 0.08}, "m1 m2 m0"),
    ],
)
def test_cheapest_that_is_good_enough_or_the_most_quality_for_its_cost(options, order):
    assert " ".join(preference.model for preference in routed(options).preferences) == order


def test_cost_quality_reads_the_prediction_before_the_accuracy():
    assert routed(quality={"m2": 0.9}).preferences[0].model == "m2"
    assert routed(quality={"m1": 0.1, "m0": 0.2}).preferences[0].model == "m2"
    assert "none is good enough, the best is m2: 60% predicted" in routed(quality={"m1": 0.1, "m0": 0.2}).reason


def test_cost_quality_takes_the_less_loaded_of_equals():
    asked = request(traits=dict.fromkeys(names(3), Traits(cost_usd=0.01, scores={"accuracy": 80})))
    uneven = Snapshot(1, {"m0": busy(3), "m1": busy(1), "m2": busy(2)})
    assert chosen(cost_quality, asked, uneven) == "m1"
    taken = Counter(chosen(cost_quality, asked, Snapshot(turn, idle(3))) for turn in range(30))
    assert taken == {"m0": 10, "m1": 10, "m2": 10}


@given(
    quality=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    costs=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    threshold=st.floats(0, 1),
)
def test_cost_quality_leaves_out_no_cheaper_good_model(quality, costs, threshold):
    predicted = dict(zip(names(3), quality, strict=True))
    traits = {model: Traits(cost_usd=cost) for model, cost in zip(names(3), costs, strict=True)}
    asked = request(traits=traits, quality=predicted, options=read_options("cost_quality", {"threshold": threshold}))
    taken = first(cost_quality, asked, Snapshot(1, idle(3)))
    good = [model for model in names(3) if predicted[model] >= threshold]
    if good:
        assert traits[taken].cost_usd == min(traits[model].cost_usd for model in good)
    else:
        assert predicted[taken] == max(quality)


@given(quality=st.lists(st.floats(0, 1), min_size=3, max_size=3), low=st.floats(0, 1), high=st.floats(0, 1))
def test_higher_quality_share_never_gets_a_cheaper_model(quality, low, high):
    low, high = sorted((low, high))
    predicted = dict(zip(names(3), quality, strict=True))
    assume(max(quality) >= high)
    costs = [PRICED[routed({"threshold": least}, predicted).preferences[0].model].cost_usd for least in (low, high)]
    assert costs[0] <= costs[1]


def test_threshold_and_a_tradeoff_exclude_each_other():
    text = PROFILES.replace("profile%s", "cost_quality, options: {threshold: 0.5, tradeoff: 1}")
    with pytest.raises(ConfigError, match=r"routes\.r\.options: threshold and tradeoff exclude each other"):
        parse(text)
