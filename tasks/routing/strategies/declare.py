"""How a function says that it is a strategy."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from tasks.routing.snapshot import Strategy


def strategy(
    *, options: type[BaseModel] | None = None, sticky: bool = False, predicts: bool = False, traits: bool = True
) -> Callable[[Strategy], Strategy]:
    """Mark a strategy.

    `options` is what ``routes.NAME.options`` may say to it. `sticky`: it chooses a model for what that model is, so a
    call that failed there is tried there again before another is asked; else models are as good as one another, and
    the next is asked at once. `predicts`: it reads `Request.quality`, which costs time to make. `traits`: it reads
    `Request.traits`, the weights, prices and scores of models.
    """

    def mark(function: Strategy) -> Strategy:
        function.options = options  # type: ignore[attr-defined]
        function.sticky = sticky  # type: ignore[attr-defined]
        function.predicts = predicts  # type: ignore[attr-defined]
        function.traits = traits  # type: ignore[attr-defined]
        return function

    return mark
