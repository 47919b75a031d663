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

__all__ = ["LazyCascades", "LazyFit", "fit_cascade", "fit_predictor"]

T = TypeVar("T")

#: Choices of routes whose classifiers are kept: those of all workflows, and more. Each may have some 30 MB.
MOST_CHOICES = 32


class LazyFit(Generic[T]):
    """Fits once, in a thread, at the first call; concurrent callers share the result."""

    def __init__(self, fit: Callable[[], T]) -> None:
        self._fit = fit
        self._fitting: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        """Return the result.

        Raises:
            PointsmanError: if it can't be fitted; the next call tries again.
        """
        if self._fitting is None:
            self._fitting = asyncio.ensure_future(asyncio.to_thread(self._fit))
        fitting = self._fitting
        try:
            # A caller may be cancelled, the others wait on.
            return await asyncio.shield(fitting)
        except Exception:
            if self._fitting is fitting and fitting.done():
                self._fitting = None
            raise


class LazyCascades:
    """The classifiers of a configuration: those of all routes, and those of each choice of routes that a job names."""

    def __init__(self, fit: Callable[[tuple[str, ...] | None], Cascade]) -> None:
        self._all = LazyFit(lambda: fit(None))
        self._fit = fit
        self._of: OrderedDict[tuple[str, ...], LazyFit[Cascade]] = OrderedDict()

    async def __call__(self, routes: tuple[str, ...] | None = None) -> Cascade:
        """Return the classifiers of `routes`; raises as `LazyFit` does."""
        if routes is None:
            return await self._all()
        # The first is the default route; the order of the others says nothing.
        choice = (routes[0], *sorted({*routes[1:]} - {routes[0]}))
        if choice not in self._of:
            self._of[choice] = LazyFit(lambda: self._fit(choice))
            if len(self._of) > MOST_CHOICES:
                self._of.popitem(last=False)
        self._of.move_to_end(choice)
        return await self._of[choice]()


def fit_cascade(config: Config, routes: tuple[str, ...] | None = None) -> Cascade:
    """Fit the classifiers, or load them from the state directory where nothing has changed since."""
    # Imported here, as below: it needs numpy, which the workers of models never do.
    from tasks.routing.classify.build import CACHE, build_cascade  # noqa: PLC0415

    return build_cascade(config, routes, cache=state_dir() / CACHE)


def fit_predictor(config: Config) -> Predictor | None:
    """Fit the predictor of the configuration's outcomes, or load it in the same way; None without outcomes."""
    if config.outcomes is None:
        return None
    from tasks.routing.quality.predictor import CACHE, build_predictor  # noqa: PLC0415

    return build_predictor(config, cache=state_dir() / CACHE)
