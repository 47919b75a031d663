"""Which parts of a job a model can take, and what it costs to find out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.loading.load import parse
from tasks.parallel.cut import cut_job
from tasks.workflows import planning

CONFIG = parse("""
models: {fast: {provider: simulated, capacity: 1, context_window: 100}}
routes: {r: {models: [fast]}}
default_route: r
""")
LONG = "word " * 1000


@pytest.fixture
def counted(monkeypatch):
    """The texts whose tokens were counted."""
    texts = []
    estimate = planning.estimate
    monkeypatch.setattr(planning, "estimate", lambda text: texts.append(text) or estimate(text))
    return texts


def fitting(**fields):
    job = parse_job(fields)
    calls = list(enumerate(cut_job(job, most=10_000)))
    return planning._select_fitting(SimpleNamespace(config=CONFIG), job, "r", calls)


def test_planning_counts_the_text_of_a_vote_once_for_all_votes(counted):
    places, errors, longest = fitting(kind="vote", text="yes or no?", n=1000)
    assert (len(places), errors) == (1000, {})
    assert 0 < longest < 10
    assert counted == ["yes or no?"]


def test_planning_counts_only_the_longest_of_sections_that_fit(counted):
    places, errors, _ = fitting(kind="sections", items=["one", "the longest of them", "two"])
    assert (places, errors) == ([0, 1, 2], {})
    assert counted == ["the longest of them"]


def test_section_that_is_too_long_fails_alone_where_the_policy_allows():
    places, errors, longest = fitting(kind="sections", items=["one", LONG, "two"], policy="partial")
    assert places == [0, 2]
    assert list(errors) == [1]
    assert "its window has 100" in errors[1]
    assert longest < 10
    with pytest.raises(BadInput, match="its window has 100"):
        fitting(kind="sections", items=["one", LONG])
