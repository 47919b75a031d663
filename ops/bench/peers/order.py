"""The other end of `ops.bench.process.Driven`: orders on stdin, answers on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["answer", "orders"]


def orders(out: TextIO | None = None) -> Iterator[dict[str, Any]]:
    """Each order as it comes, until stdin closes. Says first that we are ready."""
    answer(out, ready=True)
    for line in sys.stdin:
        yield json.loads(line)


def answer(out: TextIO | None = None, /, **found: Any) -> None:
    """`out` is where answers go, where stdout was taken for something else."""
    print(json.dumps(found), flush=True, file=out or sys.stdout)
