"""The bytes that the parts of a job may repeat: a prompt of some megabytes is not kept a thousand times."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.loading.load import parse
from tasks.parallel.cut import cut_job, read_proposal
from tasks.parallel.part_limits import MOST_COPIED, check_copies
from tasks.workflows.check_job import check_job

PAYLOAD = 4096
CONFIG = parse(f"""
models: {{fast: {{provider: simulated, capacity: 1}}}}
routes: {{r: {{models: [fast]}}}}
default_route: r
limits: {{payload_bytes: {PAYLOAD}}}
""")
LONG = "x" * 3000
SECTIONS = {"kind": "sections", "items": ["a"] * 50}


def checked(**fields):
    job = parse_job(fields)
    check_copies(job, cut_job(job, most=10_000), CONFIG)


def test_check_copies_counts_the_text_once_for_each_proposed_child_job():
    plan = json.dumps({"sections": [{"title": "t", "brief": "b"}] * 12})
    for each, refused in ((None, False), ({}, True)):
        job = parse_job({"kind": "sections", "text": LONG, "split": "plan", "each": each})
        slices = read_proposal(job, plan)
        if refused:
            with pytest.raises(BadInput):
                check_copies(job, slices, CONFIG)
        else:
            check_copies(job, slices, CONFIG)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("variety", {"kind": "vote", "text": "q", "n": 50, "variety": {"prompts": [LONG]}}),
        ("split", {"kind": "sections", "text": f"{LONG},b\n" + "1,2\n" * 50, "split": "rows"}),
        ("each", {**SECTIONS, "prompt": LONG, "each": {}}),
        ("each", {**SECTIONS, "each": {"kind": "vote", "n": 2, "prompt": LONG}}),
        ("each", {**SECTIONS, "each": {}, "metadata": {"note": LONG}}),
        ("each", {**SECTIONS, "each": {}, "response_schema": {"description": LONG}}),
        ("items", {"kind": "sections", "items": [{"text": "a", "model": "fast"}] * 50, "prompt": LONG}),
    ],
)
def test_check_copies_refuses_repeated_values_beyond_the_limit(field, fields):
    with pytest.raises(BadInput) as caught:
        checked(**fields)
    assert caught.value.field == field
    assert LONG not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {**SECTIONS, "prompt": LONG},  # it stands in the job, once
        {**SECTIONS, "items": [LONG] * 10, "each": {}},  # what a job may bring, and little beside it
        {"kind": "vote", "text": LONG, "n": 50, "prompt": LONG},
        {"kind": "vote", "text": "q", "n": 10, "variety": {"prompts": [LONG]}},
    ],
)
def test_check_copies_accepts_values_kept_once_or_within_the_limit(fields):
    checked(**fields)


@given(st.integers(1, 40), st.integers(1, 3000))
def test_check_copies_limits_all_parts_together(votes, length):
    fields = {"kind": "vote", "text": "q", "n": votes, "variety": {"prompts": ["x" * length]}}
    if votes * length <= MOST_COPIED * PAYLOAD:
        checked(**fields)
    else:
        with pytest.raises(BadInput):
            checked(**fields)


def test_check_copies_measures_a_shared_value_once(monkeypatch):
    measured = []
    monkeypatch.setattr("tasks.parallel.part_limits.json.dumps", lambda value, **_: measured.append(value) or "")
    job = parse_job({"kind": "sections", "items": ["a"] * 500, "each": {}, "response_schema": {"type": "object"}})
    check_copies(job, cut_job(job, most=10_000), CONFIG)
    assert len(measured) <= 5


def test_check_refuses_a_plan_prompt_that_is_no_configured_file():
    job = parse_job({
        "kind": "sections", "text": "q", "split": "plan", "split_options": {"prompt": "file:none.md"},
    })  # fmt: skip
    with pytest.raises(BadInput, match=r"split_options\.prompt"):
        check_job(job, CONFIG)
