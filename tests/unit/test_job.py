"""The contract: jobs that are accepted, errors of those that are not, and the way through JSON."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contract.errors import BadInput
from tasks.contract.job import GIVEN, INPUTS, JOB_FIELDS, Job, has_text, new_id, parse_job, ulid
from tasks.contract.result import FINAL, Decision, JobState, Part, Result, Usage
from tasks.ledger.jobs import BULK
from tasks.loading import load_workflows
from tasks.parallel import part_spec
from tasks.workflows import steps

DEEP: dict[str, object] = {}
for _ in range(10_000):
    DEEP = {"not": DEEP}
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(has_text)


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        ([], "job", "must be a JSON object"),
        ({}, "text", "exactly one of text, messages, items and files is needed, got none"),
        ({"text": "x", "items": ["y"]}, "text", "got text and items"),
        ({"text": " \n"}, "text", "is empty; send the text"),
        ({"text": " \u200b\ufeff "}, "text", "is empty; send the text"),
        ({"kind": "sections", "items": ["x", "\u2060"]}, "items[1]", "is empty; leave it out"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "hold no content; send at least one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "'system', 'user' or 'assistant'"),
        ({"kind": "sections", "items": []}, "items", "is empty; send at least one"),
        ({"kind": "sections", "items": ["x", " "]}, "items[1]", "is empty; leave it out"),
        ({"items": ["x"]}, "items", '\'single\'; use "kind": "sections"'),
        ({"kind": "vote", "n": 3, "items": ["x"]}, "items", '\'vote\'; use "kind": "sections"'),
        ({"kind": "sections", "text": "x"}, "split", "is needed to cut a text into sections; name a split"),
        ({"kind": "sections", "items": ["x"], "split": "headings"}, "split", "items are cut already; leave split out"),
        ({"kind": "sections", "messages": [{"role": "user", "content": "x"}]}, "messages", "send text with split"),
        ({"kind": "vote", "text": "x"}, "n", "how many votes; for example"),
        ({"text": "x", "n": 3}, "n", "goes with votes alone"),
        ({"kind": "vote", "text": "x", "n": 0}, "n", "greater than or equal to 1"),
        ({"text": "x", "policy": "quorum"}, "quorum", "is needed by the policy quorum; say how many"),
        ({"text": "x", "quorum": 1}, "quorum", 'use "policy": "quorum"'),
        ({"kind": "vote", "text": "x", "n": 3, "policy": "quorum", "quorum": 4}, "quorum", "at most 3 can succeed"),
        ({"text": "x", "colour": "red"}, "colour", "is not a field of a job; fields are: schema_version, id, kind"),
        ({"text": "x", "priority": "urgent"}, "priority", "'high', 'normal' or 'low'"),
        ({"text": "x", "deadline": float("nan")}, "deadline", "should be"),
        ({"text": "x", "temperature": 3}, "temperature", "less than or equal to 2"),
        ({"text": "x", "kind": "vote", "n": True}, "n", "input should be a valid integer, not true or false"),
        ({"text": "x", "kind": "vote", "n": "5"}, "n", "input should be a valid integer, not a text"),
        ({"text": "x", "kind": "vote", "n": 5.5}, "n", "fractional"),
        ({"text": "x", "kind": "vote", "n": 10**10_000}, "n", "less than or equal to 1000"),
        ({"text": "x", "temperature": False}, "temperature", "input should be a valid number, not true or false"),
        ({"text": "x", "budget_usd": "1e3"}, "budget_usd", "input should be a valid number, not a text"),
        ({"text": "x", "seed": 2**63}, "seed", "less than 9223372036854775808"),
        ({"text": "x", "seed": 10**5000}, "seed", "less than"),
        (
            {"text": "x", "kind": "vote", "n": 2, "variety": {"seeds": [1, True]}},
            "variety.seeds[1]",
            "input should be a valid integer",
        ),
        ({"text": "x", "kind": "vote", "n": 2, "variety": {"seeds": [2**63]}}, "variety.seeds[0]", "less than"),
        ({"text": "x", "metadata": {"a": [float("nan")]}}, "metadata", "holds NaN, infinity"),
        ({"text": "x", "metadata": {"a": 10**400}}, "metadata", "a number beyond 1.8e308"),
        ({"text": "x", "response_schema": DEEP}, "response_schema", "is nested more than 64 levels deep"),
        ({"kind": "sections", "items": [{"text": "x", "response_schema": DEEP}]}, "items[0].response_schema", "nested"),
        ({"kind": "sections", "items": ["x"], "each": {"metadata": DEEP}}, "each", "is nested more than 64 levels"),
        ({"text": "x", "id": "../etc/passwd"}, "id", "should match pattern"),
        ({"text": "x", "id": "a" * 26 + "\n"}, "id", "should match pattern"),
        ({"text": "x", "schema_version": 2}, "schema_version", "should be 1"),
        ({"text": "x", "stop": ["a"] * 5}, "stop", "at most 4"),
        ({"text": "x", "split": "lines"}, "split", 'does not go with kind \'single\'; use "kind": "sections"'),
        ({"kind": "vote", "n": 2, "text": "x", "split": "lines"}, "split", 'with the vote in "each"'),
        ({"text": "x", "confidence": 0.9}, "confidence", 'use "kind": "vote"'),
        ({"kind": "sections", "text": "x", "split": "lines", "each": "vote"}, "each", "must be a JSON object"),
        ({"kind": "sections", "items": "x"}, "items", "must be a JSON array"),
        ({"kind": "sections", "items": ["a", 5]}, "items[1]", "must be a text, or a JSON object with a text"),
        ({"kind": "sections", "items": [{}]}, "items[0].text", "is needed"),
        ({"kind": "sections", "items": [{"text": "a", "titel": "b"}]}, "items[0].titel", "a field of an item; fields"),
        ({"kind": "sections", "items": [{"text": "a", "title": "b" * 201}]}, "items[0].title", "at most 200"),
        (
            {"kind": "vote", "n": 2, "text": "x", "variety": {"seed": [1]}},
            "variety.seed",
            "fields are: prompts, models",
        ),
        ({"files": []}, "files", "has no entries; at least 1"),
    ],
)
def test_parse_job_names_field_and_remedy(request_, field, says):
    with pytest.raises(BadInput) as caught:
        parse_job(request_)
    assert caught.value.field == field
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{field}: ")


def test_parse_job_starts_the_field_with_the_place_in_the_request():
    for request_ in ({"text": ""}, {"text": 3}, {"text": "x", "colour": 1}):
        with pytest.raises(BadInput) as caught:
            parse_job(request_, at="[3]")
        assert caught.value.field in {"[3].text", "[3].colour"}


def test_errors_of_parse_job_never_quote_the_input():
    secret = "xyzzy-secret"
    for request_ in ({"text": [secret]}, {"messages": [{"role": secret, "content": secret}]}, {"text": {"a": secret}}):
        with pytest.raises(BadInput) as caught:
            parse_job(request_)
        assert secret not in str(caught.value)


def test_job_is_frozen():
    job = Job(text="hello")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(job, "text", "other")  # noqa: B010 - the type checker refuses it too


@given(
    text=TEXTS,
    prompt=st.none() | TEXTS,
    priority=st.sampled_from(["high", "normal", "low"]),
    metadata=st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | TEXTS | st.lists(TEXTS)),
    deadline=st.none() | st.floats(min_value=0.001, max_value=86_400),
    stop=st.none() | TEXTS | st.lists(TEXTS, max_size=4),
)
def test_job_survives_json(text, prompt, priority, metadata, deadline, stop):
    job = parse_job({"text": text, "prompt": prompt, "priority": priority, "metadata": metadata,
                     "deadline": deadline, "stop": stop})  # fmt: skip
    assert parse_job(json.loads(job.model_dump_json())) == job


def test_result_survives_json():
    result = Result(
        id=new_id(),
        state="succeeded",
        kind="vote",
        output="yes",
        usage=Usage(input_tokens=1, output_tokens=2) + Usage(input_tokens=3),
        routing=Decision(route="a", classifier="rules", confidence=0.5, strategy="round_robin"),
        accepted_at=1.0,
        parts=(Part(index=0, state="succeeded", output="yes"),),
    )
    assert Result.model_validate_json(result.model_dump_json()) == result
    assert result.usage.input_tokens == 4
    assert result.final


def test_result_is_final_in_four_states():
    states = get_args(JobState)
    final = {state for state in states if Result(id="x", state=state, kind="single", accepted_at=0.0).final}
    assert final == FINAL == {"succeeded", "failed", "cancelled", "expired"}


@given(st.lists(st.integers(min_value=0, max_value=2**48 - 1), min_size=2, max_size=2, unique=True))
def test_ulids_sort_by_time(times):
    earlier, later = sorted(times)
    assert ulid(earlier, 2**80 - 1) < ulid(later, 0)


def test_new_id_is_valid_and_unique():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(Job(text="x", id=one).id == one for one in ids)


@pytest.mark.parametrize(
    ("request_", "route", "model"),
    [
        ({}, None, None),
        ({"model": "auto"}, None, None),
        ({"model": "route:billing"}, "billing", None),
        ({"route": "billing"}, "billing", None),
        ({"model": "fast"}, None, "fast"),
        ({"model": "fast", "route": "billing"}, "billing", "fast"),
        ({"model": "auto", "route": "billing"}, "billing", None),
    ],
)
def test_fixed_route_and_model_come_from_either_field(request_, route, model):
    job = Job(text="x", **request_)
    assert (job.fixed_route, job.fixed_model) == (route, model)


@pytest.mark.parametrize(
    ("request_", "question"),
    [
        ({"text": "hello"}, "hello"),
        ({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
                       {"role": "user", "content": "three"}]}, "three"),
        ({"messages": [{"role": "system", "content": "one"}, {"role": "assistant", "content": "two"}]}, "two"),
        ({"kind": "sections", "items": ["first", "second"]}, "first"),
    ],
)  # fmt: skip
def test_question_is_the_last_message_of_the_user(request_, question):
    assert parse_job(request_).question == question


def test_stop_accepts_one_sequence_without_a_list():
    assert parse_job({"text": "x", "stop": "END"}).stop == ("END",)


class TestFieldRules:
    """Every list of a job's fields follows from the rules at the fields."""

    def test_job_fields_all_have_a_rule(self):
        assert list(JOB_FIELDS) == list(Job.model_fields)

    @pytest.mark.parametrize(
        ("derived", "fields"),
        [
            (INPUTS, "text messages items files"),
            (BULK, "text messages items"),
            (
                GIVEN,
                (
                    "schema_version id text messages items files unread labels metadata priority deadline budget_usd"
                    " idempotency_key webhook parent"
                ),
            ),
            (
                part_spec._INHERITED,
                (
                    "prompt strategy priority_metric max_attempts retry_seconds temperature top_p max_tokens seed stop"
                    " response_schema on_truncated reasoning"
                ),
            ),
            (part_spec._ROUTING, "route routes model"),
            (
                load_workflows._OWN,
                (
                    "schema_version id text messages items files unread labels metadata priority deadline budget_usd"
                    " idempotency_key webhook parent key"
                ),
            ),
            (steps._HANDED_ON, "metadata labels priority key max_attempts retry_seconds on_truncated reasoning"),
            (
                steps._ALLOWED,
                (
                    "schema_version id kind text messages items files unread deadline budget_usd priority labels"
                    " metadata idempotency_key webhook parent key max_attempts retry_seconds on_truncated reasoning"
                ),
            ),
        ],
    )
    def test_derived_list_has_these_fields(self, derived, fields):
        assert len(derived) == len(set(derived))
        assert set(derived) == set(fields.split())


def test_parse_job_takes_a_number_without_fraction_for_an_integer():
    assert parse_job({"text": "x", "kind": "vote", "n": 5.0}).n == 5
    assert parse_job({"text": "x", "seed": -0.0}).seed == 0
