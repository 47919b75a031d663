"""Usage is what the provider counted where that can be true, and an estimate where it can't; it lowers no spend."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.models import Price
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelRequest
from tasks.contract.result import Usage
from worker.models.openai import read_counts
from worker.models.token_usage import HIDDEN, TokenCounts, is_count, read_usage, sum_counts

REQUEST = ModelRequest("m", (Message(role="user", content="Is the clause fair?"),), 30.0)
ANSWER = "The clause is fair."
PRICE = Price(input=10.0, cached=1.0, output=100.0)
#: What an answer without any usage costs.
LEAST = read_usage(TokenCounts(), REQUEST, ANSWER)

COUNTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 5000),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([10**30, -(10**30), 2**63, math.inf, math.nan]),
)


def counted(given_: int, output: int, cached: int = 0, reasoning: int = 0, *, estimated: bool = False) -> Usage:
    return Usage(
        input_tokens=given_,
        output_tokens=output,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
        estimated=estimated,
    )


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_of_any_counts_is_possible_and_costs_something(given_, output, total, cached, reasoning):
    usage = read_usage(TokenCounts(given_, output, total, cached, reasoning), REQUEST, ANSWER)
    assert 0 < usage.input_tokens <= 3 * HIDDEN
    assert 0 < usage.output_tokens <= 3 * HIDDEN
    assert 0 <= usage.cached_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
    assert 0 < PRICE.cost(usage) < math.inf


@given(COUNTS, COUNTS)
def test_usage_without_a_valid_count_is_the_estimate(given_, output):
    bad = {name: value for name, value in (("input", given_), ("output", output)) if not is_count(value)}
    usage = read_usage(TokenCounts(**bad), REQUEST, ANSWER)
    assert usage == LEAST
    assert usage.estimated


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (TokenCounts(9, 5, 14), counted(9, 5)),
        (TokenCounts(279, 6, 374, None, 89), counted(279, 95, 0, 89)),
        (TokenCounts(20, 198, 623), counted(20, 603)),
        (TokenCounts(21, 6, None, None, 60), counted(21, 66, 0, 60)),
        # Inside: OpenAI's own way.
        (TokenCounts(20, 70, 90, None, 60), counted(20, 70, 0, 60)),
        (TokenCounts(20, 70, None, None, 60), counted(20, 70, 0, 60)),
        # A total alone, or with one of the two.
        (TokenCounts(9, None, 14), counted(9, 5)),
        (TokenCounts(None, 5, 14), counted(9, 5)),
        # A total below the sum, or an absurd one, says nothing.
        (TokenCounts(9, 5, 3), counted(9, 5)),
        (TokenCounts(9, 5, 10**15), counted(9, 5)),
        (TokenCounts(9, 5, 14, 9), counted(9, 5, 9)),
        (TokenCounts(9, 5, 14, 10), counted(9, 5, estimated=True)),
        (TokenCounts(9, 5, 14, -1), counted(9, 5, estimated=True)),
        (TokenCounts(0, 5, 5), counted(LEAST.input_tokens, 5, estimated=True)),
        (TokenCounts(9, 0, 9), counted(9, LEAST.output_tokens, estimated=True)),
    ],
)
def test_usage_is_what_was_counted_where_that_can_be_true(counts, usage):
    assert read_usage(counts, REQUEST, ANSWER) == usage


def test_usage_of_nothing_written_has_no_output():
    assert read_usage(TokenCounts(9, 0), REQUEST, "") == counted(9, 0)
    assert read_usage(TokenCounts(), REQUEST, "") == counted(LEAST.input_tokens, 0, estimated=True)


def test_sum_of_counts_is_no_count_where_one_is_none():
    assert sum_counts([1, None, 2.0]) == 3
    assert sum_counts([None, None]) is None
    assert not is_count(sum_counts([1, "2"]))
    assert not is_count(sum_counts([1, -2]))


@pytest.mark.parametrize("usage", [None, [], "x", 5, {"prompt_tokens_details": 3, "completion_tokens_details": [1]}])
def test_counts_of_another_form_are_none(usage):
    assert read_counts(usage) == TokenCounts()


def test_usages_add_up_and_stay_estimates():
    assert counted(1, 2, 3, 4, estimated=True) + counted(5, 6) == counted(6, 8, 3, 4, estimated=True)
