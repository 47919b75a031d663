"""The verdict of a classifier, a route with its confidence, or its abstention with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

#: Characters from the beginning of a text that a statistical classifier reads: requests open with what they want.
HEAD_CHARACTERS = 6_000
#: Characters from its end: "… and now summarise the above" stands there.
TAIL_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a request besides its text: the producer's metadata, and the time of routing."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=partial(datetime.now, UTC))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A route was chosen.

    `confidence` is in [0, 1]; each classifier documents its formula, and only those of one classifier compare.
    `reason` is a sentence for ``pointsman explain``; it names features of the configuration, never the text itself.
    """

    route: str
    classifier: str
    confidence: float
    reason: str
    #: The job that asked a model for the route, and what that cost in USD; whatever it answered.
    asked: str | None = None
    asked_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Abstention:
    """No route was chosen: the next classifier is asked. `reason` is a clause that follows the classifier's name."""

    classifier: str
    reason: str


class Classifier(Protocol):
    """One step of a cascade. Deterministic, and safe to share between threads."""

    @property
    def name(self) -> str:
        """Its name in results and metrics, such as ``rules``."""
        ...

    @property
    def slow(self) -> bool:
        """Whether a judgement takes milliseconds or the network: it is then made in a thread, off the event loop."""
        ...

    def judge(self, text: str) -> Verdict | Abstention:
        """Return the route of `text`, or the reason for none. Never raises for the content of a text."""
        ...


def excerpt(text: str) -> str:
    """Return the analysed part of `text`: all of it up to 8,000 characters, else the first 6,000 and last 2,000."""
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"
