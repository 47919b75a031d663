"""One simulated model behind its server: counts, limits, and answers that depend on the request alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

from tasks.config.simulation import LETTERS_A_TOKEN, Simulation, count_tokens

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

#: Requests whose number of repetitions is kept; about 10 MB. The least recently used ones are forgotten first.
REMEMBERED_REQUESTS = 65_536
#: Seconds in which an empty bucket fills.
MINUTE = 60.0
#: Rounding errors of divisions must not cost a request.
_TOLERANCE = 1e-6


class RequestDenied(Exception):
    """The request is invalid, or the model takes no further one now: `headers` say when, in OpenAI's words."""

    def __init__(self, status: int, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Draws:
    """Three numbers in [0, 1): the choice among answers, which is always the same, the error and the latency."""

    choice: float
    error: float
    latency: float


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer with its `finish_reason` and its `usage`, as OpenAI's API names them."""

    text: str
    finish: str
    prompt_tokens: int
    tokens: int

    @property
    def usage(self) -> dict[str, int]:
        total = self.prompt_tokens + self.tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": total}


class Repetitions:
    """Draws numbers from a hash of the request and of the number of its repetitions.

    So a run can be repeated, and yet a retry may succeed.
    """

    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}

    def draw(self, name: str, body: Mapping[str, Any]) -> Draws:
        request = json.dumps([name, body["messages"], body.get("seed")], sort_keys=True).encode()
        key = blake2b(request, digest_size=16).digest()
        asked = self._asked.pop(key, 0)  # removed and inserted again: the order of keys is the order of use
        self._asked[key] = asked + 1
        if len(self._asked) > REMEMBERED_REQUESTS:
            del self._asked[next(iter(self._asked))]
        again = blake2b(key, digest_size=16, salt=asked.to_bytes(16, "big")).digest()
        return Draws(_fraction(key[:8]), _fraction(again[:8]), _fraction(again[8:]))


class ServedModel:
    """One simulated model with its counts."""

    __slots__ = ("_full_at", "errors", "in_flight", "name", "peak_in_flight", "requests", "simulation")

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.name = name
        self.simulation = simulation
        self.requests = self.in_flight = self.peak_in_flight = self.errors = 0
        #: When the bucket of requests a minute is full again, on the monotonic clock.
        self._full_at = 0.0

    def stats(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("requests", "in_flight", "peak_in_flight", "errors")}

    def acquire(self) -> Headers:
        """Count a request and return the headers of its answer; `release` must follow.

        Raises:
            RequestDenied: if a limit of the simulation is reached.
        """
        self.requests += 1
        limit = self.simulation.concurrency
        if limit is not None and self.in_flight >= limit:
            raise self._deny(f"more than {limit} requests at once")
        headers = self._take_from_bucket(self.simulation.rpm) if self.simulation.rpm is not None else ()
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        return headers

    def release(self) -> None:
        self.in_flight -= 1

    def complete(self, body: Mapping[str, Any], choice: float) -> Completion:
        messages = body["messages"]
        prompt, text = _split_messages(messages)
        answer = self.simulation.answer(self.name, text, choice, prompt=prompt, schema=_schema_of(body))
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if cut := isinstance(limit, int) and 0 < limit < count_tokens(answer):
            answer = answer[: LETTERS_A_TOKEN * limit]
        prompt_tokens = count_tokens("".join(map(_text_of, messages)))
        return Completion(answer, "length" if cut else "stop", prompt_tokens, count_tokens(answer))

    def _take_from_bucket(self, rpm: int) -> Headers:
        """Take a request from the bucket, which holds `rpm` requests and fills evenly."""
        now, step = time.monotonic(), MINUTE / rpm
        full_at = max(self._full_at, now) + step
        wait = full_at - now - MINUTE
        granted = wait <= _TOLERANCE
        if granted:
            self._full_at = full_at
        reset = max(0.0, self._full_at - now)
        headers = (
            (b"x-ratelimit-limit-requests", str(rpm).encode()),
            (b"x-ratelimit-remaining-requests", str(max(0, int((MINUTE - reset) / step + _TOLERANCE))).encode()),
            (b"x-ratelimit-reset-requests", f"{reset:.3f}s".encode()),
        )
        if not granted:
            retry_after = (b"retry-after-ms", str(int(1000 * wait) + 1).encode())
            raise self._deny(f"more than {rpm} requests a minute", (*headers, retry_after))
        return headers

    def _deny(self, message: str, headers: Headers = ()) -> RequestDenied:
        self.errors += 1
        return RequestDenied(429, message, headers)


def _schema_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON Schema of the answer, from the field that OpenAI's API has for it."""
    response_format = body.get("response_format")
    json_schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    schema = json_schema.get("schema") if isinstance(json_schema, dict) else None
    return schema if isinstance(schema, dict) else None


def _split_messages(messages: Iterable[dict[str, Any]]) -> tuple[str, str]:
    """Return the system messages, and the last message of the user."""
    messages = list(messages)
    system = [message for message in messages if message.get("role") == "system"]
    user = [message for message in messages if message.get("role") == "user"] or messages
    return "\n".join(map(_text_of, system)), _text_of(user[-1])


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _fraction(digest: bytes) -> float:
    """Return the first 53 bits of `digest`, the precision of a float, as a number in [0, 1)."""
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
