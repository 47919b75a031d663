"""The tokens that an answer cost, from whatever the provider counted.

A count that can't be true is treated as missing, and what is missing is estimated from the texts: so spent money is
never forgotten, and no answer is thrown away for its bookkeeping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

from tasks.contract.model_client import ModelRequest
from tasks.contract.result import Usage
from tasks.contract.tokens import estimate, estimate_messages

#: Tokens that a provider may add to what we see: its own instructions, results of a search, thoughts that it hides.
HIDDEN = 1_000_000
#: Bytes of UTF-8 that a character has at most; a token has one at least.
_BYTES = 4


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """A provider's counts, unchecked; None for those that it does not send.

    `input` includes `cached`. `output` is to include `reasoning`; where it does not, `total` shows it.
    """

    input: Any = None
    output: Any = None
    total: Any = None
    cached: Any = None
    reasoning: Any = None


def is_count(value: Any) -> TypeGuard[int | float]:
    """Whether `value` is a whole number from 0 on: no boolean, text, fraction, infinity or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return False
    return isinstance(value, int) or (math.isfinite(value) and value.is_integer())


def sum_counts(values: Iterable[Any]) -> Any:
    """The sum of those that are there; None where none is, and NaN, which is no count, where one is no count."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return sum(map(int, there)) if all(map(is_count, there)) else math.nan


def read_usage(counts: TokenCounts, request: ModelRequest, answer: str) -> Usage:
    """The tokens of one answer. `answer` is all text that the model wrote, its thoughts included.

    Reasoning that a provider counts beside its output (xAI, Gemini's compatible address) is found by the total: input
    and output together are less than it. Without a total, more reasoning than output can only stand beside it.
    """
    asked = [message.content for message in request.messages]
    most_input = HIDDEN + _BYTES * sum(map(len, asked))
    most_output = HIDDEN + _BYTES * len(answer)
    given, output = _bounded(counts.input, most_input), _bounded(counts.output, most_output)
    total = _bounded(counts.total, most_input + most_output) or 0
    reasoning = _bounded(counts.reasoning, most_output) or 0
    if given and total > given + (output or 0):
        output = total - given
    elif output and not given and total > output:
        given = total - output
    elif output is not None and reasoning > output:
        output += reasoning
    estimated = not given or (not output and bool(answer))
    if not given:
        given = estimate_messages(asked)
    if not output:
        output = estimate(answer)
    cached = _bounded(counts.cached, given)
    if cached is None:
        # More from the cache than was sent: at the full price nothing is billed too low.
        cached, estimated = 0, estimated or counts.cached is not None
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=cached,
        reasoning_tokens=min(reasoning, output),
        estimated=estimated,
    )


def _bounded(value: Any, most: int) -> int | None:
    return int(value) if is_count(value) and value <= most else None
