"""Check the fields of a submitted job about its parts and their join."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tasks.config.config import Config
from tasks.config.prompts import check_prompt
from tasks.contract.errors import BadInput, below
from tasks.contract.job import Job, parse_job
from tasks.contract.job_fields import Item
from tasks.parallel.early_stop import stop_rule_of
from tasks.parallel.joins import DEFAULT_JOINS, JOINS
from tasks.parallel.part_limits import check_part_count
from tasks.parallel.part_spec import DEEPEST, fields_for_item, fields_for_section
from tasks.parallel.split import SPLITS

#: Checks a whole job: `tasks.accept.check`.
Check = Callable[[Job], None]


def check_parts(job: Job, config: Config, *, check: Check) -> None:
    """Check split, join, variety, items and `each`; `check` checks child jobs.

    Raises:
        BadInput: naming the field and the allowed values.
    """
    _check_split(job, config)
    _check_join(job, config)
    _check_variety(job, config)
    _check_items(job, config, check)
    if job.each is not None:
        _check_depth(job.each)
        with below("each"):
            check(parse_job(fields_for_section(job, "x")))
    check_part_count(job, config)


def _check_split(job: Job, config: Config) -> None:
    if job.split is None or job.items is not None:
        if job.split_options:
            raise BadInput("split_options", "go with a split", "name one in split, or leave them out")
        return
    check_known("split", job.split, SPLITS.names)
    SPLITS.options(job.split, job.split_options)
    if isinstance(prompt := job.split_options.get("prompt"), str):
        check_prompt(config, prompt, at="split_options.prompt")
    if SPLITS.traits(job.split).by == "files":
        raise BadInput("split", "goes with files", "send files, or use another split")


def _check_join(job: Job, config: Config) -> None:
    name = job.join or DEFAULT_JOINS.get(job.kind)
    if job.join is not None:
        check_known("join", job.join, JOINS.names)
        if job.kind not in JOINS.traits(job.join).kinds:
            going = [name for name in JOINS.names if job.kind in JOINS.traits(name).kinds]
            allowed = ", ".join(going) or "none: a single job has one part"
            raise BadInput("join", f"{job.join!r} does not go with kind {job.kind!r}", f"allowed: {allowed}")
    if name is not None and (job.join is not None or job.join_options):
        options = JOINS.options(name, job.join_options)
        if job.kind == "vote":
            # Raises if the votes could never decide.
            stop_rule_of(
                join=name,
                options=options,
                n=job.n or 1,
                early_stop=job.early_stop,
                confidence=job.confidence,
                weights={},
            )
        # A misspelt name would have no weight, without any sign of it.
        for model in getattr(options, "weights", {}) if name == "weighted" else ():
            check_known("join_options.weights", model, config.models)
        for option, value in job.join_options.items():
            if option.endswith("prompt") and isinstance(value, str):
                check_prompt(config, value, at=f"join_options.{option}")
    elif job.join_options:
        raise BadInput("join_options", f"go with a join, and kind {job.kind!r} has none", "leave them out")
    if job.join_model != "auto":
        check_known(
            "join_model", job.join_model, ("auto", *config.models, *(f"route:{name}" for name in config.all_routes))
        )


def _check_variety(job: Job, config: Config) -> None:
    if job.variety is None:
        return
    for place, model in enumerate(job.variety.models):
        check_known(f"variety.models[{place}]", model, config.models)
    for place, prompt in enumerate(job.variety.prompts):
        check_prompt(config, prompt, at=f"variety.prompts[{place}]")


def _check_depth(each: Mapping[str, Any]) -> None:
    depth, inner = 1, each.get("each")
    while isinstance(inner, Mapping):
        depth, inner = depth + 1, inner.get("each")
    if depth > DEEPEST:
        raise BadInput("each", f"makes jobs within jobs {depth} deep", f"at most {DEEPEST} are allowed: nest them less")


def _check_items(job: Job, config: Config, check: Check) -> None:
    for place, item in enumerate(job.items or ()):
        if not isinstance(item, Item):
            continue
        at = f"items[{place}]"
        if item.prompt is not None:
            check_prompt(config, item.prompt, at=f"{at}.prompt")
        if item.route is not None or item.model is not None:
            with below(at):
                check(parse_job(fields_for_item(job, item)))
        elif item.response_schema is not None:
            with below(at):
                check(Job(text="x", response_schema=item.response_schema))


def check_known(field: str, name: str, names: Iterable[str]) -> None:
    """Raise `BadInput` unless `name` is one of `names`."""
    allowed = frozenset(names)
    if name not in allowed:
        raise BadInput.unknown(field, name, allowed)
