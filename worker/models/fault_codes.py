"""The providers' code words, and whose fault each of them says an error is.

One table for each provider; they are looked up as one, since gateways pass on the words of whom they asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from tasks.contract.errors import (
    BadRequest,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelNotFound,
    ModelUnsuited,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Unauthorized,
)


class Fault(NamedTuple):
    """Whose fault an error is, by its type, what helps, and the status that it has where the provider sends none."""

    kind: type[ModelError]
    remedy: str
    status: int


# -- the request's: the model stays open
REFUSED = Fault(ContentRefused, "the provider blocks this input; change it", 400)
TOO_LONG = Fault(
    ContextTooLong, "input and output don't fit into its context window; split the input or lower max_tokens", 400
)
TOO_LARGE = Fault(
    ModelUnsuited, "one request has more tokens than its limits allow; split the input or lower max_tokens", 413
)
NOT_HERE = Fault(ModelUnsuited, "it does not serve this region or feature; use another model", 403)
BAD = Fault(BadRequest, "it refuses this request; check the job's parameters and its length", 400)
# -- the key's or the account's
KEY = Fault(Unauthorized, "the key is missing or refused; check the variable named by api_key_env", 401)
ACCOUNT = Fault(QuotaExhausted, "its account's quota, credit or spend limit is used up; raise it at the provider", 402)
# -- the model's
MISSING = Fault(ModelNotFound, "no such model or address; check model and base_url in the configuration", 404)
RATE = Fault(RateLimited, "over its rate limit", 429)
DOWN = Fault(Overloaded, "overloaded or broken", 503)
SLOW = Fault(Overloaded, "overloaded or broken", 504)
# -- the network's
BLOCKED = Fault(
    ConnectionFailed, "refused, perhaps on the way there; check the network, base_url and the key's permissions", 403
)
PAGE = Fault(
    ConnectionFailed,
    "a proxy or firewall answered in place of its API; check the network and base_url",
    502,
)


def _table(*rows: tuple[Fault, str]) -> Mapping[str, Fault]:
    return {word: fault for fault, words in rows for word in words.split()}


#: OpenAI's, Azure's and those of servers with the same API: vLLM, llama.cpp, Groq, Mistral, OpenRouter, DashScope,
#: MiniMax (four digits from 1000), GLM (from 1100).
OPENAI = _table(
    (REFUSED, "content_filter content_policy_violation responsible_ai_policy_violation responsibleaipolicyviolation"),
    (REFUSED, "prompt_blocked moderation_blocked invalid_prompt content_blocked data_inspection_failed"),
    (REFUSED, "datainspectionfailed 1026 1027 1301"),
    (TOO_LONG, "context_length_exceeded context_window_exceeded exceed_context_size_error string_above_max_length"),
    (TOO_LONG, "contextwindowexceedederror 1039 1261"),
    (NOT_HERE, "unsupported_country_region_territory unsupported_region"),
    (ACCOUNT, "insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded 1008 1113 arrearage"),
    (ACCOUNT, "project_spend_limit_exceeded organization_usage_limit_exceeded billing_hard_limit_reached"),
    (ACCOUNT, "billing_not_active exceeded_current_quota_error insufficient_balance account_deactivated"),
    (ACCOUNT, "insufficient_balance_error"),
    (KEY, "invalid_api_key incorrect_api_key invalid_organization ip_not_authorized model_terms_required 1004 2049"),
    (MISSING, "model_not_found invalid_model unknown_model model_decommissioned deploymentnotfound"),
    (RATE, "rate_limit_exceeded too_many_requests 1002 1302 1305"),
    (DOWN._replace(status=500), "server_error internal_server_error"),
    (DOWN, "engine_overloaded_error service_unavailable slow_down"),
    (BAD, "invalid_request_error badrequesterror unsupported_parameter unsupported_value 2013 1210"),
)
ANTHROPIC = _table(
    (TOO_LONG, "prompt_too_long model_context_window_exceeded"),
    (TOO_LARGE, "request_too_large request_body_too_large_after_decoding"),
    (ACCOUNT, "billing_error enforced_spend_limit_reached contract_spend_limit_reached credit_balance_too_low"),
    (ACCOUNT, "linked_organization_spend_limit_reached linked_organization_billing_unavailable"),
    (KEY, "authentication_error permission_error organization_on_hold organization_type_not_supported"),
    (RATE, "rate_limit_error ramp_limit_exceeded"),
    (DOWN._replace(status=529), "overloaded_error"),
    (DOWN._replace(status=500), "api_error"),
    (SLOW, "timeout_error"),
)
#: Google's canonical words, and the reasons in its error details.
GEMINI = _table(
    (KEY, "api_key_invalid permission_denied unauthenticated failed_precondition service_disabled"),
    (RATE, "resource_exhausted"),
    (DOWN, "unavailable internal aborted"),
    (SLOW, "deadline_exceeded cancelled"),
    (BAD, "invalid_argument out_of_range"),
)
CODES: Mapping[str, Fault] = {**OPENAI, **ANTHROPIC, **GEMINI}

#: Words of an error without a status that no table has: by what they speak of. The first that fits counts.
_FAMILIES: tuple[tuple[re.Pattern[str], Fault], ...] = tuple(
    (re.compile(pattern), fault)
    for pattern, fault in (
        (
            r"moderation|content_?(policy|filter|block)|flagged|sensitive|inspection|responsible_?ai|guardrail",
            REFUSED,
        ),
        (r"context_?(length|window|size|limit)|(prompt|input)_?too_?long", TOO_LONG),
        (r"(request|payload|body)_?(entity_?)?too_?large", TOO_LARGE),
        (r"country|region|territory|location", NOT_HERE),
        (r"rate_?limit|too_?many|throttl|tpm|rpm", RATE),
        (r"quota|balance|credit|billing|payment|spend", ACCOUNT),
        (r"time_?out|timed_?out|deadline", SLOW),
        (r"overload|capacity|unavailable|busy|server_?error|internal", DOWN),
        (r"model_?(not|unknown)|(unknown|no_such)_?model|deployment_?not", MISSING),
        (r"api_?key|unauth|authentication|permission|forbidden|credential|access_?denied", KEY),
        (r"not_?found", MISSING),
        (r"invalid|bad_?request|validation|malformed|unsupported|missing|required", BAD),
    )
)


def find_family(word: str) -> Fault | None:
    """The fault that an unlisted code word speaks of, in lower case; None where it says nothing."""
    return next((fault for pattern, fault in _FAMILIES if pattern.search(word)), None)
