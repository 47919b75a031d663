"""What routers learn from the configuration: classifiers from examples, a predictor from outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from tasks.queue.address import state_dir

if TYPE_CHECKING:
    from tasks.classify.cascade import Cascade
    from tasks.config import Config
    from tasks.routing.predicting import Predictor

__all__ = ["Fitted", "fit_cascade", "fit_predictor"]

T = TypeVar("T")


class Fitted(Generic[T]):
    """What is fitted once and in a thread: whoever asks meanwhile waits for it."""

    def __init__(self, fit: Callable[[], T]) -> None:
        self._fit = fit
        self._fitting: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        """It.

        Raises:
            PointsmanError: why it can't be fitted; the next to ask has it tried again.
        """
        if self._fitting is None:
            self._fitting = asyncio.ensure_future(asyncio.to_thread(self._fit))
        fitting = self._fitting
        try:
            # One that asks may be cancelled, the others wait on.
            return await asyncio.shield(fitting)
        except Exception:
            if self._fitting is fitting and fitting.done():
                self._fitting = None
            raise


def fit_cascade(config: Config) -> Cascade:
    """The classifiers of a configuration, as they were kept in the state directory where nothing has changed."""
    # Imported here, as below: it brings numpy, which the workers of models never need.
    from tasks.classify.build import CACHE, build_cascade  # noqa: PLC0415

    return build_cascade(config, cache=state_dir() / CACHE)


def fit_predictor(config: Config) -> Predictor | None:
    """What its outcomes teach, kept in the same way; None where it names none."""
    if config.outcomes is None:
        return None
    from tasks.routing.quality.build import CACHE, predictor_of  # noqa: PLC0415

    return predictor_of(config, cache=state_dir() / CACHE)
