"""What a provider says of its own limits, with an answer or with an error."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RateLimits"]


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What the provider's headers say is left of its limits; None where it doesn't say. Resets are in seconds."""

    requests_limit: int | None = None
    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_limit: int | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None
