"""Scenarios: those that have a name, files that describe others, outages of simulated models."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import ValidationError

from ops.bench.bench_fleet import simulation_of
from ops.embedded.chat_completions import SimulatedModels
from ops.evaluate.simulation.scenarios import NAMED, Models, Slow, read
from ops.evaluate.simulation.simulated_fleet import simulate
from tasks.config.simulation import Outages, Simulation
from tasks.contract.errors import BadInput, ConfigError
from tests.harness import REPOSITORY


@pytest.mark.parametrize("name", NAMED)
def test_named_scenario_runs(name):
    small = read(name).model_copy(update={"requests": 100})
    assert simulate(small, "least_latency", 0)["requests"] == 100


def test_file_describes_a_scenario(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        """
about: two unequal ones
rate: 20
requests: 500
models:
  - {name: quick, count: 2, latency: {distribution: lognormal, median: 0.2, sigma: 0.5}}
  - {name: flaky, latency: 0.1, outages: {every: 10, lasting: 2}, slow: [{times: 3, since: 5}]}
"""
    )
    own = read(str(file))
    assert [name for models in own.models for name in models.names] == ["quick-1", "quick-2", "flaky"]
    assert simulate(own, "prequal", 1)["failed"] == 0


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("rate: 0\nmodels: [{name: a}]", "rate", "greater than 0"),
        ("rate: 1", "models", "required"),
        ("rate: 1\nmodels: []", "models", "at least 1"),
        ("rate: 1\nmodels: [{name: a}, {name: a}]", "scenario", "one name"),
        ("rate: 1\nmodels: [{name: a, capcity: 3}]", "models.0.capcity", "fields: name, count, capacity"),
        ("rate: 1\nmodels: [{name: a, joins: 3}]", "scenario", "from the beginning"),
        ("rate: 1\nmodels: [{name: a, latency: {distribution: normal}}]", "models.0.latency", "normal"),
        ("rate: 1\nroutes: 2\nmodels: [{name: a}]", "scenario", "as many models"),
        ("rate: 1\nmodels: [{name: a, slow: [{times: 2, since: 3, until: 1}]}]", "models.0.slow.0", "not after"),
        ("[1, 2]", "scenario", "no mapping"),
        ("rate: [1", "scenario", "can't be read"),
    ],
)
def test_mistake_in_a_file_is_an_error_with_its_field(tmp_path, text, field, message):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        read(str(file))
    assert caught.value.field.startswith(field)
    assert message in str(caught.value)


def test_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(BadInput, match="one-slow, fast-fail, mixed"):
        read("mixd")


# -- outages ---------------------------------------------------------------------------------------


def test_outages_come_at_the_end_of_each_cycle():
    outages = Outages(every=20, lasting=10)
    assert [outages.hold(at) for at in (0, 9.9, 10, 19.9, 20, 30)] == [False, False, True, True, False, True]
    with pytest.raises(ValidationError, match="lasting is greater than every"):
        Outages(every=1, lasting=2)


def test_simulated_server_fails_fast_while_an_outage_lasts():
    app = SimulatedModels(
        {
            "down": Simulation(latency=60, outages=Outages(every=100, lasting=100, after_s=0)),
            "up": Simulation(outages=Outages(every=86_400, lasting=1)),
        }
    )

    async def ask(model):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://models") as client:
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
            return (await client.post("/v1/chat/completions", json=body)).status_code

    assert asyncio.run(ask("down")) == 503
    assert asyncio.run(ask("up")) == 200


def test_slow_model_is_simulated_with_its_slow_latency():
    problem = Simulation.model_validate(simulation_of(Models(name="slow", slow=[Slow(times=20)])))
    assert (problem.latency.least, problem.latency.mean) == (2.0, 4.0)
    with pytest.raises(ConfigError, match="changes with time"):
        simulation_of(Models(name="heals", slow=[Slow(times=2, until=5)]))


def test_scenario_in_the_docs_is_one(tmp_path):
    page = (REPOSITORY / "docs" / "reference" / "scenarios.md").read_text()
    file = tmp_path / "shown.yaml"
    file.write_text(page.partition("```yml\n")[2].partition("```")[0])
    assert read(str(file)).requests == 5000
    assert all(f"| `{name}`" in page for name in NAMED if name != "herd-late")
