"""The configured models on one evaluation set: every model answers every case."""

from __future__ import annotations

from collections.abc import Sequence

from ops.evaluate.profiling.asking import EvalRun
from ops.evaluate.profiling.cases import Case, CaseSet
from ops.evaluate.profiling.judging import Grading, ask_and_grade, question_of
from tasks.config.config import Config
from tasks.config.models import Model
from tasks.contract.errors import BadInput


def check_models(names: Sequence[str], config: Config) -> tuple[str, ...]:
    """The models to measure, each once; all of the configuration where none is named.

    Raises:
        BadInput: for a name that is not configured.
    """
    for name in names:
        _known("models", name, config)
    return tuple(dict.fromkeys(names or config.models))


def check_judge(judge: str | None, cases: CaseSet, config: Config) -> None:
    """Whether there is a judge where one is needed.

    Raises:
        BadInput: naming the first case that needs one, or a judge that is not configured.
    """
    if judge is not None:
        _known("judge", judge, config)
    elif needing := cases.needing_judge():
        raise BadInput(
            f"line {needing[0].line}.grade", "judge needs a judge model", "name one of the configuration with --judge"
        )


def is_priced(model: Model) -> bool:
    """Whether what a model costs is known: it has a price, or runs here and costs nothing."""
    return "price" in model.model_fields_set or model.provider in {"local", "simulated"}


def prompt_of(case: Case, config: Config) -> str | None:
    """The case's own prompt, or that of its route.

    Raises:
        BadInput: for a route that is not configured.
    """
    if case.route is not None and case.route not in config.routes:
        raise BadInput(
            f"line {case.line}.route", f"{case.route!r} is not known", f"allowed: {', '.join(sorted(config.routes))}"
        )
    if case.prompt is not None or case.route is None:
        return case.prompt
    return config.routes[case.route].prompt


async def ask_models(
    run: EvalRun, cases: CaseSet, *, models: Sequence[str], judge: str | None, config: Config
) -> Grading:
    """Ask every model every case and grade the answers. Raises as `EvalRun.ask`."""
    wanted = [
        (model, case, sample, question_of(case, f"model:{model}", model, prompt_of(case, config), sample))
        for case in cases.cases
        # Side by side, so that all models are busy and none has the quiet hours to itself.
        for sample in range(case.samples)
        for model in models
    ]
    return await ask_and_grade(run, wanted, judge=judge)


def _known(field: str, name: str, config: Config) -> None:
    if name not in config.models:
        raise BadInput(field, f"{name!r} is not a model", f"allowed: {', '.join(sorted(config.models))}")
