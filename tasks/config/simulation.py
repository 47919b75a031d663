"""The behaviour of a simulated model, without a clock or a server.

The caller supplies each draw, a number in [0, 1). `ops.embedded.simulated` takes it from a hash of the request, so that
a run can be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from tasks.contract.validation import Value

#: Letters a token: those of English text with current tokenizers, rounded.
LETTERS_A_TOKEN = 4

_T = TypeVar("_T")

_STANDARD_NORMAL = NormalDist()

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

#: A mapping: the first key that the last user message contains, in any case, decides (an empty key, put last, always
#: matches). A list: one of its answers, always the same for the same request.
Answers = Mapping[str, str] | tuple[str, ...]


class Constant(Value):
    """Always the same."""

    distribution: Literal["constant"] = "constant"
    seconds: Seconds

    def draw(self, share: float) -> float:  # noqa: ARG002 (all distributions have this signature)
        return self.seconds


class Uniform(Value):
    """Evenly distributed between `low` and `high`."""

    distribution: Literal["uniform"]
    low: Seconds
    high: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is greater than high; swap them")
        return self

    def draw(self, share: float) -> float:
        return self.low + share * (self.high - self.low)


class Exponential(Value):
    """`least` seconds, and an exponential wait on top; `mean` is the mean of the sum."""

    distribution: Literal["exponential"]
    mean: Seconds
    least: Seconds = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.mean:
            raise ValueError("least is greater than mean; the mean includes it")
        return self

    def draw(self, share: float) -> float:
        return self.least - (self.mean - self.least) * math.log1p(-share)


class Lognormal(Value):
    """Half of the times below `median`, with a long tail; `sigma` is the deviation of the logarithm.

    With `sigma` 0.5, the 95th percentile is 2.3 times the median; with 1.0, 5.2 times.
    """

    distribution: Literal["lognormal"]
    median: Seconds
    sigma: float = Field(ge=0, le=5)

    def draw(self, share: float) -> float:
        # The normal distribution has no quantile at 0, which a draw can be.
        return self.median * math.exp(self.sigma * _STANDARD_NORMAL.inv_cdf(max(share, 1e-12)))


def _constant(value: Any) -> Any:
    """Read a number as a constant time in seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"distribution": "constant", "seconds": value}
    return value


_Distribution = Annotated[Constant | Uniform | Exponential | Lognormal, Field(discriminator="distribution")]

#: Seconds until a model answers. Each has ``draw(share)``, its quantile function; a number means constant.
Latency = Annotated[_Distribution, BeforeValidator(_constant, json_schema_input_type=_Distribution | Seconds)]


class Outages(Value):
    """Every `every` seconds the model fails for `lasting` seconds, the first time after `every − lasting` good ones.

    During an outage each request gets the model's `error_status` after `after_s`: fast, as from a server that refuses,
    or from a proxy of a dead one.
    """

    every: float = Field(gt=0, le=86_400)
    lasting: float = Field(gt=0, le=86_400)
    after_s: Seconds = 0.005

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lasting > self.every:
            raise ValueError("lasting is greater than every; every is the whole cycle, good times and bad")
        return self

    def hold(self, at_s: float) -> bool:
        """Whether the model fails `at_s` seconds after its start."""
        return at_s % self.every >= self.every - self.lasting


class Simulation(Value):
    """A model that costs nothing and behaves as declared."""

    latency: Latency = Constant(seconds=0.0)
    #: Seconds for every token of the answer, added to the latency.
    per_token_s: Seconds = 0.0
    #: The share of requests that get `error_status`.
    error_rate: float = Field(default=0.0, ge=0, le=1)
    error_status: int = Field(default=503, ge=400, le=599)
    #: Periods in which every request fails fast; they are counted from the start of the server.
    outages: Outages | None = None
    #: Without answers, the model returns the beginning of the message, as JSON where a JSON Schema is requested.
    answers: Answers | None = None
    #: Answers to requests whose system message contains a key, in any case; the first such key decides. They take
    #: precedence over `answers`: so an answer may depend on the prompt.
    prompts: Mapping[str, Answers] | None = None
    #: More requests than this at once get a 429.
    concurrency: int | None = Field(default=None, ge=1)
    #: Requests a minute: a token bucket of that size. As with OpenAI, headers state how many requests are left and when
    #: the bucket is full again; a request that finds it empty gets a 429.
    rpm: int | None = Field(default=None, ge=1)
    #: How every request fails: with an HTTP 400, 401 or 404; with a 200 and a page of HTML or an empty body; without an
    #: answer, ever; or by a closed connection.
    failure: Literal["none", "bad_request", "unauthorized", "not_found", "html", "empty", "never", "reset"] = "none"

    @model_validator(mode="after")
    def _has_answers(self) -> Self:
        if self.answers is not None and not self.answers:
            raise ValueError("answers is empty; leave it out to get the beginning of the message back")
        if self.prompts is not None and not all(self.prompts.values()):
            raise ValueError("prompts holds a key without answers; leave it out")
        return self

    def answer(
        self, model: str, text: str, share: float, *, prompt: str = "", schema: Mapping[str, Any] | None = None
    ) -> str:
        """The answer of `model` to `text`, the last user message, under the system message `prompt`.

        `share` picks from a list of answers. Without declared answers, the answer has the shape of `schema`.
        """
        for answers in (_find(self.prompts or {}, prompt), self.answers):
            answer = _find(answers, text) if isinstance(answers, Mapping) else _pick(answers or (), share)
            if answer is not None:
                return answer
        words = text.split(maxsplit=12)
        echo = f"[simulated {model}] {' '.join(words[:12])}" + (" …" if len(words) > 12 else "")
        return echo if schema is None else json.dumps(make_specimen(schema, echo), ensure_ascii=False)


def _find(by_key: Mapping[str, _T], text: str) -> _T | None:
    """The value of the first key that `text` contains, in any case."""
    lowered = text.lower()
    return next((value for key, value in by_key.items() if key.lower() in lowered), None)


def _pick(answers: tuple[str, ...], share: float) -> str | None:
    return answers[int(share * len(answers))] if answers else None


def count_tokens(text: str) -> int:
    """Estimate the tokens of `text`: a quarter of its letters, rounded up. Scripts other than Latin have more."""
    return -(-len(text) // LETTERS_A_TOKEN)


#: Levels of schemas that are followed: a schema may refer to itself.
DEEPEST = 12
#: Items of an array at most.
MOST_ITEMS = 100


def make_specimen(schema: Mapping[str, Any], text: str) -> Any:
    """Make the smallest value that satisfies the common keywords of `schema`; strings are `text`.

    Objects have their required properties, arrays one item or as many as they need, numbers their minimum. Patterns,
    formats and combinations of schemas (``allOf``, ``not``) are not understood.
    """
    return _make(schema, text, schema, DEEPEST)


def _make(schema: Any, text: str, whole: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return text
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    if (other := _delegate(schema, whole)) is not None:
        return _make(other, text, whole, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or (kind is None and "properties" in schema):
        known = schema.get("properties") or {}
        wanted = schema.get("required") or list(known)
        return {name: _make(known.get(name, {}), text, whole, depth - 1) for name in wanted}
    if kind == "array":
        least = max(int(schema.get("minItems", 0)), min(1, int(schema.get("maxItems", 1))))
        return [_make(schema.get("items", {}), text, whole, depth - 1) for _ in range(min(least, MOST_ITEMS))]
    plain = {"boolean": False, "null": None, "integer": _number(schema), "number": _number(schema)}
    return plain.get(str(kind), _text(schema, text))


def _delegate(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """The schema that stands for this one: the target of its reference, or the first of its alternatives."""
    if isinstance(schema.get("$ref"), str):
        return _resolve(schema["$ref"], whole)
    several = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if schema.get(word)), None)
    return None if several is None else several[0]


def _number(schema: Mapping[str, Any]) -> Any:
    if "exclusiveMinimum" in schema:
        return math.floor(schema["exclusiveMinimum"]) + 1
    least = math.ceil(schema.get("minimum", 0))
    return min(least, schema.get("maximum", least))


def _text(schema: Mapping[str, Any], text: str) -> str:
    padded = text.ljust(min(int(schema.get("minLength", 0)), 10_000), ".")
    return padded[: int(schema["maxLength"])] if "maxLength" in schema else padded


def _resolve(name: str, whole: Mapping[str, Any]) -> Any:
    found: Any = whole
    for step in name.removeprefix("#").split("/"):
        if step:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return found
