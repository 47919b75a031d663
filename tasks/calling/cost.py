"""What calls cost: tokens times prices. Pure; USD everywhere, prices are for a million tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.config.models import Price
    from tasks.contract.result import Usage

__all__ = ["cost_of"]


def cost_of(price: Price, usage: Usage) -> float:
    """USD of one call. Cached tokens are part of the input's and have their own price, where the table has one."""
    # A provider that tells more cached tokens than input has miscounted: no call earns money.
    cached = min(usage.cached_tokens, usage.input_tokens)
    rate = price.input if price.cached is None else price.cached
    return ((usage.input_tokens - cached) * price.input + cached * rate + usage.output_tokens * price.output) / 1e6
