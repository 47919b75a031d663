"""The look of results: tables, facts and figures for people, one JSON document for programs."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.contract.result import Candidate, Result

#: Columns of a table in a file or a pipe, where no terminal limits the width.
UNLIMITED = 400

_STYLES = {
    "succeeded": "green", "ok": "green",
    "running": "cyan", "joining": "cyan",
    "failed": "red", "fail": "red",
    "cancelled": "yellow", "expired": "yellow", "warn": "yellow", "simulated": "magenta",
    "skipped": "dim",
}  # fmt: skip


#: Characters that turn the direction of the text behind them: a line could show other words than it holds.
DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def note(text: str) -> None:
    """Print a remark on stderr, beside the result."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_text(text: str) -> None:
    """Print a model's answer: unchanged into files and pipes, without control characters on a terminal."""
    shown = printable(text) if sys.stdout.isatty() else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")


def printable(text: str) -> str:
    """Remove control characters, which could steer a terminal or turn a text around; keep line ends and tabs."""
    kept = (letter for letter in text if letter not in DIRECTIONS)
    return "".join(letter for letter in kept if letter in "\n\t" or (letter >= " " and not "\x7f" <= letter <= "\x9f"))


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Sequence[str] = (), right: Sequence[str] = ()
) -> None:
    """Print a table on stdout. Columns in `whole` are never wrapped, those in `right` are aligned for figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
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
    # Rendered into a text first: rich would end the process when the reader of stdout has gone.
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=terminal, highlight=False, legacy_windows=False).print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in page.getvalue().splitlines()))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a line each; a long value continues below itself."""
    shown = [(name, " ".join(printable(value).split())) for name, value in facts]
    margin = max(len(name) for name, _ in shown) + 2
    limited = sys.stdout.isatty() or os.environ.get("COLUMNS")
    width = max(shutil.get_terminal_size().columns, margin + 20) if limited else UNLIMITED
    for name, value in shown:
        print(textwrap.fill(value, width, initial_indent=name.ljust(margin), subsequent_indent=" " * margin))


def print_candidates(
    candidates: Sequence[Candidate], *, chosen: Sequence[str], failed: Mapping[str, str] | None = None
) -> None:
    """Print the models that a job could go to. Several are `chosen` where they take turns.

    `failed` holds the last error of each model that gave no answer.
    """
    word = "chosen" if len(chosen) == 1 else "in turn"

    def remark(candidate: Candidate) -> str:
        if candidate.reason:
            return f"left out: {candidate.reason}"
        if candidate.closed and candidate.model not in chosen:
            return f"closed: {candidate.closed}"
        if failed and candidate.model in failed:
            return f"failed: {failed[candidate.model]}"
        return word if candidate.model in chosen else ""

    rows = [
        (
            candidate.model,
            number(candidate.score),
            number(candidate.load),
            seconds(candidate.latency_s),
            f"{candidate.errors:.0%}" if candidate.errors else "-",
            remark(candidate),
        )
        for candidate in candidates
    ]
    head = ("candidate", "score", "load", "latency", "errors", "")
    print_table(head, rows, right=("score", "load", "latency", "errors"))


def age(since: float, now: float) -> str:
    """Return the time since `since` in its largest unit: ``12s``, ``3m``, ``5h``, ``2d``."""
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


def number(value: float | None, form: str = ".4g") -> str:
    """Return a figure as text in the given format; a dash for None."""
    return "-" if value is None else format(value, form)


def summary(result: Result) -> str:
    """Return one line on a job: state, route, model, time, tokens, cost."""
    words: list[str] = [result.state]
    if result.truncated:
        words.append("cut at a bound of tokens")
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
    about = "about " if result.usage.estimated else ""
    words += [f"{about}{result.usage.input_tokens}+{result.usage.output_tokens} tokens", cost(result.cost_usd)]
    return " · ".join(words)


def models_of(result: Result) -> str:
    """Return the model of a job, or the models of its parts; only their number if there are many."""
    named = sorted({part.model for part in result.parts if part.model})
    if not named:
        return (result.routing and result.routing.model) or ""
    return ", ".join(named) if len(named) <= 3 else f"{len(named)} models"
