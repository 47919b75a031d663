"""Every error of Pointsman, in one tree.

::

    PointsmanError
    ├── BadInput               the producer's mistake: names the field and the remedy, nothing was accepted
    ├── ConfigError            the operator's mistake: names file, line, field and the allowed values
    ├── Unreachable            Redis did not answer within the bound
    ├── EncoderFailed          no vectors came from the classifier's encoder: it abstains
    ├── PromptError            a prompt's file is not there, or can't be filled in for this job
    ├── JoinError              the parts are there, but they make no answer
    └── ModelError             one attempt at a model failed; whether to try again is its type
        ├── RetryableModelError    RateLimited, Overloaded, ConnectionFailed, TimedOut, BadReply, SchemaMismatch
        ├── UnusableModelError     Unauthorized, ModelNotFound, QuotaExhausted: this model serves nobody now
        └── PermanentModelError    BadRequest, ContextTooLong, ContentRefused: it refuses this input

No message holds a prompt, an output or a key: they are shown, logged and stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.contract.rate_limits import RateLimits
    from tasks.contract.result import Usage

__all__ = [
    "BadInput",
    "BadReply",
    "BadRequest",
    "ConfigError",
    "ConnectionFailed",
    "ContentRefused",
    "ContextTooLong",
    "EncoderFailed",
    "JoinError",
    "ModelError",
    "ModelNotFound",
    "Overloaded",
    "PermanentModelError",
    "PointsmanError",
    "PromptError",
    "QuotaExhausted",
    "RateLimited",
    "RetryableModelError",
    "SchemaMismatch",
    "TimedOut",
    "Unauthorized",
    "Unreachable",
    "UnusableModelError",
]


class PointsmanError(Exception):
    """The root. ``code`` is the stable word for programs, ``str()`` the sentence for people."""

    code = "error"


class BadInput(PointsmanError):
    """A job that can't be accepted.

    `field` is the path inside the request (``text``, ``[3].model``), `remedy` what to do about it.
    """

    code = "bad_input"

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{field}: {problem}" + (f"; {remedy}" if remedy else ""))


class ConfigError(PointsmanError):
    """A configuration that can't be used; one line a problem, each ``file:line: field: problem``."""

    code = "bad_config"


class Unreachable(PointsmanError):
    """Redis did not answer in time. Nothing was accepted; what was accepted before is kept."""

    code = "unreachable"


class EncoderFailed(PointsmanError):
    """No vectors came: the endpoint is away, refuses, or answers with something else. Trying later may help."""

    code = "encoder_failed"


class PromptError(PointsmanError):
    """A prompt can't be filled in: it needs metadata that the job lacks, or this worker hasn't got its file."""

    code = "prompt_failed"


class JoinError(PointsmanError):
    """The parts of a job make no answer: too many failed, or no vote could be counted."""

    code = "join_failed"


class ModelError(PointsmanError):
    """One attempt at a model failed. `model` is its name in the configuration."""

    code = "model_error"
    #: Tokens of answers that the model gave, and that could not be used: they are paid for all the same.
    usage: Usage | None = None
    #: What the headers of a refusal said of the provider's limits.
    rate_limits: RateLimits | None = None

    def __init__(self, model: str, problem: str, *, status: int | None = None) -> None:
        self.model = model
        self.status = status
        super().__init__(f"model {model!r}: {problem}")


class RetryableModelError(ModelError):
    """May heal by itself. `retry_after` is what the provider asked for, in seconds."""

    code = "model_retryable"

    def __init__(
        self,
        model: str,
        problem: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(model, problem, status=status)
        self.retry_after = retry_after


class RateLimited(RetryableModelError):
    """HTTP 429."""

    code = "rate_limited"


class Overloaded(RetryableModelError):
    """HTTP 408, 409 or 5xx."""

    code = "overloaded"


class ConnectionFailed(RetryableModelError):
    """No HTTP answer: refused, reset, name not found, broken off."""

    code = "connection_failed"


class TimedOut(RetryableModelError):
    """The model did not answer within the time of the call."""

    code = "timed_out"


class BadReply(RetryableModelError):
    """A 2xx whose body isn't what the API promises: HTML, nothing, another JSON."""

    code = "bad_reply"


class SchemaMismatch(BadReply):
    """An answer that does not satisfy the job's response_schema, after the repair attempt too.

    `usage` is that of both attempts.
    """

    code = "schema_mismatch"

    def __init__(self, model: str, problem: str, *, usage: Usage | None = None) -> None:
        super().__init__(model, problem)
        self.usage = usage


class UnusableModelError(ModelError):
    """No fault of this input: the model serves nobody until somebody mends it. Another candidate may do it.

    `retry_after` is the provider's word on when it heals, in seconds, where it says.
    """

    code = "model_unusable"

    def __init__(
        self, model: str, problem: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(model, problem, status=status)
        self.retry_after = retry_after


class Unauthorized(UnusableModelError):
    """HTTP 401 or 403: the key is missing, wrong or lacks the permission."""

    code = "unauthorized"


class ModelNotFound(UnusableModelError):
    """HTTP 404 or another 3xx/4xx: no such model or address."""

    code = "model_not_found"


class QuotaExhausted(UnusableModelError):
    """A 429 (or 402) that does not heal by waiting: the account's credit or spend limit is used up."""

    code = "quota_exhausted"


class PermanentModelError(ModelError):
    """Will fail the same way next time."""

    code = "model_refused"


class BadRequest(PermanentModelError):
    """HTTP 400, 413 or 422: this input is not accepted by this model."""

    code = "bad_request"


class ContextTooLong(BadRequest):
    """Input and output together do not fit into the model's context window."""

    code = "context_too_long"


class ContentRefused(PermanentModelError):
    """The provider blocks this input or its answer (safety, recitation)."""

    code = "content_refused"
