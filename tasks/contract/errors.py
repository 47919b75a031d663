"""Every error of Pointsman, in one tree.

::

    PointsmanError
    ├── BadInput               a mistake of the producer: names the field and the remedy; nothing was accepted
    ├── ConfigError            a mistake of the operator: names file, line, field and the allowed values
    ├── Unreachable            Redis did not answer within the bound
    ├── EncoderFailed          the classifier's encoder returned no vectors: the classifier abstains
    ├── PromptError            the file of a prompt is missing, or can't be filled in for this job
    ├── JoinError              the parts are complete, but can't be joined to an answer
    └── ModelError             one attempt at a model failed; its type says whether to try again
        ├── RetryableModelError    RateLimited, Overloaded, ConnectionFailed, TimedOut, BadReply, NoAnswer,
        │                          SchemaMismatch, AnswerCut
        ├── UnusableModelError     Unauthorized, ModelNotFound, QuotaExhausted: the model refuses every input
        └── PermanentModelError    BadRequest, ContextTooLong, ModelUnsuited, ContentRefused: it refuses this input

No message holds a prompt, an output or a key: messages are shown, logged and stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tasks.contract.result import RateLimits, Usage


class PointsmanError(Exception):
    """The root of all errors. ``code`` is a stable word for programs, ``str()`` a sentence for people."""

    code = "error"


class BadInput(PointsmanError):
    """A job that can't be accepted.

    `field` is the path inside the request (``text``, ``[3].model``), `remedy` the advice.
    """

    code = "bad_input"

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{field}: {self.sentence}")

    @classmethod
    def unknown(cls, field: str, name: str, names: Iterable[str]) -> BadInput:
        """The error of a `name` that is none of `names`."""
        return cls(field, f"{name!r} is not known", f"allowed: {', '.join(sorted(names))}")

    @property
    def sentence(self) -> str:
        """Problem and remedy, without the field."""
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


@contextmanager
def below(at: str) -> Iterator[None]:
    """Put the field of a `BadInput` that is raised inside below `at` ("" leaves the field), unless it is there."""
    try:
        yield
    except BadInput as error:
        if not at or error.field.startswith(f"{at}."):
            raise
        raise BadInput(f"{at}.{error.field}", error.problem, error.remedy) from None


class ConfigError(PointsmanError):
    """A configuration that can't be used; one line a problem, each ``file:line: field: problem``."""

    code = "bad_config"


class Unreachable(PointsmanError):
    """Redis did not answer in time. Nothing was accepted; jobs accepted before are kept."""

    code = "unreachable"


class EncoderFailed(PointsmanError):
    """The encoder's endpoint is down, refuses, or does not return vectors. A later attempt may succeed."""

    code = "encoder_failed"


class PromptError(PointsmanError):
    """A prompt can't be filled in: the job lacks metadata that it reads, or this worker lacks its file."""

    code = "prompt_failed"


class JoinError(PointsmanError):
    """The parts of a job can't be joined: too many failed, or no vote could be counted."""

    code = "join_failed"


class ModelError(PointsmanError):
    """One attempt at a model failed.

    `model` is its name in the configuration, `retry_after` the delay in seconds that the provider asks for, if any.
    """

    code = "model_error"
    #: Tokens of answers that could not be used: the provider charges for them all the same.
    usage: Usage | None = None
    #: The provider's limits as the headers of a refusal state them.
    rate_limits: RateLimits | None = None

    def __init__(
        self, model: str, problem: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        self.model = model
        self.status = status
        self.retry_after = retry_after
        super().__init__(f"model {model!r}: {problem}")


class RetryableModelError(ModelError):
    """A later attempt may succeed."""

    code = "model_retryable"


class RateLimited(RetryableModelError):
    """HTTP 429."""

    code = "rate_limited"


class Overloaded(RetryableModelError):
    """HTTP 408, 409 or 5xx."""

    code = "overloaded"


class ConnectionFailed(RetryableModelError):
    """No answer of the API: no connection, or it broke off, or a proxy or firewall answered in its place."""

    code = "connection_failed"


class TimedOut(RetryableModelError):
    """The model did not answer within the time of the call."""

    code = "timed_out"


class BadReply(RetryableModelError):
    """A 2xx whose body is not what the API promises: HTML, an empty body, other JSON."""

    code = "bad_reply"


class NoAnswer(BadReply):
    """An answer without text: nothing, thoughts alone, cut before its first word, or a form that its server can't read.

    `usage` is what it cost. The model serves: a prompt can bring this about.
    """

    code = "no_answer"
    #: It was cut at its bound of tokens before its first word.
    cut = False


class SchemaMismatch(BadReply):
    """An answer that breaks the job's response_schema, and so does the answer of the repair attempt.

    `usage` is that of both attempts.
    """

    code = "schema_mismatch"

    def __init__(self, model: str, problem: str, *, usage: Usage | None = None) -> None:
        super().__init__(model, problem)
        self.usage = usage


class AnswerCut(RetryableModelError):
    """An answer that was cut at its bound of tokens, and is of no use without its end.

    Asking again makes sense with a higher `bound` alone; None: no bound was sent, the model's own one cut it.
    """

    code = "answer_cut"

    def __init__(self, model: str, problem: str, *, bound: int | None, usage: Usage | None = None) -> None:
        super().__init__(model, problem)
        self.bound = bound
        self.usage = usage


class UnusableModelError(ModelError):
    """The model refuses every input until an operator intervenes. Another candidate may answer."""

    code = "model_unusable"


class Unauthorized(UnusableModelError):
    """HTTP 401 or 403 of the API itself: the key is missing, wrong or lacks the permission."""

    code = "unauthorized"


class ModelNotFound(UnusableModelError):
    """HTTP 404 or another 3xx/4xx: no such model or address."""

    code = "model_not_found"


class QuotaExhausted(UnusableModelError):
    """A 429 (or 402) that does not heal by waiting: the account's credit or spend limit is used up."""

    code = "quota_exhausted"


class PermanentModelError(ModelError):
    """Every further attempt with this input fails the same way."""

    code = "model_refused"


class BadRequest(PermanentModelError):
    """HTTP 400, 413 or 422: this input is not accepted by this model."""

    code = "bad_request"
    #: The parameter that its server refuses by name, in our words; "" where it names none.
    refused: str = ""


class ContextTooLong(BadRequest):
    """Input and output together do not fit into the model's context window."""

    code = "context_too_long"


class ModelUnsuited(PermanentModelError):
    """This model can't take this input, another may: more tokens than its limits ever allow, a region, a feature."""

    code = "model_unsuited"


class ContentRefused(PermanentModelError):
    """The provider blocks this input or its answer (safety, recitation), or the model answers with a call of a tool."""

    code = "content_refused"
