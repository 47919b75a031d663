"""Which models may do it, and which one now: pure functions of job, configuration and snapshot."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.contract.job import Job, parse_job
from tasks.routing.choose import build_request, choose, find_candidates, pick_model, spread_parts
from tasks.routing.classify.decision import Verdict
from tasks.routing.options import strategy_named
from tasks.routing.snapshot import ModelLoad, Preference, Ranking, Request, Snapshot
from tasks.routing.strategies import least_connections, round_robin

NAMES = ("a", "b", "c", "d")
REQUEST = Request(route="r", key="k")
CAPACITIES = st.lists(st.integers(0, 20), min_size=1, max_size=4)


def loads(capacities, parts=()):
    busy = list(parts) + [0] * len(capacities)
    return {name: ModelLoad(capacity=capacity, parts=busy[place])
            for place, (name, capacity) in enumerate(zip(NAMES, capacities, strict=False))}  # fmt: skip


def config_of(names, *, strategy="least_connections", windows=(), prompt=None):
    models = {name: {"provider": "simulated"} for name in names}
    for name, window in zip(names, windows, strict=False):
        models[name]["context_window"] = window
    route = {"models": list(names), "strategy": strategy, "prompt": prompt}
    return Config.model_validate({"models": models, "routes": {"r": route}, "default_route": "r"})


VERDICT = Verdict("r", "rules", 1.0, "because")


def best(ranking, snapshot):
    return min(
        ranking.preferences, key=lambda preference: preference.score(snapshot.models[preference.model].load)
    ).model


@given(
    capacities=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    start=st.integers(1, 1000),
    rounds=st.integers(1, 5),
)
def test_round_robin_gives_each_model_as_many_turns(capacities, start, rounds):
    models = loads(capacities)
    turns = range(start, start + rounds * len(models))
    chosen = Counter(round_robin(REQUEST, tuple(models), Snapshot(turn, models)).preferences[0].model for turn in turns)
    assert chosen == dict.fromkeys(models, rounds)


@given(capacities=CAPACITIES, turn=st.integers(1, 1000))
def test_round_robin_skips_models_without_capacity(capacities, turn):
    assume(any(capacities))
    models = loads(capacities)
    ranking = round_robin(REQUEST, tuple(models), Snapshot(turn, models))
    assert ranking.bound
    assert models[ranking.preferences[0].model].capacity > 0


def test_round_robin_waits_where_no_model_has_capacity():
    models = loads([0, 0])
    assert {round_robin(REQUEST, ("a", "b"), Snapshot(turn, models)).preferences[0].model for turn in (1, 2)} == {
        "a",
        "b",
    }


@given(capacities=CAPACITIES, parts=st.lists(st.integers(0, 40), min_size=4, max_size=4), turn=st.integers(0, 1000))
def test_least_connections_picks_the_least_loaded(capacities, parts, turn):
    models = loads(capacities, parts)
    snapshot = Snapshot(turn, models)
    ranking = least_connections(REQUEST, tuple(models), snapshot)
    assert not ranking.bound
    assert models[best(ranking, snapshot)].load == min(load.load for load in models.values())


def test_least_connections_takes_turns_among_equals():
    models = loads([1, 1, 1])
    chosen = [best(least_connections(REQUEST, ("a", "b", "c"), Snapshot(turn, models)), Snapshot(turn, models))
              for turn in range(1, 7)]  # fmt: skip
    assert Counter(chosen) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("strategy", ["round_robin", "least_connections"])
@given(capacities=CAPACITIES, parts=st.integers(1, 60))
def test_spread_parts_skips_models_without_capacity(strategy, capacities, parts):
    assume(any(capacities))
    models = loads(capacities)
    config = config_of(models, strategy=strategy)
    _, chosen = spread_parts(Job(text="x"), VERDICT, config, Snapshot(1, models), parts=parts, longest=1)
    assert len(chosen) == parts
    assert all(models[model].capacity for model in chosen)


@given(capacities=st.lists(st.integers(1, 20), min_size=1, max_size=4), parts=st.integers(1, 100))
def test_spread_is_balanced_by_capacity(capacities, parts):
    models = loads(capacities)
    _, chosen = spread_parts(Job(text="x"), VERDICT, config_of(models), Snapshot(1, models), parts=parts, longest=1)
    counts = Counter(chosen)
    # No model could be relieved: moving a part from the fullest model to another would make that one the fullest.
    for model, load in models.items():
        for other, its in models.items():
            if counts[model]:
                assert (counts[model] - 1) / load.capacity <= counts[other] / its.capacity + 1e-6


def test_spread_of_many_parts_is_as_even_as_of_few():
    models = loads([4, 2, 1, 1])
    _, chosen = spread_parts(Job(text="x"), VERDICT, config_of(models), Snapshot(1, models), parts=8000, longest=1)
    assert Counter(chosen) == {"a": 4000, "b": 2000, "c": 1000, "d": 1000}


def test_model_whose_window_is_too_small_is_out_with_a_reason():
    config = config_of(NAMES[:2], windows=(10, 1000))
    small, large = find_candidates(Job(text="x " * 100), "r", config)
    assert small.reason == "needs about 97 tokens, its window has 10"
    assert large.reason == ""
    snapshot = Snapshot(1, loads([5, 5]))
    decision, ranking = choose(Job(text="x " * 100), VERDICT, config, snapshot)
    assert [preference.model for preference in ranking.preferences] == ["b"]
    assert decision.candidates[0].reason
    assert decision.candidates[0].score is None
    assert decision.candidates[1].score is not None


@pytest.mark.parametrize(
    ("request_", "prompt"),
    [
        ({"messages": [{"role": "user", "content": "x " * 94}, {"role": "user", "content": "hi"}]}, None),
        ({"text": "hi", "prompt": "x " * 102}, None),
        ({"text": "hi"}, "x " * 102),
        ({"text": "hi", "max_tokens": 99}, None),
    ],
)
def test_window_counts_everything_that_is_sent(request_, prompt):
    (found,) = find_candidates(parse_job(request_), "r", config_of(["a"], windows=[99], prompt=prompt))
    assert found.reason == "needs about 100 tokens, its window has 99"


def test_error_names_the_reason_of_each_model_where_none_is_able():
    config = config_of(NAMES[:2], windows=(10, 20))
    with pytest.raises(BadInput, match=r"no model can take it: a needs about 97 .*; b needs about 97 .*; cut it into"):
        choose(Job(text="x " * 100), VERDICT, config, Snapshot(1, loads([1, 1])))


def test_longest_section_counts_not_the_whole_document():
    config = config_of(["a"], windows=[50])
    assert find_candidates(Job(text="x" * 4000), "r", config, longest=50)[0].reason == ""


def test_model_that_the_producer_names_is_the_only_one_and_is_waited_for():
    job = Job(text="x", model="b", strategy="least_connections")
    decision, ranking = choose(
        job, Verdict("", "explicit", 1.0, "named"), config_of(NAMES[:2]), Snapshot(0, loads([1, 0]))
    )
    assert decision.strategy == "explicit"
    assert [preference.model for preference in ranking.preferences] == ["b"]
    assert ranking.bound
    # JSON has no infinity.
    assert decision.candidates[0].load is None


def test_job_s_strategy_goes_before_the_route_s():
    snapshot = Snapshot(1, loads([1, 1]))
    config = config_of(NAMES[:2], strategy="round_robin")
    assert choose(Job(text="x"), VERDICT, config, snapshot)[0].strategy == "round_robin"
    named = Job(text="x", strategy="least_connections")
    assert choose(named, VERDICT, config, snapshot)[0].strategy == "least_connections"


def test_reasons_of_classifier_and_strategy_stand_in_the_decision():
    decision, _ = choose(Job(text="x"), VERDICT, config_of(["a"]), Snapshot(1, loads([1])))
    assert decision.reason == "because; the fewest calls in flight over capacity"


def test_unknown_strategy_is_an_error_that_lists_the_installed():
    with pytest.raises(BadInput, match="strategy: 'best' is not a strategy; allowed: adaptive, consistent_hash"):
        strategy_named("best")


def test_request_key_is_the_job_s_key_or_a_digest_of_the_input():
    assert build_request(Job(text="hello", key="tenant-1"), "r").key == "tenant-1"
    key = build_request(Job(text="hello"), "r").key
    assert key == build_request(Job(text="hello"), "other").key
    assert "hello" not in key


@given(base=st.floats(-10, 10), slope=st.floats(0, 10), load=st.floats(0, 100))
def test_preference_is_affine_in_the_load(base, slope, load):
    assert Preference("a", base, slope).score(load) == pytest.approx(base + slope * load)


def test_preference_without_slope_ignores_an_infinite_load():
    assert Preference("a", 1.0).score(float("inf")) == 1.0
    assert Preference("a", 1.0, 1.0).score(float("inf")) == float("inf")


@pytest.mark.parametrize(
    ("model", "job", "reason"),
    [
        ({"region": "us"}, {"metadata": {"region": "eu"}}, "is in region us, the job's metadata ask for eu"),
        ({"features": ["json"]}, {"metadata": {"features": ["json", "vision"]}}, "lacks vision"),
        ({"price": {"input": 10.0}}, {"budget_usd": 1e-6}, "would cost $0.000050 for its input alone"),
        ({"region": "eu"}, {"metadata": {"region": "eu"}}, ""),
        ({"features": ["json"]}, {"metadata": {"features": "json"}}, ""),
        ({}, {"metadata": {"region": "eu", "features": ["vision"]}}, ""),
        ({"price": {"input": 10.0}}, {"budget_usd": 1.0}, ""),
    ],
)
def test_model_that_can_not_do_the_job_is_left_out_with_the_reason(model, job, reason):
    configured = {"a": {"provider": "simulated"} | model}
    config = Config.model_validate({"models": configured, "routes": {"r": {"models": ["a"]}}, "default_route": "r"})
    (candidate,) = find_candidates(parse_job({"text": "some text to be read"} | job), "r", config)
    assert candidate.reason.startswith(reason)
    assert bool(candidate.reason) == bool(reason)


def test_fallbacks_are_candidates_of_the_last_resort():
    models = {name: {"provider": "simulated"} for name in NAMES}
    route = {"models": ["a", "b"], "fallbacks": ["c"], "strategy": "least_connections"}
    config = Config.model_validate({"models": models, "routes": {"r": route}, "default_route": "r"})
    busy = {name: ModelLoad(capacity=1, parts=9) for name in ("a", "b")} | {"c": ModelLoad(capacity=9)}
    decision, ranking = choose(Job(text="x"), VERDICT, config, Snapshot(1, busy))
    assert [(candidate.model, candidate.fallback) for candidate in decision.candidates] == [
        ("a", False), ("b", False), ("c", True),
    ]  # fmt: skip
    assert (ranking.fallbacks, ranking.preferences[-1].model) == (1, "c")
    assert pick_model(ranking, Snapshot(1, busy)) in {"a", "b"}
    closed = {name: ModelLoad(capacity=1, closed="breaker") for name in ("a", "b")} | {"c": ModelLoad(capacity=9)}
    assert pick_model(ranking, Snapshot(1, closed)) == "c"


def test_candidate_that_would_be_late_is_left_out_unless_all_would():
    config = config_of(["a", "b"])
    late, soon = ModelLoad(capacity=1, singles=50, latency_s=2.0), ModelLoad(capacity=1, latency_s=2.0)
    decision, _ = choose(Job(text="x", deadline=10.0), VERDICT, config, Snapshot(1, {"a": late, "b": soon}))
    assert [bool(candidate.reason) for candidate in decision.candidates] == [True, False]
    assert "past the deadline" in decision.candidates[0].reason
    decision, _ = choose(Job(text="x", deadline=10.0), VERDICT, config, Snapshot(1, {"a": late, "b": late}))
    assert not any(candidate.reason for candidate in decision.candidates)


@pytest.mark.parametrize("wrong", ["raises", "empty", "stranger", "twice", "nan"])
def test_strategy_that_goes_wrong_costs_no_job(wrong, monkeypatch):
    def strange(request, candidates, snapshot):
        if wrong == "raises":
            raise RuntimeError("a secret of the text")
        preferences = {
            "empty": (),
            "stranger": (Preference("z", 0.0),),
            "twice": (Preference("a", 0.0), Preference("a", 1.0)),
            "nan": (Preference("a", float("nan")), Preference("b", 0.0)),
        }[wrong]
        return Ranking(preferences, bound=False, reason="")

    real = strategy_named
    monkeypatch.setattr("tasks.routing.choose.strategy_named", lambda name: strange if name == "odd" else real(name))
    config = config_of(["a", "b"])
    snapshot = Snapshot(1, {"a": ModelLoad(1), "b": ModelLoad(1)})
    decision, ranking = choose(Job(text="x", strategy="odd"), VERDICT, config, snapshot)
    assert {preference.model for preference in ranking.preferences} == {"a", "b"}
    assert "strategy odd failed" in decision.reason
    assert "secret" not in decision.reason
