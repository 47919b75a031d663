"""JSON Schemas of answers (Draft 2020-12): checked once when the job is accepted, then applied to answers cheaply.

The producer writes the schema and a model writes the answer; neither may make a worker compute without end or fetch
anything. So no `$ref` may leave the schema, its size and depth are bounded, RE2 matches its patterns, and the check of
an answer takes a bounded number of steps: references to references multiply, and so do `unevaluatedProperties` within
one another, a hundred alternatives for each of a million elements, and messages that quote an answer of megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from tasks.contract.regex import as_unicode, compile_regex
from tasks.contract.validation import format_path

#: Bytes of a schema as JSON; those that providers accept are smaller.
MOST_BYTES = 64 * 1024
#: Checked schemas that are remembered: a check takes milliseconds, and all child jobs of a job have the same schema.
KEPT = 256
#: Levels of a schema.
MOST_DEPTH = 32
#: Characters of a pattern.
PATTERN_LENGTH = 256
#: Schemas within a schema: the server checks some thousands a second.
MOST_PARTS = 3_000
#: Steps that the check of one answer may take: so many, more for each value in it, and never above the last. A step is
#: a keyword that is applied, or an entry that it looks at; some 500,000 take a second.
STEPS, STEPS_A_VALUE, MOST_STEPS = 200_000, 50, 3_000_000
#: Keywords that look at each entry of the answer; the others look at some, or at none.
_PER_ENTRY = {
    "items", "prefixItems", "contains", "additionalProperties", "patternProperties", "propertyNames", "const", "enum",
    "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
}  # fmt: skip
#: Keywords of the closed schemas that OpenAI and Anthropic promise to keep.
_CLOSED = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "title", "description",
    "anyOf", "$ref", "$defs",
}  # fmt: skip
#: Keywords whose value is a mapping of schemas, a list of schemas, or one schema.
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_LISTED = {"allOf", "anyOf", "oneOf", "prefixItems"}
_SINGLE = {
    "items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
}  # fmt: skip

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

#: The steps that the check of this answer may still take.
_steps_left: ContextVar[list[int]] = ContextVar("steps_left")


@dataclass(frozen=True, slots=True)
class AnswerProblem:
    """A mistake in an answer. `where` and `what` may quote the answer; `rule`, the place in the schema, does not."""

    where: str
    what: str
    rule: str


# -- the schema ------------------------------------------------------------------------------------------------


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that can't be checked, or not cheaply.

    Raises:
        ValueError: with the place in the schema and the problem.
    """
    try:
        text = json.dumps(schema)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if len(text) > MOST_BYTES:
        raise ValueError(f"has {len(text):,} bytes, the limit is {MOST_BYTES:,}")
    _check(text)


@lru_cache(maxsize=KEPT)
def _check(text: str) -> None:
    schema = json.loads(text)
    parts = list(islice(walk_schema(schema, "#", 0), MOST_PARTS + 1))
    if len(parts) > MOST_PARTS:
        raise ValueError(f"holds more than {MOST_PARTS:,} schemas")
    for path, part in parts:
        _check_part(path, part)
    keywords = {keyword for _, part in parts for keyword in part}
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        raise ValueError("has patternProperties and unevaluatedProperties, which would be matched in unbounded time")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, ("#", *error.absolute_path)))
        raise ValueError(f"{place} breaks the rule {error.validator} of JSON Schema 2020-12") from None
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for path, part in parts:
        try:
            resolver.lookup(part.get("$ref", "#"))
        except Unresolvable:
            raise ValueError(f"{path}/$ref points at nothing") from None


def walk_schema(schema: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each schema within a schema, the whole one first, with its place.

    Raises:
        ValueError: for more than `MOST_DEPTH` levels.
    """
    if not isinstance(schema, Mapping):
        return
    if depth > MOST_DEPTH:
        raise ValueError(f"has more than {MOST_DEPTH} levels")
    yield path, schema
    for keyword, value in schema.items():
        inner: Mapping[Any, Any] = {}
        if keyword in _NAMED and isinstance(value, Mapping):
            inner = value
        elif keyword in _LISTED and isinstance(value, list):
            inner = dict(enumerate(value))
        elif keyword in _SINGLE:
            yield from walk_schema(value, f"{path}/{keyword}", depth + 1)
        for name, part in inner.items():
            yield from walk_schema(part, f"{path}/{keyword}/{name}", depth + 1)


def _check_part(path: str, part: Mapping[str, Any]) -> None:
    """Check what the schema of JSON Schema itself allows, and we don't."""
    for keyword in ("$ref", "$dynamicRef"):
        target = part.get(keyword, "#")
        if not isinstance(target, str) or not target.startswith("#"):
            raise ValueError(f"{path}/{keyword} leaves the schema, and nothing is fetched")
    if "$id" in part:
        raise ValueError(f"{path}/$id gives it an address, and nothing is fetched; leave it out")
    if str(part.get("$schema", _DRAFT)).rstrip("#") != _DRAFT:
        raise ValueError(f"{path}/$schema is another draft than 2020-12")
    named = part.get("patternProperties")
    patterns = [("patternProperties", pattern) for pattern in (named if isinstance(named, Mapping) else ())]
    if "pattern" in part:
        patterns.insert(0, ("pattern", part["pattern"]))
    for keyword, pattern in patterns:
        if not isinstance(pattern, str):
            raise ValueError(f"{path}/{keyword} is no text")  # noqa: TRY004 - a mistake in the schema, like the others
        try:
            compile_regex(pattern, most=PATTERN_LENGTH)
        except ValueError as error:
            raise ValueError(f"{path}/{keyword} {error}") from None


def is_closed(schema: Any) -> bool:
    """Whether a provider can promise to keep a schema: typed, all properties required, and no rarer keywords."""
    if not isinstance(schema, Mapping) or not _CLOSED.issuperset(schema):
        return False
    # OpenAI needs a type everywhere, and nothing beside a reference.
    if not {"type", "anyOf", "$ref"} & schema.keys() or ("$ref" in schema and not schema.keys() <= {"$ref", "$defs"}):
        return False
    properties = schema.get("properties", {})
    is_object = schema.get("type") == "object" or bool(properties)
    requires_all = set(schema.get("required", ())) == set(properties)
    if is_object and not (requires_all and schema.get("additionalProperties") is False):
        return False
    inner = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    return all(map(is_closed, inner)) and ("items" not in schema or is_closed(schema["items"]))


# -- the answer ------------------------------------------------------------------------------------------------


def find_problem(schema: Mapping[str, Any], answer: Any) -> AnswerProblem | None:
    """The first mistake in an answer, by a schema that `check_schema` has passed.

    It takes up to a second for a short answer, and for one of megabytes several: those are checked in a thread.
    """
    token = _steps_left.set([min(STEPS + STEPS_A_VALUE * _count_values(answer), MOST_STEPS)])
    try:
        # An empty registry retrieves nothing, whatever a reference says.
        error = next(_BoundedValidator(schema, registry=Registry()).iter_errors(answer), None)
    except (_TooManySteps, RecursionError):
        return AnswerProblem("the answer", "takes too long to check", "")
    except Unresolvable:
        return AnswerProblem("the answer", "can't be checked: a reference points at nothing", "$ref")
    finally:
        _steps_left.reset(token)
    if error is None:
        return None
    rule = "/".join(map(str, error.absolute_schema_path))
    return AnswerProblem(format_path(error.absolute_path) or "the answer", error.message, rule)


class _TooManySteps(Exception):
    """The check of an answer took more steps than allowed."""


def _take(steps: int) -> None:
    left = _steps_left.get()
    left[0] -= steps
    if left[0] < 0:
        raise _TooManySteps


def _count_values(answer: Any) -> int:
    """The number of values in an answer, itself and those within it."""
    count, level = 0, [answer]
    while level:
        count += len(level)
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                below.extend(value.values() if isinstance(value, dict) else value)
        level = below
    return count


def _counted(keyword: str, apply: Any, validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Apply a keyword, and count the steps."""
    steps = 1 + (len(value) if isinstance(value, list | dict) else 0)
    if keyword in _PER_ENTRY:
        steps += len(instance) if isinstance(instance, list | dict) else 0
    if keyword in {"const", "enum"}:
        steps += _count_values(value)
    _take(steps)
    for error in apply(validator, value, instance, schema) or ():
        # It quotes the answer, and `anyOf` keeps it.
        _take(len(error.message) // 10)
        yield error


def _check_unique(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """`uniqueItems`, where jsonschema compares each two elements."""
    if unique and validator.is_type(instance, "array"):
        _take(_count_values(instance))
        if len({_identity(element) for element in instance}) < len(instance):
            yield jsonschema.ValidationError("has elements that are equal")


def _identity(value: Any) -> Any:
    """The same for two values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _identity(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(map(_identity, value))
    return (bool, value) if isinstance(value, bool) else value


def _matches(pattern: str, text: str) -> bool:
    _take(1 + len(text) // 100)
    return compile_regex(pattern, most=PATTERN_LENGTH).search(as_unicode(text)) is not None


def _match(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _match_names(validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _check_others(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """`additionalProperties`: as jsonschema checks it, but for its own match of the names with Python's `re`."""
    patterns = schema.get("patternProperties", {})
    if patterns and validator.is_type(instance, "object"):
        instance = {name: value for name, value in instance.items() if not any(_matches(one, name) for one in patterns)}
        schema = {name: value for name, value in schema.items() if name != "patternProperties"}
    yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, inner, instance, schema) or ()


_OWN = {
    "pattern": _match,
    "patternProperties": _match_names,
    "additionalProperties": _check_others,
    "uniqueItems": _check_unique,
}
_BoundedValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        keyword: partial(_counted, keyword, _OWN.get(keyword, apply))
        for keyword, apply in Draft202012Validator.VALIDATORS.items()
    },
)
