"""The job: what a producer submits, frozen and versioned, JSON on the wire; and the ids of jobs and of calls.

The ledger answers with a `Result` (`tasks.contract.result`). `docs/reference/job.md` draws the states.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import JsonValue, ValidationError, field_validator, model_validator

from tasks.contract.encoding import MARK
from tasks.contract.errors import BadInput
from tasks.contract.job_errors import find_first_error
from tasks.contract.job_fields import SEEDS, FieldRule, File, Item, Message, Parent, Unread, Variety, job_field
from tasks.contract.validation import Value

SCHEMA_VERSION: Literal[1] = 1

#: Rank in the backlog: the lower goes first.
PRIORITIES: Mapping[str, int] = {"high": 0, "normal": 1, "low": 2}

#: The label of Pointsman's own jobs, which producers can't use, and its value for a question about a route.
OWN_LABEL, QUESTION = "pointsman", "classification"
#: The label of such a question that names the job to be routed.
JOB_LABEL = "job"


_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
#: Categories of characters that show nothing: control, format, separators.
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def new_id() -> str:
    """A new ULID."""
    return ulid(time.time_ns() // 1_000_000, secrets.randbits(80))


def ulid(milliseconds: int, rest: int) -> str:
    """A ULID in lower case: 26 characters, sorted by time, safe in a Redis key and in a URL. `rest` has 80 bits."""
    number = (milliseconds << 80) | rest
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def derived_id(job_id: str, what: str) -> str:
    """The id of a job that is made for another one: for the same words always the same, and sorted beside it."""
    return job_id[:10] + ulid(0, int.from_bytes(hashlib.sha256(what.encode()).digest()[:10]))[10:]


def has_text(text: str) -> bool:
    """Whether a text shows anything: not `strip`, since a byte-order mark or a zero-width space is no text either."""
    return any(unicodedata.category(character) not in _UNSEEN for character in text)


@dataclass(frozen=True, slots=True)
class CallId:
    """The id of a call and its Celery task id: ``<job>.<index>``, or ``<job>.<index>.<wave>`` in a fan-out."""

    job: str
    index: int
    wave: int | None = None

    def __str__(self) -> str:
        return f"{self.job}.{self.index}" + ("" if self.wave is None else f".{self.wave}")

    @classmethod
    def parse(cls, text: str) -> CallId:
        job, index, *wave = text.split(".")
        return cls(job, int(index), int(wave[0]) if wave else None)


class Job(Value):
    """What a producer submits. `JOB_FIELDS` has the rules of its fields by name."""

    schema_version: Literal[1] = job_field("never", default=SCHEMA_VERSION)
    #: Pointsman makes one where the producer gives none.
    id: str = job_field("never", default_factory=new_id, pattern=r"^[0-9a-z]{26}$")
    kind: str = job_field(
        "own",
        "--kind KIND",
        "single, sections, vote or a workflow. Follows from --item, --file, --split and -n where left out.",
        default="single",
    )

    text: str | None = job_field("input", bulk=True)
    messages: tuple[Message, ...] | None = job_field("input", bulk=True)
    items: tuple[str | Item, ...] | None = job_field(
        "input", "--item TEXT", "One of several texts, instead of TEXT. May be repeated.", bulk=True
    )
    files: tuple[File, ...] | None = job_field(
        "input",
        "--file -f FILE",
        "Read the text from this file: text, Markdown, HTML, PDF or DOCX. Several are a section each, unless --split or"
        " --kind says otherwise.",
        min_length=1,
        max_length=1000,
    )
    #: What of the files is not in the input. The result has it in its `details`.
    unread: tuple[Unread, ...] = job_field("never", default=(), max_length=1000)
    prompt: str | None = job_field(
        "inherited",
        "--prompt TEXT",
        "The instruction, instead of the route's; file:NAME is a prompt of the configuration.",
    )

    split: str | None = job_field(
        "own",
        "--split HOW",
        "How a text is cut into sections: headings, numbered, pages, paragraphs, sentences, lines, tokens, rows, json,"
        " files or plan.",
    )
    split_options: Mapping[str, JsonValue] = job_field(
        "own", "--split-option NAME=VALUE", "An option of the split. May be repeated.", default={}
    )
    each: Mapping[str, JsonValue] | None = job_field(
        "own",
        "--each NAME=VALUE",
        "Makes each section a job of its own, with this field: --each kind=vote --each n=5. May be repeated.",
    )
    join: str | None = job_field("own", "--join HOW", "How the parts become one output: concatenate, majority, ...")
    join_options: Mapping[str, JsonValue] = job_field(
        "own", "--join-option NAME=VALUE", "An option of the join. May be repeated.", default={}
    )
    #: ``auto`` stands for the models of the parts. A split by a model asks the same model.
    join_model: str = job_field(
        "own",
        "--join-model NAME",
        "The model that answers questions of the join: a model, or route:NAME.",
        default="auto",
    )
    n: int | None = job_field("own", "--n -n N", "The number of votes.", ge=1, le=1000)
    variety: Variety | None = job_field("own")
    policy: Literal["fail", "partial", "quorum"] = job_field(
        "own", "--policy WHEN", "When parts fail: fail, the default, partial or quorum.", default="fail"
    )
    quorum: int | None = job_field("own", "--quorum N", "Parts that must succeed, with --policy quorum.", ge=1)
    early_stop: Literal["exact", "off"] = job_field("own", default="exact")
    confidence: float | None = job_field(
        "own", "--confidence SHARE", "End a vote at this confidence in its leader, such as 0.95.", gt=0, lt=1
    )
    prefer: Literal["cost", "latency"] = job_field(
        "own",
        "--prefer WHAT",
        "latency asks for all votes at once; cost for no more than can decide.",
        default="latency",
    )

    route: str | None = job_field("routing", "--route NAME", "The route, instead of classifying the text.")
    #: The routes that classification chooses from, instead of all; the first is the default.
    routes: tuple[str, ...] | None = job_field("routing", min_length=1, max_length=1000)
    model: str = job_field(
        "routing",
        "--model -m NAME",
        "A model, or route:NAME; with auto, the default, routing chooses it.",
        default="auto",
    )
    strategy: str | None = job_field(
        "inherited", "--strategy NAME", "The strategy that chooses the model, instead of the route's."
    )
    priority_metric: Literal["speed", "accuracy", "creativity", "ethics", "cost"] | None = job_field("inherited")
    key: str | None = job_field(
        "own",
        "--key KEY",
        "Strategies that pin keys send jobs with equal keys to the same model.",
        steps=True,
        max_length=1024,
    )
    priority: Literal["high", "normal", "low"] = job_field(
        "same", "--priority RANK", "high, normal, the default, or low.", default="normal"
    )
    #: Counted from acceptance; past it, the job is `expired`.
    deadline: float | None = job_field(
        "rest", "--deadline SECONDS", "Seconds until the job expires.", gt=0, le=30 * 86_400
    )
    #: Attempts of one part over all its models; by default as many as these models have together.
    max_attempts: int | None = job_field("inherited", steps=True, ge=1, le=1000)
    #: Seconds from a part's first attempt within which another may start.
    retry_seconds: float | None = job_field("inherited", steps=True, ge=0, le=30 * 86_400)

    labels: Mapping[str, str] = job_field("same", "--label NAME=VALUE", "May be repeated.", default={})
    metadata: Mapping[str, JsonValue] = job_field(
        "same", "--metadata NAME=VALUE", "A JSON value counts as such. May be repeated.", default={}
    )
    idempotency_key: str | None = job_field(
        "never",
        "--idempotency-key KEY",
        "Submitting again with the same key gives the same job.",
        min_length=1,
        max_length=255,
    )
    webhook: str | None = job_field("never")
    #: The part that this job is the work of. Pointsman alone sets it.
    parent: Parent | None = job_field("never")
    budget_usd: float | None = job_field(
        "rest", "--budget USD", "The most that the job may cost.", gt=0, le=1_000_000, allow_inf_nan=False
    )

    temperature: float | None = job_field("inherited", "--temperature T", "From 0 to 2.", ge=0, le=2)
    top_p: float | None = job_field("inherited", gt=0, le=1)
    max_tokens: int | None = job_field(
        "inherited", "--max-tokens N", "Tokens of an answer at most.", ge=1, le=1_000_000
    )
    seed: int | None = job_field("inherited", "--seed N", "For models that can repeat themselves.", ge=-SEEDS, lt=SEEDS)
    stop: tuple[str, ...] | None = job_field("inherited", max_length=4)
    response_schema: Mapping[str, JsonValue] | None = job_field("inherited")
    #: Without a schema. A cut answer that has one is asked for again with more room, whatever this says.
    on_truncated: Literal["fail", "keep", "continue"] | None = job_field(
        "inherited",
        "--on-truncated HOW",
        "When an answer is cut at its bound of tokens: keep, the default, marks it; continue asks on; fail.",
        steps=True,
    )
    #: The parts keep the thoughts of their models.
    reasoning: bool | None = job_field("inherited", steps=True)

    @field_validator("stop", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("text", "prompt", "items", "messages")
    @classmethod
    def _take_mark_off(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(cls._take_mark_off, value))
        if isinstance(value, Item):
            return value.model_copy(update={"text": value.text.lstrip(MARK)})
        if isinstance(value, Message):
            return value.model_copy(update={"content": value.content.lstrip(MARK)})
        return value.lstrip(MARK) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        given = [name for name in INPUTS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise BadInput("text", f"exactly one of text, messages, items and files is needed, got {found}")
        if self.text is not None and not has_text(self.text):
            raise BadInput("text", "is empty", "send the text that the model shall work on")
        if self.messages is not None and not any(has_text(message.content) for message in self.messages):
            raise BadInput("messages", "hold no content", "send at least one message with content")
        if self.items is not None:
            if not self.items:
                raise BadInput("items", "is empty", "send at least one item")
            for index, item in enumerate(self.items):
                if not has_text(item if isinstance(item, str) else item.text):
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
        """The route that the producer named, in `route` or in `model`."""
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
    def insists(self) -> frozenset[str]:
        """The parameters that the job itself sets, and some models refuse; Pointsman's own jobs insist on none."""
        if self.labels.get(OWN_LABEL):
            return frozenset()
        return frozenset(name for name in ("temperature", "top_p", "seed", "stop") if getattr(self, name) is not None)

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


#: The rules of every field, in the order of the fields.
JOB_FIELDS: Mapping[str, FieldRule] = {
    name: rule for name, field in Job.model_fields.items() for rule in field.metadata if isinstance(rule, FieldRule)
}
#: The fields of which a job has exactly one: what it works on.
INPUTS = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "input")
#: Fields that child jobs get from their parent, from their part or from Pointsman: `each` and steps can't set them.
GIVEN = frozenset(name for name, rule in JOB_FIELDS.items() if rule.child in {"never", "input", "same", "rest"})


def parse_job(data: Any, *, at: str = "") -> Job:
    """Read a job from parsed JSON.

    `at` is the place of the job in a larger request (``[3]``); the field of the error starts with it.

    Raises:
        BadInput: with the first field that is wrong, and the values that it accepts.
    """
    if not isinstance(data, Mapping):
        raise BadInput(at or "job", "must be a JSON object")
    try:
        return Job.model_validate(data)
    except BadInput as error:
        raise BadInput(f"{at}.{error.field}" if at else error.field, error.problem, error.remedy) from None
    except ValidationError as error:
        raise find_first_error(error, Job, at=at) from None
