"""Graded answers: prompts, for each model whether it answered well, and what a call costs. Read from CSV or JSON lines.

CSV has a column ``prompt`` and one ``<model>_correct`` a model; JSON lines have the same names, or the grades as an
object ``{"prompt": …, "scores": {"<model>": 1}}``. A grade is 0 or 1 (false or true), or anything between. What a call
costs may stand in ``<model>_cost`` (USD of this very call) or ``<model>_price`` (USD per million tokens), or in a file
of its own (`read_prices`). Other columns are ignored.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError
from tasks.contract.tokens import estimate

Floats: TypeAlias = "NDArray[np.float64]"
#: USD per million tokens: input, output.
Prices: TypeAlias = Mapping[str, tuple[float, float]]

#: Names of the column that holds the text; the first that is there counts.
PROMPT_FIELDS = ("prompt", "question", "text")
#: Names of the object that holds the grades of a JSON line.
SCORE_FIELDS = ("scores", "correct")
CORRECT, COST, PRICE = "_correct", "_cost", "_price"
#: Tokens of a typical call, as `tasks.routing.snapshot.Traits` has it; the answer counts wherever no cost is given.
INPUT_TOKENS, OUTPUT_TOKENS = 1_000, 250
#: Characters of one cell of a CSV; Python's own bound of 131,072 is less than a long prompt.
CELL_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True)
class Outcomes:
    """`correct` is prompts × models, 0 to 1; `costs` are USD, of the same shape, or None without prices."""

    source: str
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    correct: Floats
    costs: Floats | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of what a predictor is fitted to: prompts, models, grades."""
        hashed = hashlib.sha256(json.dumps([self.models, self.prompts]).encode())
        hashed.update(np.ascontiguousarray(self.correct).tobytes())
        return hashed.hexdigest()

    def of_models(self, models: Sequence[str]) -> Outcomes:
        """The same with these models alone, in this order.

        Raises:
            ConfigError: if one of them isn't there.
        """
        missing = [model for model in models if model not in self.models]
        if missing:
            raise ConfigError(
                f"{self.source}: has no grades of {', '.join(missing)}; there are those of {', '.join(self.models)}"
            )
        at = [self.models.index(model) for model in models]
        costs = None if self.costs is None else self.costs[:, at]
        return Outcomes(self.source, self.prompts, tuple(models), self.correct[:, at], costs)


def read_outcomes(path: Path, *, prices: Prices | None = None) -> Outcomes:
    """Read a file; one whose name ends in .jsonl or .ndjson is JSON lines, any other is CSV.

    `prices` come before prices in the file; costs in the file come before both.

    Raises:
        ConfigError: with file, line and column of the first thing that is wrong, and what is expected there.
    """
    lines = path.suffix.lower() in {".jsonl", ".ndjson"}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_json_rows(path, file) if lines else _csv_rows(path, file))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; convert it first") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    if not rows:
        raise ConfigError(f"{path}: has no rows; expected one a prompt")
    first, fields = rows[0]
    prompt = next((name for name in PROMPT_FIELDS if name in fields), None)
    if prompt is None:
        raise ConfigError(f"{path}:{first}: has no prompt; expected one of {', '.join(PROMPT_FIELDS)}")
    models = tuple(name.removesuffix(CORRECT) for name in fields if name.endswith(CORRECT) and name != CORRECT)
    if not models:
        raise ConfigError(f"{path}:{first}: has no grades; expected a column <model>{CORRECT} for each model")
    texts = tuple(_text(path, line, prompt, row) for line, row in rows)
    correct = np.array([[_grade(path, line, model + CORRECT, row) for model in models] for line, row in rows])
    return Outcomes(str(path), texts, models, correct, _costs(path, rows, texts, models, prices))


def read_prices(path: Path) -> dict[str, tuple[float, float]]:
    """USD per million tokens by model, from JSON: ``{"<model>": {"input": 0.1, "output": 0.4}}``.

    Accepted as well: ``usd_per_1m_input`` and ``usd_per_1m_output``, or one number for both.

    Raises:
        ConfigError: for what is no such file.
    """
    try:
        data = json.loads(read_text_file(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{path}{line}: is not JSON text") from None
    if not isinstance(data, dict) or not data:
        raise ConfigError(f'{path}: must be an object such as {{"small": {{"input": 0.1, "output": 0.4}}}}')
    return {model: _price(path, model, outcome) for model, outcome in data.items()}


def typical_usd(price_in: float, price_out: float) -> float:
    """USD of a typical call by prices per million tokens: what the strategy `cost_quality` reckons with."""
    return (INPUT_TOKENS * price_in + OUTPUT_TOKENS * price_out) / 1e6


def _price(path: Path, model: str, outcome: Any) -> tuple[float, float]:
    if not isinstance(outcome, dict):
        outcome = {"input": outcome, "output": outcome}
    found = tuple(outcome.get(side, outcome.get(f"usd_per_1m_{side}")) for side in ("input", "output"))
    if not all(_is_number(value) and value >= 0 for value in found):
        raise ConfigError(f"{path}: {model}: needs input and output, USD per million tokens, each a number from 0")
    return float(found[0]), float(found[1])


def _csv_rows(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with the line that they end on."""
    before = csv.field_size_limit(CELL_CHARACTERS)
    try:
        reader = csv.reader(file, strict=True)
        head = next(reader, None)
        if head is None:
            raise ConfigError(f"{path}: is empty; expected a line of names: prompt, <model>{CORRECT}, …")
        twice = next((name for name in head if head.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{path}:1: column {twice!r} stands twice; rename or leave out one")
        for row in reader:
            if not row:  # a blank line
                continue
            if len(row) != len(head):
                raise ConfigError(
                    f"{path}:{reader.line_num}: has {len(row)} cells, the first line names {len(head)}; "
                    'put a text with commas or line ends into "quotes"'
                )
            yield reader.line_num, dict(zip(head, row, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: is not CSV: {error}") from None
    finally:
        csv.field_size_limit(before)


def _json_rows(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"{path}:{number}: is not JSON; expected one object a line") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: must be an object with prompt and scores")
        scores: Mapping[str, Any] = next((row[name] for name in SCORE_FIELDS if isinstance(row.get(name), dict)), {})
        yield number, row | {f"{model}{CORRECT}": score for model, score in scores.items()}


def _text(path: Path, line: int, field: str, row: Mapping[str, Any]) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{path}:{line}: {field}: is missing or blank; leave the row out")
    return text


def _grade(path: Path, line: int, field: str, row: Mapping[str, Any]) -> float:
    value = _number(row.get(field))
    if value is None or not 0 <= value <= 1:
        raise ConfigError(f"{path}:{line}: {field}: must be 0, 1 or between; leave rows out that were not graded")
    return value


def _costs(
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    texts: Sequence[str],
    models: Sequence[str],
    prices: Prices | None,
) -> Floats | None:
    tokens = None
    columns: list[Sequence[float] | Floats] = []
    for model in models:
        if model + COST in rows[0][1]:
            columns.append([_amount(path, line, model + COST, row) for line, row in rows])
            continue
        if prices is not None and model in prices:
            price = np.array([prices[model]])
        elif model + PRICE in rows[0][1]:
            price = np.array([[_amount(path, line, model + PRICE, row)] * 2 for line, row in rows])
        else:
            continue
        tokens = np.array([estimate(text) for text in texts], np.float64) if tokens is None else tokens
        columns.append((tokens * price[:, 0] + OUTPUT_TOKENS * price[:, 1]) / 1e6)
    if not columns:
        if prices is not None:
            raise ConfigError(f"{path}: none of its models has a price; they are called {', '.join(models)}")
        return None
    if len(columns) < len(models):
        bare = [
            model
            for model in models
            if not any(model + end in rows[0][1] for end in (COST, PRICE)) and model not in (prices or {})
        ]
        raise ConfigError(f"{path}: {', '.join(bare)}: has no price, others have; give all of them one, or none")
    return np.array(columns, np.float64).T


def _amount(path: Path, line: int, field: str, row: Mapping[str, Any]) -> float:
    value = _number(row.get(field))
    if value is None or value < 0:
        raise ConfigError(f"{path}:{line}: {field}: must be a number of USD, 0 or more")
    return value


def _number(value: Any) -> float | None:
    """`value`, or the number or truth that a text says."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"true", "false"}:
            return float(word == "true")
        try:
            value = float(word)
        except ValueError:
            return None
    if isinstance(value, bool):
        return float(value)
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
