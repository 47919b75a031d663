"""The job: what a producer submits, frozen and versioned, JSON on the wire.

The ledger answers with a `Result` (`tasks.contract.result`). `docs/reference/job.md` draws the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, ValidationError, field_validator, model_validator

from tasks.contract.errors import BadInput
from tasks.contract.ids import new_id
from tasks.contract.value import Value

__all__ = [
    "JOB_LABEL",
    "OWN_LABEL",
    "PRIORITIES",
    "QUESTION",
    "SCHEMA_VERSION",
    "File",
    "Item",
    "Job",
    "Message",
    "Parent",
    "Variety",
    "parse_job",
]

SCHEMA_VERSION: Literal[1] = 1


#: Rank in the backlog: the lower goes first.
PRIORITIES: Mapping[str, int] = {"high": 0, "normal": 1, "low": 2}

#: The label of Pointsman's own jobs, which producers can't use, and its value for a question about a route.
OWN_LABEL, QUESTION = "pointsman", "classification"
#: The label of such a question that names the job to be routed.
JOB_LABEL = "job"


class Message(Value):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Item(Value):
    """One section that a producer cut itself. What it says of its own goes before what the job says."""

    text: str
    title: str = Field(default="", max_length=200)
    prompt: str | None = None
    #: With one of these the section is a job of its own, which is routed for itself.
    route: str | None = None
    model: str | None = None
    response_schema: Mapping[str, JsonValue] | None = None


class File(Value):
    """A document to work on. It is read where the job is accepted; what is kept is its text."""

    #: Its ending says what it is: .txt, .md, .html, .pdf, .docx, .csv, .tsv, .json, .jsonl; any other, that it is text.
    name: str = Field(min_length=1, max_length=255)
    #: Its bytes in base64.
    data: str = Field(min_length=1)


class Parent(Value):
    """The part (``JOB.INDEX.WAVE``) that a job is the work of, and how many jobs there are above it."""

    part: str
    depth: int = Field(ge=1)
    #: Parts that the job may have, with those of the jobs within it: its share of what its parent may have.
    parts: int | None = Field(default=None, ge=1)


class Variety(Value):
    """What the votes of one job differ in, by turns: for models that refuse a temperature."""

    prompts: tuple[str, ...] = Field(default=(), max_length=100)
    models: tuple[str, ...] = Field(default=(), max_length=100)
    seeds: tuple[int, ...] = Field(default=(), max_length=1000)


class Job(Value):
    """What a producer submits. `id` is ours unless given; everything else is the producer's word."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str = Field(default_factory=new_id, pattern=r"^[0-9a-z]{26}$")
    kind: str = "single"

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    items: tuple[str | Item, ...] | None = None
    files: tuple[File, ...] | None = Field(default=None, min_length=1, max_length=1000)
    #: A text, or ``file:NAME``: a prompt of the configuration.
    prompt: str | None = None

    split: str | None = None
    split_options: Mapping[str, JsonValue] = Field(default_factory=dict)
    #: What each section is a job of its own with: the fields of a job without its input.
    each: Mapping[str, JsonValue] | None = None
    join: str | None = None
    join_options: Mapping[str, JsonValue] = Field(default_factory=dict)
    #: Who answers what the join, or a split by a model, asks: ``auto`` (who the parts go to), a model, or a
    #: ``route:NAME``.
    join_model: str = "auto"
    n: int | None = Field(default=None, ge=1, le=1000)
    variety: Variety | None = None
    policy: Literal["fail", "partial", "quorum"] = "fail"
    quorum: int | None = Field(default=None, ge=1)
    early_stop: Literal["exact", "off"] = "exact"
    confidence: float | None = Field(default=None, gt=0, lt=1)
    prefer: Literal["cost", "latency"] = "latency"

    route: str | None = None
    #: The routes that it may be classified into, of all; the first is its default.
    routes: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=1000)
    model: str = "auto"
    strategy: str | None = None
    priority_metric: Literal["speed", "accuracy", "creativity", "ethics", "cost"] | None = None
    key: str | None = Field(default=None, max_length=1024)
    priority: Literal["high", "normal", "low"] = "normal"
    #: Seconds from acceptance within which the job must end; past it, it is `expired`.
    deadline: float | None = Field(default=None, gt=0, le=30 * 86_400)
    #: Attempts of one part over all its models; by default as many as these models have together.
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    #: Seconds from a part's first attempt within which another may start.
    retry_seconds: float | None = Field(default=None, ge=0, le=30 * 86_400)

    labels: Mapping[str, str] = Field(default_factory=dict)
    metadata: Mapping[str, JsonValue] = Field(default_factory=dict)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=255)
    webhook: str | None = None
    #: Whose work this job is. Pointsman's own; producers can't set it.
    parent: Parent | None = None
    budget_usd: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = None
    stop: tuple[str, ...] | None = Field(default=None, max_length=4)
    response_schema: Mapping[str, JsonValue] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _shape(self) -> Self:
        given = [name for name in ("text", "messages", "items", "files") if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise BadInput("text", f"exactly one of text, messages, items and files is needed, got {said}")
        if self.text is not None and not self.text.strip():
            raise BadInput("text", "is empty", "send the text that the model shall work on")
        if self.messages is not None and not any(message.content.strip() for message in self.messages):
            raise BadInput("messages", "hold no content", "send at least one message with content")
        if self.items is not None:
            if not self.items:
                raise BadInput("items", "is empty", "send at least one item")
            for index, item in enumerate(self.items):
                if not (item if isinstance(item, str) else item.text).strip():
                    raise BadInput(f"items[{index}]", "is empty", "leave it out, or send its text")
        self._check_kind()
        self._check_policy()
        return self

    def _check_kind(self) -> None:
        if self.kind == "sections":
            if self.messages is not None:
                raise BadInput("messages", "can't be cut into sections", "send text with split, or items")
            if self.text is not None and self.split is None:
                raise BadInput("split", "is needed to cut a text into sections", "name a split, or send items")
            if self.items is not None and self.split not in {None, "list"}:
                raise BadInput("split", "goes with text; items are cut already", "leave split out")
        elif self.each is not None:
            raise BadInput("each", f"does not go with kind {self.kind!r}", 'use "kind": "sections"')
        elif self.kind in {"single", "vote"} and self.items is not None:
            raise BadInput("items", f"do not go with kind {self.kind!r}", 'use "kind": "sections"')
        self._check_vote()
        if self.kind in {"single", "vote"} and self.split is not None:
            remedy = 'use "kind": "sections"' + (', with the vote in "each"' if self.kind == "vote" else "")
            raise BadInput("split", f"does not go with kind {self.kind!r}", remedy)

    def _check_vote(self) -> None:
        if self.kind == "vote" and self.n is None:
            raise BadInput("n", "is needed: how many votes", 'for example "n": 5')
        if self.kind != "vote" and self.n is not None:
            raise BadInput("n", "goes with votes alone", 'use "kind": "vote", or "each" for sections that are voted on')
        if self.kind != "vote" and self.variety is not None:
            raise BadInput("variety", "goes with votes alone", 'use "kind": "vote"')
        if self.kind in {"single", "sections"} and self.confidence is not None:
            raise BadInput("confidence", "ends a vote: there is none", 'use "kind": "vote", or say it in "each"')

    def _check_policy(self) -> None:
        if self.policy == "quorum" and self.quorum is None:
            raise BadInput("quorum", "is needed by the policy quorum", "say how many parts must succeed")
        if self.policy != "quorum" and self.quorum is not None:
            raise BadInput("quorum", "goes with the policy quorum alone", 'use "policy": "quorum"')
        parts = {"single": 1, "vote": self.n}.get(self.kind, len(self.items) if self.items else None)
        if self.quorum is not None and parts is not None and self.quorum > parts:
            raise BadInput("quorum", f"is {self.quorum}, but the job has {parts} parts", f"at most {parts} can succeed")

    @property
    def fixed_route(self) -> str | None:
        """The route that the producer named, in either of the two ways to say it."""
        return self.model.removeprefix("route:") if self.model.startswith("route:") else self.route

    @property
    def fixed_model(self) -> str | None:
        """The model that the producer named."""
        return None if self.model == "auto" or self.model.startswith("route:") else self.model

    @property
    def routed_job(self) -> str | None:
        """The job whose route this job asks a model for; None for other jobs."""
        return self.labels.get(JOB_LABEL) if self.labels.get(OWN_LABEL) == QUESTION else None

    @property
    def question(self) -> str:
        """The text that classifiers read: the text, the last user's message, or the first item."""
        if self.text is not None:
            return self.text
        if self.messages:
            users = [message.content for message in self.messages if message.role == "user"]
            return users[-1] if users else self.messages[-1].content
        if not self.items:
            return ""
        return self.items[0] if isinstance(self.items[0], str) else self.items[0].text


def parse_job(data: Any, *, at: str = "") -> Job:
    """Read a job from parsed JSON.

    `at` is where it stands in a larger request (``[3]``); it starts the field of the error.

    Raises:
        BadInput: with the first field that is wrong, and what it takes.
    """
    if not isinstance(data, Mapping):
        raise BadInput(at or "job", "must be a JSON object")
    try:
        return Job.model_validate(data)
    except BadInput as error:
        raise BadInput(_join_path(at, error.field), error.problem, error.remedy) from None
    except ValidationError as error:
        raise _as_bad_input(error, at) from None


def _as_bad_input(error: ValidationError, at: str) -> BadInput:
    found = _meant(error.errors(include_url=False, include_input=False))
    loc = found["loc"]
    field = _join_path(at, _path(loc))
    if found["type"] == "extra_forbidden":
        kind, word = _KINDS[str(loc[0])] if len(loc) > 1 else (Job, "a job")
        return BadInput(field, f"is not a field of {word}", f"fields are: {', '.join(kind.model_fields)}")
    if found["type"] == "missing":
        return BadInput(field, "is needed")
    if found["type"] in {"too_short", "too_long"}:
        context = found["ctx"]
        bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']:,}"
        return BadInput(field, f"has {context['actual_length'] or 'no'} entries; {bound} may be there")
    problem = _PROBLEMS.get(found["type"]) or found["msg"][0].lower() + found["msg"][1:]
    return BadInput(field, problem)


#: What stands in a field of a job, and how it is called in an error.
_KINDS: Mapping[str, tuple[type[BaseModel], str]] = {
    "items": (Item, "an item"),
    "messages": (Message, "a message"),
    "files": (File, "a file"),
    "variety": (Variety, "variety"),
    "parent": (Parent, "parent"),
}
#: Said in the words of JSON rather than in Python's.
_PROBLEMS: Mapping[str, str] = {
    "dict_type": "must be a JSON object",
    "mapping_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "tuple_type": "must be a JSON array",
    "item": "must be a text, or a JSON object with a text",
}


def _meant(errors: Sequence[Any]) -> dict[str, Any]:
    """The first error. An item may be a text or an object: of an object, only what is wrong with it as such is told."""
    for error in errors:
        loc = error["loc"]
        if loc[0] != "items" or loc[2:] != ("str",):
            break
        of_object = [other for other in errors if other["loc"][:3] == (*loc[:2], "Item")]
        if of_object and of_object[0]["type"] != "model_type":
            return {**of_object[0], "loc": (*loc[:2], *of_object[0]["loc"][3:])}
        return {**error, "loc": loc[:2], "type": "item"}
    return dict(errors[0])


def _path(loc: Sequence[int | str]) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "job"


def _join_path(at: str, field: str) -> str:
    return f"{at}.{field}" if at else field
