"""Measures how the work of a function grows with its input, independent of the machine and of other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["FACTOR", "assert_linear"]

#: How much longer the second input is. Linear work grows by it, quadratic work by its square.
FACTOR = 8
#: Measurements of each input; the least one counts.
ROUNDS = 5


def assert_linear(function: Callable[[str], Any], unit: str, *, length: int = 20_000) -> None:
    """The CPU time of `function` on repeated `unit`, of this length and of `FACTOR` times it, grows linearly."""
    count = length // len(unit)
    few, many = (min(_cpu_seconds(function, unit * count * factor) for _ in range(ROUNDS)) for factor in (1, FACTOR))
    # Half way to quadratic, on a logarithmic scale; and what takes less than a millisecond is cheap in any case.
    assert many < max(few * FACTOR**1.5, 0.001), f"{unit!r}: {few:.6f} s grew to {many:.6f} s"


def _cpu_seconds(function: Callable[[str], Any], text: str) -> float:
    start = time.thread_time()
    function(text)
    return time.thread_time() - start
