"""Schemas that can't be checked, or not cheaply, are refused; what passes is checked without surprise."""

from __future__ import annotations

import time

import pytest

from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.schema import PATTERN_LENGTH, check_schema, find_problem, is_closed
from tasks.loading.load import parse
from tasks.workflows.check_job import check_job

CONFIG = parse("models: {m: {provider: openai, base_url: 'http://x/v1'}}\nroutes: {r: {models: [m]}}\ndefault_route: r")
DEEP: dict[str, object] = {}
for _ in range(40):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "#/type breaks the rule"),
        ({"properties": {"a": {"minimum": "x"}}}, "#/properties/a/minimum breaks the rule type"),
        ({"properties": []}, "#/properties breaks the rule type"),
        ({"$ref": "https://example.com/schema.json"}, "leaves the schema, and nothing is fetched"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "#/items/$ref leaves the schema"),
        ({"$dynamicRef": "other#x"}, "leaves the schema"),
        ({"$id": "https://example.com/x", "type": "object"}, "nothing is fetched; leave it out"),
        ({"$ref": "#/$defs/none"}, "#/$ref points at nothing"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "another draft"),
        ({"pattern": "("}, "#/pattern is no regular expression"),
        ({"pattern": r"(a)\1"}, "#/pattern is no regular expression of RE2"),
        ({"patternProperties": {"(?=a)b": {}}}, "it has no look-around and no references back"),
        ({"pattern": "a" * (PATTERN_LENGTH + 1)}, "has 257 characters, at most 256"),
        ({"pattern": "a{1000}{1000}"}, "#/pattern is no regular expression of RE2"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "in unbounded time"),
        ({"description": "x" * 70_000}, "the limit is 65,536"),
        (DEEP, "has more than 32 levels"),
        ({"allOf": [{}] * 3001}, "holds more than 3,000 schemas"),
    ],
)
def test_check_schema_refuses_schemas_that_can_t_be_checked(schema, problem):
    with pytest.raises(BadInput) as caught:
        check_job(Job(text="x", response_schema=schema), CONFIG, at="[3]")
    assert caught.value.field == "[3].response_schema"
    assert problem in caught.value.problem
    assert "JSON Schema of draft 2020-12" in caught.value.remedy


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}},
        {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "enum": ["a"]},
        {"pattern": r"^\d{4}-\d{2}-\d{2}$"},
        {"pattern": r"^[a-z]+@[a-z]+\.(com|org)$"},
        {"const": {"$ref": "https://example.com"}},
    ],
)
def test_check_schema_accepts_schemas_that_can_be_checked(schema):
    check_job(Job(text="x", response_schema=schema), CONFIG)


def test_find_problem_names_the_places_in_answer_and_schema():
    schema = {"properties": {"ages": {"items": {"type": "integer"}}}}
    problem = find_problem(schema, {"ages": [1, "two"]})
    assert (problem.where, problem.rule) == ("ages[1]", "properties/ages/items/type")
    assert problem.what == "'two' is not of type 'integer'"
    assert find_problem(schema, {"ages": [1, 2]}) is None


def test_find_problem_matches_patterns_in_bounded_time():
    assert find_problem({"pattern": "^a+$"}, "aaa") is None
    assert "does not match" in find_problem({"pattern": "^a+$"}, "b").what
    started = time.process_time()
    for pattern in ("a*a*a*b", "^.*.*.*=x$", "x+y", "^(a+)+$x", "^(a|a)*b$", "(a*)*b"):
        check_schema({"pattern": pattern})
        assert find_problem({"pattern": pattern}, "a" * 30_000) is not None
        names = {"patternProperties": {pattern: {}}, "additionalProperties": False}
        check_schema(names)
        assert "were unexpected" in find_problem(names, {"a" * 30_000: 1, "c": 1}).what
    assert find_problem({"patternProperties": {"^a": {"type": "null"}}}, {"ab": 1}).where == "ab"
    others = {"patternProperties": {"^a": {}}, "additionalProperties": {"type": "null"}}
    assert find_problem(others, {"ab": 1, "b": None}) is None
    assert find_problem(others, {"ab": 1, "b": 1}).where == "b"
    assert find_problem({"pattern": "b"}, "\ud800") is not None
    assert time.process_time() - started < 5


def test_find_problem_ends_where_references_multiply():
    defs = {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(40)}
    schema = {"$defs": {**defs, "d40": {}}, "$ref": "#/$defs/d0"}
    check_schema(schema)
    started = time.process_time()
    assert find_problem(schema, 1).what == "takes too long to check"
    assert time.process_time() - started < 20


def test_find_problem_ends_where_a_reference_is_circular():
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    check_schema(schema)
    assert find_problem(schema, 1).what == "takes too long to check"


def nested(levels, wrap):
    schema = {"type": "object"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (nested(30, lambda s: {"allOf": [s], "unevaluatedProperties": True}), {"a": 1, "b": 2}),
        (nested(30, lambda s: {"anyOf": [s], "oneOf": [s], "unevaluatedProperties": True})["anyOf"][0], {"a": 1}),
        ({"items": {"anyOf": [{"const": number} for number in range(1000)]}}, [999] * 5000),
        ({"items": {"enum": list(range(5000))}}, [4999] * 200_000),
        ({"patternProperties": {f"{n}$": {} for n in range(1000)}}, {str(n): 1 for n in range(5000)}),
        ({"anyOf": [{"type": "object"}] * 1000}, "x" * 8_000_000),
    ],
)
def test_find_problem_ends_where_steps_multiply(schema, answer):
    started = time.process_time()
    assert find_problem(schema, answer).what == "takes too long to check"
    assert time.process_time() - started < 30


def test_find_problem_compares_elements_in_linear_time():
    started = time.process_time()
    unique = {"uniqueItems": True}
    assert find_problem(unique, [{"a": [number]} for number in range(50_000)]) is None
    assert find_problem(unique, [{"a": 1, "b": []}, {"b": [], "a": 1.0}]).what == "has elements that are equal"
    assert find_problem(unique, [1, True, "1", [1], {"a": 1}, {"a": True}, 0, False, None]) is None
    assert time.process_time() - started < 10


def test_find_problem_passes_a_large_answer_of_a_usual_schema():
    row = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}, "required": ["a"]}
    assert find_problem({"type": "array", "items": row}, [{"a": number, "b": "x"} for number in range(20_000)]) is None


def test_is_closed_needs_all_properties_required():
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert is_closed(closed)
    assert is_closed({"type": "array", "items": closed})
    assert not is_closed(closed | {"additionalProperties": True})
    assert not is_closed(closed | {"required": []})
    assert not is_closed(closed | {"minProperties": 1})
    assert not is_closed({"type": "array", "items": {"type": "object"}})
