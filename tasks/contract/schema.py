"""JSON Schemas of answers (Draft 2020-12): checked once when the job is accepted, then applied to answers cheaply.

The producer writes the schema and a model writes the answer; neither may make a worker compute without end or fetch
anything. So no `$ref` may leave the schema, its size and depth are bounded, a match of a pattern takes at most
`PATTERN_STEPS`, and the check of an answer follows at most `STEPS` references.
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

from tasks.contract.validation import format_path

#: Bytes of a schema as JSON; those that providers accept are smaller.
MOST_BYTES = 64 * 1024
#: Checked schemas that are remembered: a check takes milliseconds, and all child jobs of a job have the same schema.
KEPT = 256
#: Levels of a schema.
MOST_DEPTH = 32
#: Characters of a pattern.
PATTERN_LENGTH = 256
#: Steps that a match may take, by the estimate of `_longest_match`: a few hundredths of a second.
PATTERN_STEPS = 5_000_000
#: References that the check of one answer may follow: references to references multiply.
STEPS = 10_000
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

#: The references that the check of this answer may still follow.
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


def _walk(schema: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each schema within a schema, with its place."""
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
            yield from _walk(value, f"{path}/{keyword}", depth + 1)
        for name, part in inner.items():
            yield from _walk(part, f"{path}/{keyword}/{name}", depth + 1)


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
        try:
            _longest_match(pattern)
        except ValueError as error:
            raise ValueError(f"{path}/{keyword} {error}") from None


def is_closed(schema: Any) -> bool:
    """Whether a provider can promise to keep a schema: objects require all their properties; no rarer keywords."""
    if not isinstance(schema, Mapping) or not _CLOSED.issuperset(schema):
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
    """The first mistake in an answer, by a schema that `check_schema` has passed."""
    token = _steps_left.set([STEPS])
    try:
        # An empty registry retrieves nothing, whatever a reference says.
        error = next(_BoundedValidator(schema, registry=Registry()).iter_errors(answer), None)
    except (_TooManySteps, RecursionError):
        return AnswerProblem("the answer", "takes too long to check", "$ref")
    except Unresolvable:
        return AnswerProblem("the answer", "can't be checked: a reference points at nothing", "$ref")
    finally:
        _steps_left.reset(token)
    if error is None:
        return None
    rule = "/".join(map(str, error.absolute_schema_path))
    return AnswerProblem(format_path(error.absolute_path) or "the answer", error.message, rule)


class _TooManySteps(Exception):
    """The check of an answer followed more references than allowed."""


def _follow(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[Any]:
    left = _steps_left.get()
    left[0] -= 1
    if left[0] < 0:
        raise _TooManySteps
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, target, instance, schema) or ()


def _match(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > _longest_match(pattern):
        yield jsonschema.ValidationError("is too long to be matched with its pattern")
    elif not re.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _match_names(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        longest = max(map(len, instance), default=0)
        if any(longest > _longest_match(pattern) for pattern in patterns):
            yield jsonschema.ValidationError("has a name that is too long to be matched with a pattern")
            return
    yield from Draft202012Validator.VALIDATORS["patternProperties"](validator, patterns, instance, schema) or ()


_BoundedValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"$ref": _follow, "pattern": _match, "patternProperties": _match_names}
)


# -- the cost of patterns --------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _longest_match(pattern: Any) -> int:
    """The length of the longest string that may be matched with a pattern.

    A backtracking engine takes up to length^r steps for r repeats of varying length, with one more factor where the
    match may begin anywhere; a repeat within a repeat of varying length takes exponential time.

    Raises:
        ValueError: for a pattern that is invalid, or too expensive for any string.
    """
    if not isinstance(pattern, str):
        raise ValueError("is no text")  # noqa: TRY004 - a mistake in the schema, like the others here
    if len(pattern) > PATTERN_LENGTH:
        raise ValueError(f"has more than {PATTERN_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = re._parser.parse(pattern)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public tree
    except (re.error, OverflowError, RecursionError):
        raise ValueError("is no regular expression that Python knows") from None
    power = _count_repeats(tree.data, within=False) + (0 if pattern.startswith("^") else 1)
    return int(PATTERN_STEPS ** (1 / max(power, 1)))


def _count_repeats(tree: Any, *, within: bool) -> int:
    """Count the repeats of varying length in a part of a pattern; `within`: the part is inside of such a repeat."""
    count = 0
    for operation, argument in tree:
        name = str(operation)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, body = argument
            varies = int(most) > 1 and least != most
            if varies and within:
                raise ValueError("repeats what already repeats; write it without the outer or the inner repeat")
            count += int(varies) + _count_repeats(body.data, within=within or varies)
        elif name == "BRANCH":
            if within:
                raise ValueError("repeats alternatives; write them as a class of characters, or bound the string")
            count += max(_count_repeats(branch.data, within=within) for branch in argument[1])
        elif name in {"GROUPREF", "GROUPREF_EXISTS"}:
            raise ValueError("refers back to a group; write it without")
        elif name in {"SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"}:
            body = argument[-1] if isinstance(argument, tuple) else argument
            count += _count_repeats(body.data, within=within)
    return count
