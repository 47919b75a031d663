"""Measured profiles: the file that `pointsman profile` writes and routing reads.

One JSON document with a section for each model. Scores go from 0 to 100, higher is better; a metric that was not
measured is null, never 0. `docs/reference/profile.md` explains each field and each formula.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from tasks.config.models import Profile
from tasks.contract.errors import ConfigError
from tasks.contract.validation import Value, Words, find_problems, format_path

METRICS = ("speed", "accuracy", "creativity", "ethics", "cost")

#: Bytes of a profile file that are read; a section has about 2 KB.
MOST_BYTES = 64 * 1024 * 1024

#: The remedy. The configuration can't be loaded while it names a file that can't be read.
_ANEW = "measure into a new file, `pointsman profile --out FILE`, without `profiles` in the configuration"

_WORDS: Words = {"extra_forbidden": "is not a field here", "missing": "is missing"}

Score: TypeAlias = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Usd: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0)]


class Share(Value):
    """The share of `n` cases that were right, in percent, with Wilson's interval of 95%."""

    score: Score
    low: Score
    high: Score
    right: Count
    n: int = Field(ge=1)


class Ethics(Share):
    """The share of safety cases handled right: harmful ones refused, harmless ones answered."""

    refused_harmful: Share | None = None
    answered_harmless: Share | None = None


class Creativity(Value):
    """The variety of the answers to one prompt, from 0 to 1; means over the prompts."""

    distinct_2: float = Field(ge=0, le=1)
    dissimilarity: float = Field(ge=0, le=1)
    prompts: int = Field(ge=1)
    answers: int = Field(ge=2)


class Latency(Value):
    """Seconds of the answered calls, without the wait in the queue."""

    n: int = Field(ge=1)
    mean_s: Seconds
    p50_s: Seconds
    p95_s: Seconds
    #: At 0%, 5%, 10% … 100%.
    quantiles_s: tuple[Seconds, ...] = Field(min_length=21, max_length=21)
    #: Output tokens of all these calls over their seconds; None where no tokens were counted.
    tokens_per_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Cost(Value):
    """USD by the prices of the configuration."""

    mean_usd: Usd
    total_usd: Usd
    n: int = Field(ge=1)


class EvalSet(Value):
    """The evaluation set: `name` for people, `sha256` to compare the sets of two models."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    cases: int = Field(ge=1)


class ModelProfile(Value):
    """One model: its scores, and the measurements behind them."""

    measured_at: str
    run: str
    eval: EvalSet
    judge: str | None = None
    #: True when a simulated model answered: its profile proves nothing.
    simulated: bool = False
    scores: Profile
    accuracy: Share | None = None
    routes: Mapping[str, Share] = Field(default_factory=dict)
    creativity: Creativity | None = None
    ethics: Ethics | None = None
    latency: Latency | None = None
    cost: Cost | None = None
    asked: Count
    #: Cases without a grade, by the code of the model's error, or ``judge`` where the judge gave no verdict.
    ungraded: Mapping[str, Count] = Field(default_factory=dict)


class ProfileFile(Value):
    """The whole file."""

    schema_version: Literal[1] = 1
    models: Mapping[str, ModelProfile]


class MeasuredProfile(Profile):
    """The measured scores of a model; None where not measured."""

    #: Accuracy by route, where the evaluation set names routes.
    routes: Mapping[str, float] = Field(default_factory=dict)


def scores_of(typed: Profile, measured: MeasuredProfile | None, *, route: str = "") -> dict[str, float]:
    """The scores of a model for jobs of `route`; unknown ones are left out.

    A score in the configuration is a decision of the operator: it replaces the measured one, metric by metric, on every
    route. Of the measured scores, the accuracy on the route replaces the accuracy over all routes.
    """
    found: dict[str, float] = {}
    for metric in METRICS:
        value: float | None = getattr(typed, metric)
        if value is None and measured is not None:
            value = getattr(measured, metric)
            if metric == "accuracy":
                value = measured.routes.get(route, value)
        if value is not None:
            found[metric] = value
    return found


def read_profiles(path: Path) -> Mapping[str, MeasuredProfile]:
    """The measured profiles of a file, by model.

    Raises:
        ConfigError: naming the file, the field and the remedy, for a file that is missing, damaged, of another version,
            or changed by hand into impossible values.
    """
    return {
        name: MeasuredProfile(
            **model.scores.model_dump(),
            routes={route: share.score for route, share in model.routes.items()},
        )
        for name, model in read_profile_file(path).models.items()
    }


def read_profile_file(path: Path) -> ProfileFile:
    """Read the whole file with its evidence; raises as `read_profiles`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {_ANEW}") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    return parse_profiles(raw, source=str(path))


def parse_profiles(raw: bytes, *, source: str) -> ProfileFile:
    """Check the content of a profile file; `source` starts the error. Raises as `read_profiles`."""
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{source}: has more than {MOST_BYTES:,} bytes, so it is no profile file; {_ANEW}")
    try:
        data = json.loads(raw)
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: is not UTF-8; {_ANEW}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}: is not JSON: {error.msg}; {_ANEW}") from None
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply; {_ANEW}") from None
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if isinstance(version, int) and version != 1:
        raise ConfigError(f"{source}: schema_version: is {version}, this version reads 1; {_ANEW}")
    try:
        return ProfileFile.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{source}: {format_path(problem.loc) or 'the document'}: {problem.text}"
            for problem in find_problems(error, _WORDS)
        ]
        raise ConfigError("\n".join(lines[:5]) + f"; mend it, or {_ANEW}") from None
