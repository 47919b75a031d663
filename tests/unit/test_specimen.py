"""What a simulated model answers where a schema is asked for."""

from __future__ import annotations

import jsonschema
import pytest

from tasks.config.simulation import make_specimen

RISK = {
    "type": "object",
    "properties": {
        "risk": {"type": "string", "minLength": 3},
        "severity": {"type": "integer", "minimum": 1, "maximum": 5},
        "kind": {"enum": ["legal", "money"]},
        "seen": {"type": "boolean"},
        "note": {"type": ["null", "string"]},
    },
    "required": ["risk", "severity", "kind", "seen", "note"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        RISK,
        {"type": "object", "properties": {"risks": {"type": "array", "items": RISK, "minItems": 2}}},
        {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
        {"type": "array", "maxItems": 0},
        {"$defs": {"one": {"const": 7}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/one"}}},
        {"anyOf": [{"type": "integer", "maximum": -2}, {"type": "string"}]},
        {"type": "string", "maxLength": 4},
        {},
        True,
    ],
)  # fmt: skip
def test_make_specimen_satisfies_the_schema(schema):
    jsonschema.validate(make_specimen(schema, "[simulated] text"), schema)


def test_make_specimen_of_a_recursive_schema_ends():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
    assert "next" in make_specimen({"$defs": {"node": node}, "$ref": "#/$defs/node"}, "x")
