"""Jobs that no budget has room for are refused with field and remedy; what might fit passes."""

from __future__ import annotations

import pytest

from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.loading.load import parse
from tasks.routing.budget import check_budgets, needs_check

CONFIG = parse("""
models:
  dear: {provider: simulated, price: {input: 100, output: 1000}, budget_usd_per_day: 1}
  cheap: {provider: simulated, price: {input: 0.1, output: 1}, max_tokens: 1000}
  free: {provider: simulated}
routes:
  costly: {models: [dear]}
  both: {models: [dear, cheap]}
default_route: both
""")
#: About 100 tokens.
TEXT = "word " * 100


def refused(means=None, **fields):
    job = parse_job({"text": TEXT, **fields} if "items" not in fields else fields)
    assert needs_check(job, CONFIG)
    with pytest.raises(BadInput) as caught:
        check_budgets(job, CONFIG, means or {})
    return caught.value


def test_job_whose_estimate_is_above_its_budget_is_refused():
    error = refused(model="dear", max_tokens=10, budget_usd=0.015)
    assert error.field == "budget_usd"
    assert error.problem.startswith("is $0.015, and the least estimate, with model 'dear', is $0.0")
    assert error.remedy == "give at least that, or a lower max_tokens"
    # The cheapest candidate counts; without a route those of all routes.
    assert "'cheap'" in refused(budget_usd=0.0001).problem
    # Without max_tokens the mean of the answers counts, and at first the one that the limiter starts with.
    assert "a max_tokens (the mean" in refused(model="dear", budget_usd=0.1).remedy
    assert refused({"dear": 1000.0}, model="dear", budget_usd=0.9).field == "budget_usd"


def test_call_above_the_day_budget_of_every_model_is_refused():
    error = refused(model="dear", max_tokens=2000)
    assert (error.field, "budget_usd_per_day of $1" in error.problem) == ("model", True)
    assert "another model" in error.remedy
    assert refused(route="costly", max_tokens=2000).field == "model"
    check_budgets(parse_job({"text": TEXT, "route": "both", "max_tokens": 2000}), CONFIG, {})


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"kind": "vote", "n": 5, "early_stop": "off", "max_tokens": 1}, False),
        ({"kind": "vote", "n": 5, "early_stop": "off", "max_tokens": 1, "policy": "partial"}, True),
        ({"kind": "vote", "n": 5, "max_tokens": 1}, True),
        ({"kind": "sections", "items": [TEXT] * 5, "max_tokens": 1}, False),
        ({"kind": "sections", "items": [TEXT] * 5, "max_tokens": 1, "policy": "partial"}, True),
        ({"kind": "sections", "items": [{"text": TEXT, "model": "free"}] * 5, "max_tokens": 1}, True),
        ({"kind": "sections", "split": "lines", "text": TEXT * 5, "max_tokens": 1}, False),
    ],
)
def test_parts_that_a_job_needs_count_and_no_others(fields, fits):
    request = {"model": "dear", "budget_usd": 0.03, **fields}
    if fits:
        check_budgets(parse_job({"text": TEXT, **request} if "items" not in fields else request), CONFIG, {})
    else:
        assert refused(**request).field == "budget_usd"


@pytest.mark.parametrize("fields", [{"model": "free", "budget_usd": 1e-9}, {"model": "cheap"}, {"model": "free"}])
def test_job_without_a_budget_or_a_price_needs_no_check(fields):
    assert not needs_check(parse_job({"text": TEXT, **fields}), CONFIG)
