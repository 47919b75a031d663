"""A provider's own limits, as the headers of an answer or of an error state them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RateLimits"]


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of a provider and what is left of them; None where the headers don't say. Resets are in seconds."""

    requests_limit: int | None = None
    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_limit: int | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None
