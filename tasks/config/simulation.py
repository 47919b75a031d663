"""How a simulated model behaves: values, and what follows from them without a clock or a server.

A draw is a number in [0, 1) given by the caller. `ops.embedded.simulated` takes it from a hash of the
request, so that a run can be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from tasks.contract.specimen import specimen
from tasks.contract.validation import Value

__all__ = [
    "Constant",
    "Exponential",
    "Latency",
    "Lognormal",
    "Outages",
    "Simulation",
    "Uniform",
    "count_tokens",
]

#: Letters a token: what English text has with the tokenizers of today, rounded.
LETTERS_A_TOKEN = 4

_T = TypeVar("_T")

_STANDARD_NORMAL = NormalDist()

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

#: A mapping: the first key that is found in the last user message, whatever its case, decides (an empty key, put last,
#: is always found). A list: one of them, always the same for the same request.
Answers = Mapping[str, str] | tuple[str, ...]


class Constant(Value):
    """Always the same."""

    distribution: Literal["constant"] = "constant"
    seconds: Seconds

    def draw(self, share: float) -> float:  # noqa: ARG002 (all distributions are asked alike)
        return self.seconds


class Uniform(Value):
    """Any time between `low` and `high`, each as likely."""

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
    """Read a plain number as a constant time in seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"distribution": "constant", "seconds": value}
    return value


_Distribution = Annotated[Constant | Uniform | Exponential | Lognormal, Field(discriminator="distribution")]

#: Seconds until a model answers. Each has ``draw(share)``, its quantile function; a number means constant.
Latency = Annotated[_Distribution, BeforeValidator(_constant, json_schema_input_type=_Distribution | Seconds)]


class Outages(Value):
    """Every `every` seconds the model fails for `lasting` seconds, the first time after `every − lasting` good ones.

    A request that comes then is answered with the model's `error_status` after `after_s`: soon, as a server does that
    refuses, or a proxy before one that is gone.
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
        """Whether the model fails `at_s` seconds after it began to serve."""
        return at_s % self.every >= self.every - self.lasting


class Simulation(Value):
    """A model that costs nothing and behaves as declared."""

    latency: Latency = Constant(seconds=0.0)
    #: Seconds added for every token of the answer.
    per_token_s: Seconds = 0.0
    #: Share of the requests that are answered with `error_status`.
    error_rate: float = Field(default=0.0, ge=0, le=1)
    error_status: int = Field(default=503, ge=400, le=599)
    #: Times in which every request fails fast; the clock starts with the server.
    outages: Outages | None = None
    #: Without an answer, the beginning of the message comes back, in the shape of the JSON Schema that is asked for.
    answers: Answers | None = None
    #: Answers of requests whose system message holds a key, whatever its case; the first that does decides. They come
    #: before `answers`: what a model says may depend on the prompt that it got.
    prompts: Mapping[str, Answers] | None = None
    #: More requests than this at once are answered with 429.
    concurrency: int | None = Field(default=None, ge=1)
    #: Requests a minute: a bucket of that size, which fills evenly. Headers tell, as OpenAI's do, how many are left and
    #: when it will be full again; what finds it empty is answered with 429.
    rpm: int | None = Field(default=None, ge=1)
    #: The one way in which every request fails: an HTTP 400, 401 or 404; a 200 with a page of HTML or with
    #: nothing; no answer, ever; or a closed connection.
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
        """What `model` says to `text`, the last user message, under the system message `prompt`.

        `share` picks from a list of answers. Where none is declared and a JSON `schema` is asked for, the answer has
        its shape.
        """
        for answers in (_found(self.prompts or {}, prompt), self.answers):
            said = _found(answers, text) if isinstance(answers, Mapping) else _picked(answers or (), share)
            if said is not None:
                return said
        words = text.split(maxsplit=12)
        said = f"[simulated {model}] {' '.join(words[:12])}" + (" …" if len(words) > 12 else "")
        return said if schema is None else json.dumps(specimen(schema, said), ensure_ascii=False)


def _found(by_key: Mapping[str, _T], text: str) -> _T | None:
    """What stands under the first key that `text` holds, whatever its case."""
    lowered = text.lower()
    return next((value for key, value in by_key.items() if key.lower() in lowered), None)


def _picked(answers: tuple[str, ...], share: float) -> str | None:
    return answers[int(share * len(answers))] if answers else None


def count_tokens(text: str) -> int:
    """Estimate the tokens of `text`: a quarter of its letters, rounded up. Other scripts than Latin have more."""
    return -(-len(text) // LETTERS_A_TOKEN)
