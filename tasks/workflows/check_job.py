"""Check when a job is submitted that it can be done, before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError

from tasks.config.config import Config
from tasks.config.prompts import check_prompt
from tasks.contract.errors import BadInput, below
from tasks.contract.job import JOB_FIELDS, OWN_LABEL, Job
from tasks.parallel.check_parts import check_parts
from tasks.routing.classify.context import context_rules
from tasks.routing.options import strategy_named
from tasks.routing.traits import check_metrics

#: The kinds of jobs, besides the names of workflows.
KINDS = ("single", "sections", "vote")
#: The fields about the parts of a job and their join.
PARTS = frozenset(name for name, rule in JOB_FIELDS.items() if rule.child == "own") - {"kind", "key"}


def check_job(job: Job, config: Config, *, at: str = "") -> None:
    """Check a job against the configuration; `Job` itself has checked its shape.

    Raises:
        BadInput: naming the field (below `at`) and the allowed values.
    """
    if at:
        with below(at):
            check_job(job, config)
        return
    _check_known("kind", job.kind, (*KINDS, *config.flows))
    if job.kind in config.flows:
        from tasks.workflows.steps import check_workflow_job  # noqa: PLC0415 - loads templates, which few configurations need

        check_workflow_job(job, config)
    if job.fixed_route is not None:
        _check_known("model" if job.model.startswith("route:") else "route", job.fixed_route, config.all_routes)
    if job.fixed_model is not None:
        routes = (f"route:{name}" for name in config.all_routes)
        _check_known("model", job.fixed_model, (*config.models, "auto", *routes))
    _check_routes(job, config)
    if job.prompt:
        check_prompt(config, job.prompt, at="prompt")
    if job.kind != "single" or not PARTS.isdisjoint(job.model_fields_set):
        check_parts(job, config, check=lambda child: check_job(child, config))
    _check_strategy(job, config)
    _check_metadata(job, config)
    if job.webhook is not None:
        raise BadInput("webhook", "is not supported by this version", "leave it out")
    if job.parent is not None:
        raise BadInput("parent", "is set by Pointsman itself", "leave it out")
    _check_size(job, config)
    _check_schema(job.response_schema)


def check_documents(job: Job, config: Config, *, at: str = "") -> None:
    """Check that the text of a checked job can be cut as the job, or the first step of its workflow, asks.

    It takes linear time, but seconds for some megabytes: call it in a thread for long texts.

    Raises:
        BadInput: naming the text (below `at`), and what it has instead.
    """
    from tasks.parallel.cut import check_cut  # noqa: PLC0415 - a single job has nothing to cut

    with below(at):
        workflow = config.flows.get(job.kind)
        if workflow is None:
            check_cut(job, most=config.limits.parts)
            return
        from tasks.workflows.steps import make_step_job  # noqa: PLC0415 - loads templates

        fields = make_step_job(workflow, 0, job, [])
        if fields is None or fields.get("split") is None:
            return
        try:
            check_cut(Job.model_validate(fields), most=config.limits.parts)
        except BadInput as error:
            problem = (
                f"the step {workflow.steps[0].name!r} of {job.kind!r} cuts it by {fields['split']!r}: {error.problem}"
            )
            raise BadInput(error.field, problem, "send a text that has them, or use another workflow") from None


def _check_known(field: str, name: str, names: Iterable[str]) -> None:
    # Here as well as in `check_parts`, which a single job does not run through.
    allowed = frozenset(names)
    if name not in allowed:
        raise BadInput.unknown(field, name, allowed)


def _check_routes(job: Job, config: Config) -> None:
    """Check the routes that classification may choose from."""
    for place, route in enumerate(job.routes or ()):
        _check_known(f"routes[{place}]", route, config.all_routes)
    if job.routes is not None and (job.fixed_route is not None or job.fixed_model is not None):
        raise BadInput("routes", "are for a job that is classified", "leave them out, or leave out route and model")


def _check_strategy(job: Job, config: Config) -> None:
    """Check strategy and metric on the route of the job, or on each route that it may be classified into."""
    if job.strategy is not None:
        strategy_named(job.strategy)
    if (job.strategy is not None or job.priority_metric is not None) and job.fixed_model is None:
        for route in (job.fixed_route,) if job.fixed_route is not None else job.routes or config.routes:
            check_metrics(config, route, job.strategy or config.all_routes[route].strategy, job.priority_metric)


def _check_metadata(job: Job, config: Config) -> None:
    if OWN_LABEL in job.labels:
        raise BadInput(f"labels.{OWN_LABEL}", "marks jobs of Pointsman itself", "use another name")
    if job.metadata and job.fixed_route is None and job.fixed_model is None and job.kind not in config.flows:
        context_rules(config, job.routes).check(job.metadata)


def _check_schema(schema: Mapping[str, JsonValue] | None) -> None:
    if schema is None:
        return
    from tasks.contract.schema import check_schema  # noqa: PLC0415 - slow, and seldom needed

    try:
        check_schema(schema)
    except ValueError as error:
        remedy = "give a JSON Schema of draft 2020-12, without $refs that leave it"
        raise BadInput("response_schema", str(error), remedy) from None


def _check_size(job: Job, config: Config) -> None:
    try:
        size = len(job.model_dump_json(exclude_none=True).encode())
    except PydanticSerializationError:
        raise BadInput(_find_unwritable(job), "is not Unicode", "it holds half a surrogate pair") from None
    limit = config.limits.payload_bytes
    if size > limit:
        raise BadInput(
            _find_largest(job),
            f"the job has {size:,} bytes, the limit is {limit:,}",
            "split the document into several jobs, or raise limits.payload_bytes in the configuration",
        )
    if job.items is not None and len(job.items) > config.limits.parts:
        raise BadInput(
            "items",
            f"has {len(job.items):,} entries, the limit is {config.limits.parts:,}",
            "send several jobs, or raise limits.parts in the configuration",
        )


def _find_unwritable(job: Job) -> str:
    """The field that can't be written as JSON."""
    for field in Job.model_fields:
        try:
            job.model_dump_json(include={field})
        except PydanticSerializationError:
            return field
    return "job"


def _find_largest(job: Job) -> str:
    sizes = {"text": len(job.text or ""), "prompt": len(job.prompt or "")}
    sizes["items"] = sum(len(item if isinstance(item, str) else item.text) for item in job.items or ())
    sizes["messages"] = sum(len(message.content) for message in job.messages or ())
    return max(sizes, key=lambda name: sizes[name])
