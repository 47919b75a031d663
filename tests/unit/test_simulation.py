"""Simulated models as values: what is accepted, and what follows from a draw."""

from __future__ import annotations

import json
import math
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.config.simulation import Constant, Exponential, Latency, Lognormal, Simulation, Uniform, count_tokens

#: A thousand draws spread evenly: their mean and median are those of the distribution, without chance.
SHARES = [(number + 0.5) / 1000 for number in range(1000)]

LATENCY = TypeAdapter(Latency)


def test_number_is_a_constant_latency():
    assert LATENCY.validate_python(0.2) == Constant(seconds=0.2)
    assert Simulation.model_validate_json('{"latency": 1}').latency.draw(0.9) == 1


def test_uniform_latency_lies_between_its_bounds():
    latency = LATENCY.validate_python({"distribution": "uniform", "low": 1, "high": 3})
    assert latency == Uniform(distribution="uniform", low=1, high=3)
    assert (latency.draw(0.0), latency.draw(0.5)) == (1, 2)


def test_exponential_latency_has_its_mean_and_its_least():
    latency = Exponential(distribution="exponential", mean=2, least=0.5)
    times = [latency.draw(share) for share in SHARES]
    assert latency.draw(0.0) == 0.5
    assert fmean(times) == pytest.approx(2, rel=0.01)


def test_lognormal_latency_has_its_median_and_its_tail():
    latency = Lognormal(distribution="lognormal", median=0.8, sigma=0.5)
    assert median(latency.draw(share) for share in SHARES) == pytest.approx(0.8, rel=0.01)
    assert latency.draw(0.95) / 0.8 == pytest.approx(2.28, rel=0.01)


@given(
    share=st.floats(0, 1, exclude_max=True),
    latency=st.sampled_from(
        [
            Constant(seconds=1),
            Uniform(distribution="uniform", low=0, high=2),
            Exponential(distribution="exponential", mean=3),
            Lognormal(distribution="lognormal", median=1, sigma=5),
        ]
    ),
)
def test_latency_draw_is_finite_and_not_negative(share, latency):
    assert latency.draw(share) >= 0
    assert math.isfinite(latency.draw(share))


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": -1},
        {"latency": math.inf},
        {"latency": True},
        {"latency": {"distribution": "uniform", "low": 2, "high": 1}},
        {"latency": {"distribution": "exponential", "mean": 1, "least": 2}},
        {"latency": {"distribution": "pareto", "mean": 1}},
        {"latency": {"seconds": 1}},
        {"error_rate": 1.1},
        {"error_status": 200},
        {"answers": {}},
        {"answers": []},
        {"prompts": {"You translate": []}},
        {"concurrency": 0},
        {"failure": "sometimes"},
        {"latancy": 1},
    ],
)
def test_mistake_is_not_accepted(wrong):
    with pytest.raises(ValidationError):
        Simulation.model_validate(wrong)


def test_simulation_survives_json():
    simulation = Simulation.model_validate(
        {"latency": {"distribution": "lognormal", "median": 1, "sigma": 0.3}, "answers": ["yes", "no"]}
    )
    assert Simulation.model_validate_json(simulation.model_dump_json()) == simulation


def test_schema_shows_that_a_latency_may_be_a_number():
    assert '"type": "number"' in json.dumps(Simulation.model_json_schema()["properties"]["latency"])


def test_first_key_found_in_the_message_decides_whatever_its_case():
    simulation = Simulation(answers={"invoice": "billing", "charge": "money", "": "anything else"})
    assert simulation.answer("m", "Which CHARGE is on my Invoice?", 0.0) == "billing"
    assert simulation.answer("m", "a charge", 0.0) == "money"
    assert simulation.answer("m", "hello", 0.0) == "anything else"


def test_echo_without_a_key_repeats_the_start_of_the_message():
    simulation = Simulation(answers={"invoice": "billing"})
    assert simulation.answer("m", "hello  you", 0.0) == "[simulated m] hello you"


def test_long_message_comes_back_with_its_first_twelve_words():
    text = " ".join(map(str, range(13)))
    assert Simulation().answer("m", text, 0.0) == "[simulated m] 0 1 2 3 4 5 6 7 8 9 10 11 …"


def test_draw_picks_one_of_the_answers():
    simulation = Simulation(answers=("a", "b", "c"))
    assert [simulation.answer("m", "x", share) for share in (0.0, 0.4, 0.999)] == ["a", "b", "c"]


def test_simulated_answer_may_depend_on_the_prompt():
    simulation = Simulation(
        prompts={"You translate": {"hello": "bonjour"}, "you vote": ("yes", "no")}, answers={"": "anything else"}
    )
    assert simulation.answer("m", "Hello!", 0.0, prompt="YOU TRANSLATE into French.") == "bonjour"
    assert simulation.answer("m", "Hello!", 0.9, prompt="Sometimes you vote.") == "no"
    assert simulation.answer("m", "Bye!", 0.0, prompt="You translate into French.") == "anything else"
    assert simulation.answer("m", "Hello!", 0.0) == "anything else"


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_four_letters_are_a_token(text, tokens):
    assert count_tokens(text) == tokens
