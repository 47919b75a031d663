"""Whether a strategy asks how well each candidate would answer, and what says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tasks.routing.options import is_predicting

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job

__all__ = ["Predictor", "needs_prediction"]


class Predictor(Protocol):
    """`tasks.routing.quality` has the real one."""

    def predict(self, text: str) -> Mapping[str, float]:
        """The probability, for each model that it knows, that its answer to `text` is good."""
        ...

    def predict_all(self, texts: Sequence[str]) -> Any:
        """The same for many: rows of probabilities, in the order of `models`."""
        ...

    @property
    def models(self) -> Sequence[str]: ...


def needs_prediction(job: Job, route: str, config: Config) -> bool:
    """Whether the strategy that will choose for this job reads a prediction, and there is one to be had."""
    if config.outcomes is None or job.fixed_model is not None:
        return False
    return is_predicting(job.strategy or config.all_routes[route].strategy)
