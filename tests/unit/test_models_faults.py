"""What a provider's error means is read from its status and its code word; its message is never repeated."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import (
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelNotFound,
    Overloaded,
    PermanentModelError,
    QuotaExhausted,
    RateLimited,
    RetryableModelError,
    Unauthorized,
    UnusableModelError,
)
from tasks.contract.result import RateLimits
from worker.models.faults import LONG_WAIT_S, read_error, read_error_body


def test_error_has_the_rate_limits_of_the_headers():
    raw = [(b"X-RateLimit-Limit-Requests", b"60"), (b"x-ratelimit-remaining-requests", b"0"), (b"retry-after", b"2")]
    error = read_error("m", 429, b"", raw)
    assert error.rate_limits == RateLimits(requests_limit=60, requests_left=0)
    assert read_error("m", 503, b"", []).rate_limits is None


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, b"", RateLimited),
        (429, b"slow down", RateLimited),
        (503, b"<html>", Overloaded),
        (529, b"{}", Overloaded),
        (301, b"", ModelNotFound),
        (405, b"", ModelNotFound),
        (400, b'{"error": {"code": "model_not_found"}}', ModelNotFound),
        (400, b'[{"error": {"status": "INVALID_ARGUMENT"}}]', BadRequest),
        (400, b'{"error": "the prompt is too long for the context window"}', ContextTooLong),
        (401, b'{"error": {"type": "insufficient_quota"}}', QuotaExhausted),
        (403, b'{"error": {"details": {"error_code": "organization_on_hold"}}}', Unauthorized),
        (500, b'{"error": {"type": "insufficient_quota"}}', Overloaded),
    ],
)
def test_error_follows_from_the_status_and_the_body(status, body, kind):
    assert type(read_error("m", status, body, [])) is kind


def test_error_shows_a_code_word_and_no_sentence_in_its_place():
    assert "HTTP 400 (some_code)" in str(read_error("m", 400, b'{"error": {"code": "some_code"}}', []))
    text = str(read_error("m", 400, b'{"error": {"code": "my secret text", "type": "my secret"}}', []))
    assert "HTTP 400: " in text


def test_error_with_a_wait_of_hours_is_a_spent_budget_of_minutes_a_rate():
    def limited(seconds: float) -> ModelError:
        return read_error("m", 429, b"", [(b"retry-after", str(seconds).encode())])

    assert isinstance(limited(LONG_WAIT_S), RateLimited)
    assert isinstance(limited(LONG_WAIT_S + 1), QuotaExhausted)
    # A server that is down for long is no account that is used up.
    assert isinstance(read_error("m", 503, b"", [(b"retry-after", b"7200")]), Overloaded)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"error": {"type": "overloaded_error"}}, Overloaded),
        ({"error": {"type": "rate_limit_error"}}, RateLimited),
        ({"error": {"code": 401}}, Unauthorized),
        ({"error": {"message": "no code at all"}}, Overloaded),
        ({"error": "text"}, Overloaded),
        ({"object": "error", "code": 400, "message": "This model's maximum context length is 4"}, ContextTooLong),
    ],
)
def test_error_without_a_status_is_read_by_its_code(data, kind):
    assert type(read_error_body("m", data)) is kind


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "details", "message", "violations", "retryDelay", "quotaId"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.integers(300, 599), ANY)
def test_error_from_any_body_says_whether_to_try_again(status, data):
    error = read_error("m", status, json.dumps(data).encode(), [])
    assert isinstance(error, RetryableModelError | UnusableModelError | PermanentModelError)
    assert error.status == status
    assert isinstance(read_error_body("m", data), ModelError)
