"""JSON Schemas of answers (Draft 2020-12): refused at the border where they can't be checked, then checked cheaply.

A schema is the producer's, an answer the model's: neither may make a worker compute without end or fetch anything. So
no `$ref` leaves the schema, its size and depth are bounded, a pattern has no more work to do than `PATTERN_STEPS`, and
an answer takes at most `STEPS` steps through references.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

__all__ = ["Problem", "check_schema", "is_closed", "problem_of"]

#: Bytes of a schema as JSON; those that providers accept are smaller.
MOST_BYTES = 64 * 1024
#: Schemas that passed and are not checked again: a check takes milliseconds, and a thousand jobs that are the sections
#: of one have the same.
KEPT = 256
#: Levels of a schema.
MOST_DEPTH = 32
#: Characters of a pattern.
PATTERN_LENGTH = 256
#: Steps that a match may take, by the estimate of `_pattern_reach`: a few hundredths of a second.
PATTERN_STEPS = 5_000_000
#: References that the check of one answer may follow: references to references multiply.
STEPS = 10_000
#: Keywords of the closed schemas that OpenAI and Anthropic promise to keep.
_STRICT = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "title", "description",
    "anyOf", "$ref", "$defs",
}  # fmt: skip
#: Keywords whose values are schemas by name, a list of schemas, or one schema.
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_LISTED = {"allOf", "anyOf", "oneOf", "prefixItems"}
_SINGLE = {
    "items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
}  # fmt: skip

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

_steps: ContextVar[list[int]] = ContextVar("steps")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an answer: `where` and `what` may quote it, `rule` is the schema's place and does not."""

    where: str
    what: str
    rule: str


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that can't be checked, or not cheaply.

    Raises:
        ValueError: saying what is wrong with it, and where.
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
    parts = list(_walk(schema, "#", 0))
    for path, part in parts:
        _check_part(path, part)
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


def _check_part(path: str, part: Mapping[str, Any]) -> None:
    """What the schema of schemas leaves open."""
    for keyword in ("$ref", "$dynamicRef"):
        target = part.get(keyword, "#")
        if not isinstance(target, str) or not target.startswith("#"):
            raise ValueError(f"{path}/{keyword} leaves the schema, and nothing is fetched")
    if "$id" in part:
        raise ValueError(f"{path}/$id gives it an address, and nothing is fetched; leave it out")
    if str(part.get("$schema", _DRAFT)).rstrip("#") != _DRAFT:
        raise ValueError(f"{path}/$schema is another draft than 2020-12")
    patterns = [("pattern", part["pattern"])] if "pattern" in part else []
    named = part.get("patternProperties")
    patterns += [("patternProperties", pattern) for pattern in (named if isinstance(named, Mapping) else ())]
    for keyword, pattern in patterns:
        try:
            _pattern_reach(pattern)
        except ValueError as error:
            raise ValueError(f"{path}/{keyword} {error}") from None


def problem_of(schema: Mapping[str, Any], answer: Any) -> Problem | None:
    """The first thing that is wrong with an answer, by a schema that `check_schema` has passed."""
    token = _steps.set([STEPS])
    try:
        error = next(_validator(schema).iter_errors(answer), None)
    except (_TooMuch, RecursionError):
        return Problem("the answer", "takes too long to check", "$ref")
    except Unresolvable:
        return Problem("the answer", "can't be checked: a reference points at nothing", "$ref")
    finally:
        _steps.reset(token)
    if error is None:
        return None
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    rule = "/".join(map(str, error.absolute_schema_path))
    return Problem(where.lstrip(".") or "the answer", error.message, rule)


def is_closed(schema: Any) -> bool:
    """Whether a provider can promise to keep it: each object lists all its properties, and no rarer keyword stands."""
    if not isinstance(schema, Mapping) or not _STRICT.issuperset(schema):
        return False
    properties = schema.get("properties", {})
    is_object = schema.get("type") == "object" or bool(properties)
    named = set(schema.get("required", ())) == set(properties)
    if is_object and not (named and schema.get("additionalProperties") is False):
        return False
    inner = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    return all(map(is_closed, inner)) and ("items" not in schema or is_closed(schema["items"]))


def _walk(schema: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each schema within a schema, with its place."""
    if not isinstance(schema, Mapping):
        return
    if depth > MOST_DEPTH:
        raise ValueError(f"has more than {MOST_DEPTH} levels")
    yield path, schema
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, Mapping):
            for name, part in value.items():
                yield from _walk(part, f"{path}/{keyword}/{name}", depth + 1)
        elif keyword in _LISTED and isinstance(value, list | tuple):
            for index, part in enumerate(value):
                yield from _walk(part, f"{path}/{keyword}/{index}", depth + 1)
        elif keyword in _SINGLE:
            yield from _walk(value, f"{path}/{keyword}", depth + 1)


class _TooMuch(Exception):
    """The check of an answer took more steps than allowed."""


def _follow(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[Any]:
    left = _steps.get()
    left[0] -= 1
    if left[0] < 0:
        raise _TooMuch
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, target, instance, schema) or ()


def _match(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > _pattern_reach(pattern):
        yield jsonschema.ValidationError("is too long to be matched with its pattern")
    elif not re.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _match_names(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        longest = max(map(len, instance), default=0)
        if any(longest > _pattern_reach(pattern) for pattern in patterns):
            yield jsonschema.ValidationError("has a name that is too long to be matched with a pattern")
            return
    yield from Draft202012Validator.VALIDATORS["patternProperties"](validator, patterns, instance, schema) or ()


_Bounded = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"$ref": _follow, "pattern": _match, "patternProperties": _match_names}
)


def _validator(schema: Mapping[str, Any]) -> Any:
    # An empty registry retrieves nothing, whatever a reference says.
    return _Bounded(schema, registry=Registry())


@lru_cache(maxsize=1024)
def _pattern_reach(pattern: Any) -> int:
    """The length of the strings that a pattern may be tried on.

    A backtracking engine takes up to length^r steps for r repeats that vary, one more factor where the match may begin
    anywhere; within a repeat that varies it is exponential.

    Raises:
        ValueError: for a pattern that is none, or too costly for any string.
    """
    if not isinstance(pattern, str):
        raise ValueError("is no text")  # noqa: TRY004 - the caller tells it as a mistake in the schema
    if len(pattern) > PATTERN_LENGTH:
        raise ValueError(f"has more than {PATTERN_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = re._parser.parse(pattern)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public tree
    except (re.error, OverflowError, RecursionError):
        raise ValueError("is no regular expression that Python knows") from None
    power = _varying(tree.data, within=False) + (0 if pattern.startswith("^") else 1)
    return int(PATTERN_STEPS ** (1 / max(power, 1)))


def _varying(tree: Any, *, within: bool) -> int:
    """How many repeats of varying length are in a part of a pattern."""
    count = 0
    for operation, argument in tree:
        name = str(operation)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, body = argument
            varies = int(most) > 1 and least != most
            if varies and within:
                raise ValueError("repeats what already repeats; write it without the outer or the inner repeat")
            count += int(varies) + _varying(body.data, within=within or varies)
        elif name == "BRANCH":
            if within:
                raise ValueError("repeats alternatives; write them as a class of characters, or bound the string")
            count += max(_varying(branch.data, within=within) for branch in argument[1])
        elif name in {"GROUPREF", "GROUPREF_EXISTS"}:
            raise ValueError("refers back to a group; write it without")
        elif name in {"SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"}:
            body = argument[-1] if isinstance(argument, tuple) else argument
            count += _varying(body.data, within=within)
    return count
