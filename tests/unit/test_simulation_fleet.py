"""The discrete-event simulation: what goes in comes out, queues are as long as theory says, figures are reached."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.evaluate.simulation.compare import compare, fitting
from ops.evaluate.simulation.scenarios import NAMED, Keys, Models, Scenario, Slow
from ops.evaluate.simulation.simulated_fleet import SimulatedFleet, simulate
from tasks.config.simulation import Constant, Exponential, Outages


def scenario(name, **changes):
    return NAMED[name].model_copy(update=changes)


# -- the simulator itself ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    strategy=st.sampled_from(fitting()),
    seed=st.integers(0, 10_000),
    capacities=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    rate=st.floats(5, 200),
    errors=st.floats(0, 0.9),
    stale=st.sampled_from([0.0, 0.5]),
)
def test_request_ends_once_and_models_keep_to_their_capacity(strategy, seed, capacities, rate, errors, stale):
    models = [
        Models(name=f"m{place}", capacity=size, error_rate=errors if place else 0.0, joins=float(place == 2))
        for place, size in enumerate(capacities)
    ]
    fleet = SimulatedFleet(
        Scenario(requests=200, rate=rate, models=models, stale_s=stale, routers=3, keys=Keys(count=20)), strategy, seed
    )
    held = []
    start = fleet._start

    def watched(call, model):
        start(call, model)
        held.append((model.running, model.pending, model.spec.capacity))

    fleet._start = watched
    record = fleet.run()

    assert len(record.latencies) + record.failed == 200
    assert all(running <= size and pending <= 2 * size for running, pending, size in held)
    assert not any(model.pending for model in fleet._models.values())
    figures = record.figures()
    assert sum(figures["share_of_attempts"].values()) == pytest.approx(1)
    assert figures["attempts"] >= len(record.latencies)


def test_single_exponential_server_waits_as_long_as_the_formula():
    # M/M/1: the mean time in the system is 1 / (1/service − arrivals).
    service = Exponential(distribution="exponential", mean=1.0)
    one = Scenario(requests=20_000, rate=0.5, models=[Models(name="only", capacity=1, latency=service)])

    found = simulate(one, "least_connections", seed=3)

    assert found["mean_s"] == pytest.approx(1 / (1 / 1.0 - 0.5), rel=0.1)


def test_several_servers_wait_as_long_as_erlang_says():
    # M/M/c with c = 4, 3.2 erlang: wait = C(c, a) / (c/service − arrivals), C by Erlang's formula.
    service = Exponential(distribution="exponential", mean=0.5)
    four = Scenario(requests=20_000, rate=6.4, models=[Models(name="only", capacity=4, latency=service)])
    erlang = 6.4 * 0.5
    last = erlang**4 / math.factorial(4) * 4 / (4 - erlang)
    waits = last / (sum(erlang**k / math.factorial(k) for k in range(4)) + last)

    found = simulate(four, "round_robin", seed=1)

    assert found["mean_s"] == pytest.approx(0.5 + waits / (4 / 0.5 - 6.4), rel=0.1)


def test_same_seed_makes_the_same_run_and_another_one_does_not():
    mixed = scenario("mixed", requests=800)
    assert simulate(mixed, "prequal", 5) == simulate(mixed, "prequal", 5)
    assert simulate(mixed, "prequal", 5) != simulate(mixed, "prequal", 6)


def test_strategies_of_one_seed_get_the_same_requests():
    came = []
    for strategy in ("random", "least_latency"):
        fleet = SimulatedFleet(scenario("zipf-keys", requests=300), strategy, 9)
        arrive, seen = fleet._rank, []
        fleet._rank = lambda call, *rest, arrive=arrive, seen=seen: (
            seen.append((call.arrived, call.key)) or arrive(call, *rest)
        )
        fleet.run()
        came.append(seen)
    assert came[0] == came[1]


def test_model_that_leaves_loses_its_waiting_requests_to_others():
    slow = Constant(seconds=1.0)
    leaving = Scenario(
        requests=400,
        rate=20,
        models=[Models(name="stays", latency=slow), Models(name="leaves", capacity=2, latency=slow, leaves=5.0)],
    )
    fleet = SimulatedFleet(leaving, "round_robin", 1)
    record = fleet.run()
    assert len(record.latencies) == 400
    place = list(fleet._models).index("leaves")
    assert any(second[place] for second in record.attempts[:5])
    assert not any(second[place] for second in record.attempts[6:])


def test_model_that_serves_no_request_is_left_to_its_breaker():
    only = Scenario(
        requests=200, rate=20, attempts=20, models=[Models(name="only", outages=Outages(every=1000, lasting=990))]
    )
    fleet = SimulatedFleet(only, "least_connections", 1)
    fleet.run()
    # Every attempt was a failure, so the breaker opened; it was not asked a hundred times a second.
    assert fleet.record.attempts
    breaker = fleet._models["only"].breaker
    assert breaker.open_for > breaker.settings.open


# -- the figures that strategies must reach -----------------------------------------------------------


@pytest.mark.parametrize("strategy", ["least_latency", "prequal"])
def test_slow_replica_of_eleven_slows_fewer_than_1_in_500_requests(strategy):
    found = simulate(scenario("one-slow", requests=8000), strategy, 1)
    assert found["over_1s"] < 0.002
    assert found["failed"] == 0


def test_simulation_shows_what_others_have_measured_of_plain_strategies():
    # linkerd's comparison: round robin 95 % within a second, least loaded 99 %.
    found = {
        name: simulate(scenario("one-slow", requests=6000), name, 1) for name in ("round_robin", "least_connections")
    }
    assert 0.05 < found["round_robin"]["over_1s"] < 0.12
    assert 0.004 < found["least_connections"]["over_1s"] < 0.02


@pytest.mark.parametrize("strategy", fitting())
def test_replica_that_fails_fast_fails_no_request_and_gets_few_attempts(strategy):
    found = simulate(scenario("fast-fail", requests=4000), strategy, 1)
    assert found["failed"] == 0
    assert found["share_after_first_10"]["failing"] < 0.02


@pytest.mark.parametrize("strategy", ["least_latency", "prequal"])
def test_slow_and_failing_replicas_together_leave_the_tail_short(strategy):
    found = simulate(scenario("mixed", requests=6000), strategy, 1)
    assert found["failed"] == 0
    assert found["p99_s"] < 0.7


def test_model_that_is_well_again_and_a_new_one_get_their_share_soon():
    for name, strategy in [("recovery", "least_latency"), ("recovery", "prequal"), ("cold-start", "least_latency")]:
        found = simulate(scenario(name, requests=12_000), strategy, 1)
        assert found["share_after_s"] is not None, (name, strategy)


def test_last_word_with_the_load_of_the_moment_prevents_herds():
    alone = simulate(scenario("herd", requests=4000), "least_connections", 1)
    late = simulate(scenario("herd-late", requests=4000), "least_connections", 1)
    assert late["crest"] < 0.7 * alone["crest"]
    assert late["p99_s"] < alone["p99_s"]


def test_large_model_gets_more_than_a_small_one():
    found = simulate(scenario("unequal", requests=6000), "least_latency", 1)
    assert found["share_of_attempts"]["large"] > 3 * found["share_of_attempts"]["small-1"]
    assert found["p99_s"] < 0.8


def test_bounded_hashing_keeps_keys_together_and_bounds_shares():
    fleet = SimulatedFleet(scenario("zipf-keys", requests=6000), "consistent_hash", 1)
    over = []
    admit = fleet._admit

    def watched(call, model):
        models = fleet._models.values()
        most = math.ceil(1.25 * (1 + sum(one.pending + one.bound for one in models)) / len(models))
        over.append(model.pending + 1 > most)
        admit(call, model)

    fleet._admit = watched
    found = fleet.run().figures()
    assert not any(over)
    assert found["same_model"] > 0.4
    assert found["max_share"] < 1.5 / 12


def test_long_answers_are_not_taken_for_a_slow_model():
    found = simulate(scenario("long-answers", requests=6000), "least_latency", 1)
    others = [share for name, share in found["share_of_attempts"].items() if name != "slow"]
    assert found["share_of_attempts"]["slow"] < 0.5 * min(others)
    assert max(others) < 1.6 * min(others)


# -- side by side --------------------------------------------------------------------------------------


def test_comparison_tells_mean_and_spread_and_is_plain_json():
    found = compare(scenario("mixed", requests=300), "mixed", ["random", "prequal"], seeds=3, workers=1)
    problem = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert (problem["scenario"], problem["seeds"]) == ("mixed", 3)
    assert set(problem["strategies"]) == {"random", "prequal"}
    one = problem["strategies"]["random"]
    runs = [run["p99_s"] for run in found.runs["random"]]
    assert one["p99_s"] == pytest.approx(sum(runs) / 3)
    assert one["spread"]["p99_s"] > 0
    assert {"p50_s", "p99_s", "over_1s", "failed", "attempts", "share_of_attempts"} <= set(one)


def test_comparison_on_several_processes_is_that_on_one():
    mixed = scenario("mixed", requests=200)
    alone, together = (compare(mixed, "mixed", ["random"], seeds=2, workers=count) for count in (1, 2))
    assert alone == together


def test_slow_time_counts_from_its_beginning_to_its_end():
    always = Scenario(
        requests=200, rate=10, models=[Models(name="only", latency=0.1, slow=[Slow(times=10, since=5, until=10)])]
    )
    found = SimulatedFleet(always, "random", 1)
    record = found.run()
    slow = sum(seconds > 0.9 for seconds in record.latencies)
    assert 30 <= slow <= 70
    assert found.changed == (0, 10)
