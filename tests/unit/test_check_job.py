"""What is checked at the border, against a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.workflows.check_job import KINDS, check_job

CONFIG = Config.model_validate(
    {
        "models": {"fast": {"provider": "simulated"}, "slow": {"provider": "simulated"}},
        "routes": {"billing": {"models": ["fast"]}, "other": {"models": ["slow"]}},
        "default_route": "other",
        "limits": {"payload_bytes": 2000, "parts": 3},
    }
)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"text": "x", "kind": "essay"}, "kind: 'essay' is not known; allowed: sections, single, vote"),
        ({"text": "x", "route": "legal"}, "route: 'legal' is not known; allowed: billing, other"),
        ({"text": "x", "model": "route:legal"}, "model: 'legal' is not known; allowed: billing, other"),
        ({"text": "x", "model": "route:"}, "model: '' is not known; allowed: billing, other"),
        ({"text": "x", "model": "big"},
         "model: 'big' is not known; allowed: auto, fast, route:billing, route:other, slow"),
        ({"text": "x", "kind": "sections", "split": "chapters"},
         "split: 'chapters' is not known; allowed: files, headings"),
        ({"text": "x", "kind": "vote", "n": 3, "join": "best"},
         "join: 'best' is not known; allowed: best_of, concatenate"),
        ({"text": "x", "kind": "vote", "n": 3, "join": "concatenate"},
         "join: 'concatenate' does not go with kind 'vote'; allowed: best_of"),
        ({"items": ["x"], "kind": "sections", "join": "majority"},
         "join: 'majority' does not go with kind 'sections'; allowed: concatenate"),
        ({"text": "x", "join": "majority"},
         "join: 'majority' does not go with kind 'single'; allowed: none: a single job has one part"),
        ({"text": "x", "strategy": "best"}, "strategy: 'best' is not a strategy; allowed: adaptive, consis"),
        ({"text": "x", "webhook": "http://127.0.0.1/"}, "webhook: is not supported by this version; leave it out"),
        ({"text": "x", "response_schema": {"type": "objekt"}}, "response_schema: #/type breaks the rule"),
        ({"text": "x", "kind": "vote", "n": 3, "join": "threshold", "join_options": {"k": 4}},
         "join_options.k: is 4, but there are 3 votes; at most 3 can flag"),
        ({"text": "x", "kind": "vote", "n": 3, "join_options": {"k": 4}},
         "join_options.k: is not an option of this join; options of majority are: "),
        ({"text": "x", "kind": "vote", "n": 3, "join_options": {"answers": ["a", "A"]}}, "join_options.answers: "),
        ({"text": "x", "join_options": {"answers": ["a", "b"]}},
         "join_options: go with a join, and kind 'single' has none; leave them out"),
        ({"text": "x", "kind": "vote", "n": 3, "variety": {"models": ["big"]}},
         "variety.models[0]: 'big' is not known"),
        ({"text": "x", "kind": "vote", "n": 3, "join_model": "big"},
         "join_model: 'big' is not known; allowed: auto, fast"),
        ({"items": ["x"], "kind": "sections", "each": {"kind": "vote"}}, "each.n: is needed: how many votes"),
        ({"items": ["x"], "kind": "sections", "each": {"text": "y"}}, "each.text: can't be set by each"),
        ({"items": ["x"], "kind": "sections", "each": {"kind": "vote", "n": 3, "join": "table"}},
         "each.join: 'table' does not go with kind 'vote'"),
        ({"items": [{"text": "x", "route": "no"}], "kind": "sections"}, "items[0].route: 'no' is not known"),
        ({"items": [{"text": "x", "prompt": "file:no.md"}], "kind": "sections"}, "items[0].prompt: there is no prompt"),
        ({"text": "x", "parent": {"part": "a.0.0", "depth": 1}}, "parent: is set by Pointsman itself"),
        ({"text": "x" * 2000}, "text: the job has 2,"),
        ({"text": "x", "prompt": "x" * 2000}, "prompt: the job has 2,"),
        ({"messages": [{"role": "user", "content": "ü" * 1000}]}, "messages: the job has 2,"),
        ({"items": ["x"] * 4, "kind": "sections"}, "items: has 4 entries, the limit is 3; send several jobs, or raise"),
        ({"text": "\ud800"}, "text: is not Unicode; it holds half a surrogate pair"),
        ({"text": "x", "metadata": {"a": ["\udfff"]}}, "metadata: is not Unicode"),
    ],
)  # fmt: skip
def test_check_job_names_field_and_remedy(request_, problem):
    with pytest.raises(BadInput) as caught:
        check_job(parse_job(request_), CONFIG)
    assert str(caught.value).startswith(problem)


def test_check_job_starts_the_field_with_the_place_in_the_request():
    for request_, field in (({"model": "big"}, "[2].model"), ({"strategy": "best"}, "[2].strategy"),
                            ({"text": "x" * 3000}, "[2].text"), ({"kind": "essay"}, "[2].kind")):  # fmt: skip
        with pytest.raises(BadInput) as caught:
            check_job(parse_job({"text": "x", **request_}), CONFIG, at="[2]")
        assert caught.value.field == field


@pytest.mark.parametrize(
    "request_",
    [
        {"text": "x"},
        {"text": "x", "model": "slow", "route": "billing"},
        {"text": "x", "model": "route:billing", "strategy": "round_robin"},
        {"kind": "sections", "items": ["a", "b", "c"], "split": "list", "join": "concatenate"},
        {"kind": "sections", "text": "# a\nb", "split": "headings"},
        {"kind": "vote", "text": "x", "n": 5, "join": "majority", "early_stop": "exact", "prefer": "cost"},
        {"kind": "vote", "text": "x", "n": 5, "join_options": {"answers": ["yes", "no"]}},
        {"kind": "sections", "items": ["a"], "join_options": {"separator": " "}},
    ],
)
def test_check_job_passes_valid_jobs(request_):
    check_job(parse_job(request_), CONFIG)


def test_check_job_passes_every_kind_in_its_simplest_form():
    simplest: list[dict[str, Any]] = [
        {"kind": "single", "text": "x"},
        {"kind": "sections", "items": ["x"]},
        {"kind": "vote", "text": "x", "n": 1},
    ]
    for request_ in simplest:
        check_job(parse_job(request_), CONFIG)
    assert {request_["kind"] for request_ in simplest} == set(KINDS)
