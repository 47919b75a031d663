"""How things look: tables and figures for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tasks.contract.result import Result

__all__ = [
    "age",
    "cost",
    "note",
    "number",
    "print_json",
    "print_table",
    "print_text",
    "printable",
    "seconds",
    "summary",
]

#: Columns of a table that goes into a file or a pipe, where nobody's terminal limits it.
UNLIMITED = 400

_STYLES = {
    "succeeded": "green", "ok": "green",
    "running": "cyan", "joining": "cyan",
    "failed": "red", "fail": "red",
    "cancelled": "yellow", "expired": "yellow", "warn": "yellow", "simulated": "magenta",
    "skipped": "dim",
}  # fmt: skip


def note(text: str) -> None:
    """A remark beside the result."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_text(text: str) -> None:
    """A model's words: as they are into files and pipes, without control characters on a terminal."""
    shown = printable(text) if sys.stdout.isatty() else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")


def printable(text: str) -> str:
    """Without what could steer a terminal: line ends and tabs stay, other control characters go."""
    return "".join(letter for letter in text if letter in "\n\t" or (letter >= " " and not "\x7f" <= letter <= "\x9f"))


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    whole: Sequence[str] = (),
    right: Sequence[str] = (),
    to: TextIO | None = None,
) -> None:
    """A table on stdout. Columns in `whole` are never wrapped, those in `right` are aligned for figures."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    to = to or sys.stdout
    terminal = to.isatty()
    width = shutil.get_terminal_size().columns if terminal or os.environ.get("COLUMNS") else UNLIMITED
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in head:
        table.add_column(
            title,
            justify="right" if title in right else "left",
            no_wrap=title in whole or title in right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell).replace("\n", " "), style=_STYLES.get(cell, "")) for cell in row))
    # Written in one go: a console of its own would end the process when the reader has gone.
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=terminal, highlight=False, legacy_windows=False).print(table)
    to.write("".join(line.rstrip() + "\n" for line in page.getvalue().splitlines()))


def age(since: float, now: float) -> str:
    """Time since `since` in its largest unit: ``12s``, ``3m``, ``5h``, ``2d``."""
    passed = max(0.0, now - since)
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= length:
            return f"{int(passed // length)}{unit}"
    return f"{int(passed)}s"


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def cost(usd: float) -> str:
    if usd == 0:
        return "$0"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.2g}" if usd >= 1e-4 else f"${usd:.8f}".rstrip("0")


def number(value: float | None) -> str:
    """A score or a load; nothing where there is none."""
    return "-" if value is None else f"{value:.4g}"


def summary(result: Result) -> str:
    """One line of what became of a job: state, route, model, time, tokens, cost."""
    words: list[str] = [result.state]
    if result.simulated:
        words.append("simulated")
    routing = result.routing
    if routing is not None and routing.route:
        words.append(f"route {routing.route}")
    models = models_of(result)
    if models:
        words.append(f"model {models}")
    if result.parts_total > 1:
        failed = f", {result.parts_failed} failed" if result.parts_failed else ""
        words.append(f"{result.parts_total} parts{failed}")
    if result.ended_at is not None:
        words.append(seconds(result.ended_at - result.accepted_at))
    words += [f"{result.usage.input_tokens}+{result.usage.output_tokens} tokens", cost(result.cost_usd)]
    return " · ".join(words)


def models_of(result: Result) -> str:
    """The model of a job, or of its parts."""
    named = sorted({part.model for part in result.parts if part.model})
    if not named:
        return (result.routing and result.routing.model) or ""
    return ", ".join(named) if len(named) <= 3 else f"{len(named)} models"
