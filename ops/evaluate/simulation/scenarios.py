"""Scenarios that strategies are compared in: values in one place; a file can describe more of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from tasks.config.simulation import Exponential, Latency, Outages
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import BadInput
from tasks.contract.validation import Value, find_problems


class Keys(Value):
    """What requests are hashed by: so many keys, of which the k-th most wanted comes as often as k^-exponent (Zipf)."""

    count: int = Field(ge=1, le=1_000_000)
    exponent: float = Field(default=1.0, ge=0, le=5)


class Answers(Value):
    """How many tokens an answer has: half of them below `median`, a lognormal tail as in `tasks.config.simulation`."""

    median: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    sigma: float = Field(default=0.0, ge=0, le=5)


class Slow(Value):
    """Between two moments a model takes `times` as long; without `until` for good."""

    times: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    since: float = Field(default=0.0, ge=0)
    until: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until is not after since")
        return self


class Models(Value):
    """One model, or `count` that are alike."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    count: int = Field(default=1, ge=1, le=10_000)
    #: Calls in flight.
    capacity: int = Field(default=64, ge=1, le=100_000)
    #: Share that it is meant to get of strategies that go by weight.
    weight: float = Field(default=1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    latency: Latency = Exponential(distribution="exponential", mean=0.2, least=0.1)
    #: Seconds added for every token of the answer.
    per_token_s: float = Field(default=0.0, ge=0, le=60)
    #: Share of the attempts that fail, after the same time.
    error_rate: float = Field(default=0.0, ge=0, le=1)
    outages: Outages | None = None
    slow: tuple[Slow, ...] = ()
    #: Seconds from the beginning at which it joins, and leaves.
    joins: float = Field(default=0.0, ge=0)
    leaves: float | None = Field(default=None, gt=0)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{place}" for place in range(1, self.count + 1))


class Scenario(Value):
    """Requests that come, and the models that may answer them."""

    about: str = ""
    requests: int = Field(default=20_000, ge=1, le=10_000_000)
    #: Requests a second, over all routes.
    rate: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    arrivals: Literal["poisson", "even"] = "poisson"
    models: tuple[Models, ...] = Field(min_length=1)
    #: The models are dealt out to so many routes, and so are the requests.
    routes: int = Field(default=1, ge=1, le=10_000)
    #: Routers that decide, and the seconds for which each decides on one look at the fleet.
    routers: int = Field(default=1, ge=1, le=10_000)
    stale_s: float = Field(default=0.0, ge=0, le=3600)
    #: Whether a call is admitted by the load of that moment (`admission.lua`); else by the router's older snapshot.
    fresh_admission: bool = True
    #: Attempts that a request has at each model.
    attempts: int = Field(default=3, ge=1, le=20)
    keys: Keys | None = None
    answers: Answers | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [name for models in self.models for name in models.names]
        if len(set(names)) < len(names):
            raise ValueError("two models have one name")
        if len(names) < self.routes:
            raise ValueError(f"{self.routes} routes need as many models at least; there are {len(names)}")
        if not any(models.joins == 0 for models in self.models):
            raise ValueError("a model must be there from the beginning: joins: 0")
        return self


def read(name: str) -> Scenario:
    """The scenario of this name, or that a file describes, in YAML or JSON.

    Raises:
        BadInput: naming the field and the remedy.
    """
    if name in NAMED:
        return NAMED[name]
    file = Path(name)
    if not file.is_file():
        raise BadInput("scenario", f"{name!r} is neither a scenario nor a file", f"scenarios: {', '.join(NAMED)}")
    try:
        given: Any = yaml.safe_load(read_text_file(file))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problem = " ".join(str(error).partition("\n")[0].split())
        raise BadInput("scenario", f"{file} can't be read: {problem}", "write YAML or JSON") from None
    if not isinstance(given, Mapping):
        raise BadInput("scenario", f"{file} is no mapping", "begin with rate: and models:")
    try:
        return Scenario.model_validate(given)
    except ValidationError as error:
        first = find_problems(error)[0]
        field = ".".join(map(str, first.loc)) or "scenario"
        fields = ", ".join((Models if field.startswith("models.") else Scenario).model_fields)
        raise BadInput(field, f"{file}: {first.text}", f"fields: {fields}") from None


#: 0.1·(1+Exp(1)) s, as in linkerd's comparison of load balancers (2016): one call in 8,000 takes more than a second.
_BASE = Exponential(distribution="exponential", mean=0.2, least=0.1)
_SLOW = (Slow(times=20),)

#: By name.
NAMED: Mapping[str, Scenario] = {
    "one-slow": Scenario(
        about="11 replicas, one of them 20 times slower than the others",
        rate=60,
        models=(Models(name="well", count=10), Models(name="slow", slow=_SLOW)),
    ),
    "fast-fail": Scenario(
        about="6 replicas, one of them answers 503 within 5 ms",
        rate=40,
        models=(
            Models(name="well", count=5),
            Models(name="failing", outages=Outages(every=1, lasting=1, after_s=0.005)),
        ),
    ),
    "mixed": Scenario(
        about="6 replicas, one 20 times slower, one that fails within 5 ms for 10 s of every 20",
        rate=40,
        models=(
            Models(name="well", count=4),
            Models(name="slow", slow=_SLOW),
            Models(name="failing", outages=Outages(every=20, lasting=10, after_s=0.005)),
        ),
    ),
    "herd": Scenario(
        about="20 replicas, 10 routers that look at the fleet once a second and decide by that alone",
        rate=400,
        routers=10,
        stale_s=1.0,
        fresh_admission=False,
        models=(Models(name="well", count=20, capacity=8),),
    ),
    "herd-late": Scenario(
        about="the same, and what is admitted late: the load of the moment has the last word",
        rate=400,
        routers=10,
        stale_s=1.0,
        models=(Models(name="well", count=20, capacity=8),),
    ),
    "unequal": Scenario(
        about="a large, two middling and four small models, 75 % busy",
        rate=150,
        models=(
            Models(name="large", capacity=16, weight=16),
            Models(name="middling", count=2, capacity=8, weight=8),
            Models(name="small", count=4, capacity=2, weight=2),
        ),
    ),
    "recovery": Scenario(
        about="6 replicas, one of them 20 times slower for the first 120 s",
        rate=40,
        requests=16_000,
        models=(Models(name="well", count=5), Models(name="healing", slow=(Slow(times=20, until=120),))),
    ),
    "cold-start": Scenario(
        about="5 replicas; after 120 s a sixth joins, of which no router has statistics",
        rate=40,
        requests=16_000,
        models=(Models(name="well", count=5), Models(name="new", joins=120)),
    ),
    "zipf-keys": Scenario(
        about="12 replicas, 10,000 keys of which some are wanted much more than others (Zipf, exponent 1)",
        rate=240,
        keys=Keys(count=10_000),
        models=(Models(name="well", count=12, capacity=16),),
    ),
    "long-answers": Scenario(
        about="8 replicas, answers of very different length, one replica takes 5 times as long for each token",
        rate=40,
        answers=Answers(median=150, sigma=1.0),
        models=(
            Models(name="well", count=7, per_token_s=0.002),
            Models(name="slow", per_token_s=0.01),
        ),
    ),
    "large": Scenario(
        about="1,000 models in 50 routes, 1,000,000 requests; in each route one is slow, one fails at times",
        requests=1_000_000,
        rate=6_000,
        routes=50,
        models=(
            Models(name="slow", count=50, slow=_SLOW),
            Models(name="failing", count=50, outages=Outages(every=20, lasting=10, after_s=0.005)),
            Models(name="well", count=900),
        ),
    ),
}
