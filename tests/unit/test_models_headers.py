"""The headers about rate limits become numbers; all others are ignored."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tasks.contract.result import RateLimits
from worker.models.rate_headers import parse_seconds, read_rate_limits, read_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012), ("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("2d", 172800.0), ("7", 7.0), ("0.5", 0.5),
        ("34.074824224s", 34.074824224), ("1970-01-01T00:00:00Z", 0.0), ("1970-01-01T00:00:00", 0.0),
        ("", None), ("soon", None), ("-1", None), ("nan", None), ("inf", None), ("1x", None), ("s", None),
    ],
)  # fmt: skip
def test_reset_is_read_in_each_of_its_forms(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


def test_reset_time_is_counted_from_now():
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 100))
    assert 98 < parse_seconds(moment) <= 100
    date = formatdate(time.time() + 100, usegmt=True).encode()
    assert 98 < read_retry_after([(b"Retry-After", date)]) <= 100


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "20", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "20", "retry-after-ms": "x"}, 20.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "in a while"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers, seconds):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert read_retry_after(raw) == seconds


def test_limits_are_found_whatever_the_case_of_their_names():
    limits = read_rate_limits([(b"X-RateLimit-Remaining-Requests", b"5"), (b"content-type", b"x"), (b"date", b"y")])
    assert limits == RateLimits(requests_left=5)


def test_headers_without_limits_or_with_nonsense_give_none():
    assert read_rate_limits([(b"content-type", b"application/json")]) is None
    assert read_rate_limits([(b"x-ratelimit-remaining-requests", b"many")]) is None
    assert read_rate_limits([(b"x-ratelimit-remaining-something-else", b"3")]) is None


@pytest.mark.parametrize("order", [1, -1])
def test_anthropic_s_closest_token_limit_precedes_the_limit_of_input(order):
    headers = [
        (b"anthropic-ratelimit-input-tokens-remaining", b"79000"),
        (b"anthropic-ratelimit-tokens-remaining", b"500"),
    ]
    assert read_rate_limits(headers[::order]) == RateLimits(tokens_left=500)
