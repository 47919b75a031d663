"""Versions of a route's prompt, each on the same cases and the same model, compared case by case."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ops.evaluate.profiling.asking import EvalRun
from ops.evaluate.profiling.cases import CaseSet
from ops.evaluate.profiling.judging import GradedAnswer, Grading, ask_and_grade, by_subject, question_of
from ops.evaluate.profiling.measure import cost_of, latency_of, share_of
from ops.evaluate.profiling.statistics import holm, sign_test
from tasks.config.routes import Route
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import BadInput

#: The name of the version that the configuration has.
CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Version:
    """A prompt. `name` ends in the beginning of its text's sha256, so that an edited file is another version."""

    name: str
    sha256: str
    text: str


@dataclass(frozen=True, slots=True)
class PromptComparison:
    """A version against another on the cases that both have a grade for.

    `p` is the exact p-value of McNemar's test, `p_adjusted` the same after Holm, for all comparisons of the run.
    """

    version: str
    against: str
    wins: int
    losses: int
    ties: int
    p: float
    p_adjusted: float


def read_versions(route: Route, files: Sequence[Path]) -> tuple[Version, ...]:
    """The configured prompt, then the text of each file.

    Raises:
        BadInput: for a file that can't be read or is blank, and for two versions of the same text.
    """
    versions = [_version(CURRENT, route.prompt or "")]
    for path in files:
        try:
            text = read_text_file(path).strip()
        except UnicodeDecodeError:
            raise BadInput("prompts", f"{path} is not UTF-8 text", "convert it first") from None
        except OSError as error:
            raise BadInput("prompts", f"{path} can't be read: {error.strerror}") from None
        if not text:
            raise BadInput("prompts", f"{path} is blank", "write the prompt into it")
        version = _version(path.name, text)
        for known in versions:
            if known.sha256 == version.sha256:
                raise BadInput("prompts", f"{path} has the same text as {known.name}", "leave one of them out")
        versions.append(version)
    return tuple(versions)


def _version(name: str, text: str) -> Version:
    text = text.strip()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Version(f"{name}@{digest[:8]}", digest, text)


def cases_of_route(cases: CaseSet, route: str) -> CaseSet:
    """The accuracy cases of one route: those that name it, or none.

    Raises:
        BadInput: if there are none.
    """
    kept = tuple(case for case in cases.cases if case.kind == "accuracy" and case.route in {None, route})
    if not kept:
        raise BadInput("eval", f"{cases.name} has no accuracy case of route {route!r}", f'write "route": "{route}"')
    return CaseSet(cases.name, cases.sha256, kept)


async def ask_versions(
    run: EvalRun, cases: CaseSet, *, versions: Sequence[Version], model: str, judge: str | None
) -> tuple[Grading, Mapping[str, list[GradedAnswer]]]:
    """Every version on every case; the graded answers of each version in the order of the cases. Raises like `ask`.

    A case that brings a prompt of its own is asked with the version all the same: it is the version that is measured.
    """
    wanted = [
        (version.name, case, 0, question_of(case, f"prompt:{model}:{version.sha256}", model, version.text, 0))
        for case in cases.cases
        for version in versions
    ]
    grading = await ask_and_grade(run, wanted, judge=judge)
    return grading, by_subject(grading, (version.name for version in versions))


def compare(by_version: Mapping[str, Sequence[GradedAnswer]]) -> list[PromptComparison]:
    """Each version against the first, case by case: a win is right where the first is wrong."""
    names = list(by_version)
    first = [item.right for item in by_version[names[0]]]
    counted: list[tuple[str, int, int, int]] = []
    for name in names[1:]:
        pairs = [
            (mine.right, theirs)
            for mine, theirs in zip(by_version[name], first, strict=True)
            if mine.right is not None and theirs is not None
        ]
        wins, losses = pairs.count((True, False)), pairs.count((False, True))
        counted.append((name, wins, losses, len(pairs) - wins - losses))
    p_values = [sign_test(wins, losses) for _, wins, losses, _ in counted]
    return [
        PromptComparison(name, names[0], wins, losses, ties, p, adjusted)
        for (name, wins, losses, ties), p, adjusted in zip(counted, p_values, holm(p_values), strict=True)
    ]


def summary_of(graded: Sequence[GradedAnswer]) -> dict[str, Any]:
    """What one version came to: accuracy with its interval, and means over the answers. None where nothing was."""
    share, cost, latency = share_of(graded), cost_of(graded), latency_of(graded)
    used = [item.answer.usage for item in graded if item.answer.text is not None]
    return {
        "accuracy": share.model_dump() if share else None,
        "asked": len(graded),
        "ungraded": sum(item.right is None for item in graded),
        "mean_usd": cost.mean_usd if cost else None,
        "mean_input_tokens": round(fmean(usage.input_tokens for usage in used), 1) if used else None,
        "mean_output_tokens": round(fmean(usage.output_tokens for usage in used), 1) if used else None,
        "p50_s": latency.p50_s if latency else None,
        "p95_s": latency.p95_s if latency else None,
    }
