"""What routers learn from the configuration: classifiers from examples, a predictor from outcomes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from tasks.queue.address import state_dir

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.routing.classify.cascade import Cascade
    from tasks.routing.predicting import Predictor

__all__ = ["Cascades", "Fitted", "fit_cascade", "fit_predictor"]

T = TypeVar("T")

#: Choices of routes whose classifiers are kept: those of all workflows, and more. Each may have some 30 MB.
MOST_CHOICES = 32


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


class Cascades:
    """The classifiers of a configuration: those of all routes, and those of each choice of routes that jobs name."""

    def __init__(self, fit: Callable[[tuple[str, ...] | None], Cascade]) -> None:
        self._all = Fitted(lambda: fit(None))
        self._fit = fit
        self._of: OrderedDict[tuple[str, ...], Fitted[Cascade]] = OrderedDict()

    async def __call__(self, routes: tuple[str, ...] | None = None) -> Cascade:
        """Raises PointsmanError: why they can't be fitted; the next to ask has it tried again."""
        if routes is None:
            return await self._all()
        # The first is where the rest goes; the order of the others says nothing.
        choice = (routes[0], *sorted({*routes[1:]} - {routes[0]}))
        if choice not in self._of:
            self._of[choice] = Fitted(lambda: self._fit(choice))
            if len(self._of) > MOST_CHOICES:
                self._of.popitem(last=False)
        self._of.move_to_end(choice)
        return await self._of[choice]()


def fit_cascade(config: Config, routes: tuple[str, ...] | None = None) -> Cascade:
    """The classifiers of a configuration, as they were kept in the state directory where nothing has changed."""
    # Imported here, as below: it brings numpy, which the workers of models never need.
    from tasks.routing.classify.build import CACHE, build_cascade  # noqa: PLC0415

    return build_cascade(config, routes, cache=state_dir() / CACHE)


def fit_predictor(config: Config) -> Predictor | None:
    """What its outcomes teach, kept in the same way; None where it names none."""
    if config.outcomes is None:
        return None
    from tasks.routing.quality.build import CACHE, predictor_of  # noqa: PLC0415

    return predictor_of(config, cache=state_dir() / CACHE)
