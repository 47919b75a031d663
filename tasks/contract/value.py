"""What every value of the contract has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
