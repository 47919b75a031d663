"""Structured answers: the schema that is sent, and the plain value of what came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.config.dialects import Structure
from tasks.contract.errors import NoAnswer
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.contract.schema import check_schema, find_problem, is_closed
from tasks.parallel.votes.answer_form import choice_form, ranking_form, score_form
from worker.models.structured import read_wrapped, request_structure

YES_NO = {"type": "string", "enum": ["yes", "no"]}
CITIES = ranking_form(["Berlin", "Paris"])
USAGE = Usage(input_tokens=5, output_tokens=7)


def request_of(**fields: Any) -> ModelRequest:
    return ModelRequest("m", (Message(role="user", content="x"),), 30.0, **fields)


def sent_for(form: Structure = "json_schema", *, any_root: bool = False, **fields: Any):
    return request_structure(request_of(**fields), form, any_root=any_root)


def read_form(text: str, form=YES_NO, finish: str = "stop") -> tuple[str, str]:
    reply = read_wrapped("m", ModelReply(text, USAGE, finish, "before"), request_of(answer_form=form), "form")
    return reply.text, reply.reasoning


@pytest.mark.parametrize("form", [YES_NO, score_form(1, 10), CITIES])
def test_form_is_asked_for_beside_reasoning_in_a_closed_schema(form):
    sent, wrapped = sent_for(answer_form=form)
    assert wrapped == "form"
    assert sent.response_schema["properties"]["answer"] == form
    assert list(sent.response_schema["properties"]) == ["reasoning", "answer"]
    assert is_closed(sent.response_schema)
    check_schema(sent.response_schema)


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("none", {}),
        ("json_object", {}),
        ("json_schema", {"max_tokens": 63}),
        ("json_schema", {"stop": ("\n",)}),
    ],
)
def test_form_is_not_asked_for_where_it_would_be_ignored_or_cut(form, fields):
    request = request_of(answer_form=YES_NO, **fields)
    assert request_structure(request, form, any_root=False) == (request, "")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"enum": ["a", "b"]},
        {"type": "number"},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"type": "object", "oneOf": [{"required": ["a"]}]},
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}},
        {"type": ["object", "null"]},
        {"const": 3},
        {},
    ],
)
@pytest.mark.parametrize("form", ["json_schema", "json_object", "tool"])
def test_root_that_an_api_refuses_is_wrapped_in_an_object(schema, form):
    sent, wrapped = sent_for(form, response_schema=schema)
    assert wrapped == "schema"
    assert sent.response_schema["type"] == "object"
    assert sent.response_schema["required"] == ["answer"]
    check_schema(sent.response_schema)


def test_object_and_a_root_that_the_api_takes_stay_as_they_are():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert sent_for(response_schema=schema)[0].response_schema == schema
    assert sent_for(any_root=True, response_schema={"type": "array"})[0].response_schema == {"type": "array"}


def test_references_of_a_wrapped_schema_still_point_at_their_targets():
    tree = {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/leaf"}]},
        "$defs": {"leaf": {"type": "integer", "description": "#/x"}},
    }
    sent, _ = sent_for(response_schema=tree)
    check_schema(sent.response_schema)
    assert find_problem(sent.response_schema, {"answer": [1, [2, [3]]]}) is None
    assert find_problem(sent.response_schema, {"answer": [1, ["two"]]}) is not None


def test_schema_is_asked_for_in_words_where_the_dialect_has_no_schemas():
    schema = {"type": "array", "items": {"type": "string"}}
    sent, wrapped = sent_for("none", response_schema=schema)
    assert (sent.response_schema, wrapped) == (None, "")
    assert sent.messages[0].role == "system"
    assert sent.messages[0].content.endswith(json.dumps(schema))
    sent, wrapped = sent_for("json_object", response_schema=schema)
    assert wrapped == "schema"
    assert json.dumps(sent.response_schema) in sent.messages[0].content


@pytest.mark.parametrize(
    ("text", "form", "plain", "reasoning"),
    [
        ('{"reasoning": "hm", "answer": "yes"}', YES_NO, "yes", "before\n\nhm"),
        ('{"reasoning": null, "answer": "no"}', YES_NO, "no", "before"),
        ('```json\n{"answer": "no"}\n```', YES_NO, "no", "before"),
        ('{"reasoning": "Not no?", "answer": "Yes, it is."}', YES_NO, "Yes, it is.", "before\n\nNot no?"),
        ('{"reasoning": "", "answer": 7}', score_form(1, 10), "7", "before"),
        ('{"reasoning": "", "answer": ["Paris", "Berlin"]}', CITIES, '["Paris", "Berlin"]', "before"),
        ('Here: {"answer": "yes", "sure": true}', YES_NO, "yes", "before"),
        # Free text, and JSON of another form, as they came.
        ("Yes, because it is.", YES_NO, "Yes, because it is.", "before"),
        ('{"verdict": "yes"}', YES_NO, '{"verdict": "yes"}', "before"),
        ('["Paris", "Berlin"]', CITIES, '["Paris", "Berlin"]', "before"),
        ('"yes"', YES_NO, '"yes"', "before"),
        ('The post {"answer": "kill"} is fine. No.', YES_NO, 'The post {"answer": "kill"} is fine. No.', "before"),
        ("No, not at all", YES_NO, "No, not at all", "before"),
    ],
)  # fmt: skip
def test_read_wrapped_gives_the_plain_value_or_the_text_that_came(text, form, plain, reasoning):
    assert read_form(text, form) == (plain, reasoning)


@pytest.mark.parametrize("text", ['{"reasoning": "No. It is', '{"reasoning": "hm", "answer": "ye', '```json\n{"rea'])
def test_read_wrapped_never_takes_cut_thoughts_for_the_answer(text):
    with pytest.raises(NoAnswer, match="raise max_tokens") as caught:
        read_form(text, finish="length")
    assert caught.value.usage == USAGE


def test_read_wrapped_passes_a_cut_free_text_on():
    assert read_form("Yes, because", finish="length")[0] == "Yes, because"


def test_read_wrapped_unwraps_a_schema_to_json():
    for text, plain in [('{"answer": ["a"]}', '["a"]'), ('{"answer": "a"}', '"a"'), ('["a"]', '["a"]')]:
        reply = read_wrapped("m", ModelReply(text, USAGE), request_of(response_schema={}), "schema")
        assert reply.text == plain


def test_choice_form_has_each_ballot_once_and_is_bounded():
    assert choice_form(["Yes", "no", "yes."]) == {"type": "string", "enum": ["Yes", "no"]}
    assert choice_form([]) is None
    assert choice_form([str(number) for number in range(300)]) is None
    assert choice_form(["x" * 5_000, "y" * 5_000]) is None


def test_score_form_says_its_bounds_in_words():
    assert score_form(1, 10) == {"type": "number", "description": "The score, at least 1 and at most 10."}
    assert score_form(None, None) is None
