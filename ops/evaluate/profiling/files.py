"""What a measurement leaves behind: the profile file, and the outcomes of each question for cost-quality routing."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.evaluate.profiling.judging import GradedAnswer
from tasks.config.profiles import ModelProfile, ProfileFile
from tasks.contract.errors import BadInput


def write_profiles(path: Path, measured: Mapping[str, ModelProfile], *, before: ProfileFile | None) -> ProfileFile:
    """Write the profile file; models of the file `before` that were not measured now stay in it.

    Readers see the old file or the new one, never half of it.

    Raises:
        BadInput: if it can't be written.
    """
    kept = before.models if before is not None else {}
    file = ProfileFile(models=dict(sorted({**kept, **measured}.items())))
    write_text(path, file.model_dump_json(indent=2) + "\n", field="out")
    return file


def write_text(path: Path, text: str, *, field: str) -> None:
    """Write a file whole or not at all; `field` is the option that named it.

    Raises:
        BadInput: if it can't be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            with draft.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(
            field, f"{path} can't be written: {error.strerror}", "name a file in a folder that exists"
        ) from None


def outcomes_csv(graded: Mapping[str, Sequence[GradedAnswer]]) -> tuple[str, int]:
    """The accuracy cases as ``prompt, <model>_correct, <model>_cost`` (USD), and how many rows there are.

    A case that some model has no grade for is left out: a gap would read as wrong.
    """
    models = list(graded)
    marks = {
        model: {item.case.id: item for item in items if item.case.kind == "accuracy" and item.right is not None}
        for model, items in graded.items()
    }
    cases = [item.case for item in graded[models[0]] if all(item.case.id in marks[model] for model in models)]
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["prompt", *(f"{model}_{column}" for model in models for column in ("correct", "cost"))])
    for case in cases:
        row = [case.question]
        for model in models:
            item = marks[model][case.id]
            row += [str(int(bool(item.right))), f"{item.answer.cost_usd:.9f}"]
        writer.writerow(row)
    return page.getvalue(), len(cases)
