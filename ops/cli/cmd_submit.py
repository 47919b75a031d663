"""``pointsman submit``: submit one job."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

from ops.cli.arguments import AsJson, Timeout
from ops.cli.environment import open_producer
from ops.cli.inputs import pairs, read_documents, read_job, read_text, values
from ops.cli.render import note, print_json

#: The key of the options' values, by field, in the `meta` of the command's context.
OPTIONS = "pointsman.job_options"


class JobCommand(TyperCommand):
    """A command with an option for each field of a job that declares one.

    The options are built when the command itself is called: ``pointsman --help`` must not import pydantic.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        own = super().get_params(ctx)
        arguments = [parameter for parameter in own if parameter.param_type_name == "argument"]
        return [*arguments, *_options(), *own[len(arguments) :]]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        # The function of the command does not have these parameters.
        ctx.meta[OPTIONS] = {option.name: ctx.params.pop(option.name) for option in _options()}
        return left


@cache
def _options() -> list[Any]:
    from tasks.contract.job import JOB_FIELDS

    def collect(**fields: Any) -> None:
        """Carries the signature that typer turns into options."""

    parameters = []
    for name, rule in JOB_FIELDS.items():
        if rule.option:
            *flags, metavar = rule.option.split()
            option = typer.Option(*flags, metavar=metavar, help=rule.help)
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_type_of(name), option]
                )
            )
    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(collect)
    return list(typer.main.get_command(app).params)


def _alternatives(name: str) -> tuple[Any, ...]:
    """The types that a field accepts."""
    from tasks.contract.job import Job

    annotation = Job.model_fields[name].annotation
    return (annotation, *get_args(annotation))


def _type_of(name: str) -> Any:
    """The type of a field's option. Mappings and lists come from options that may be repeated."""
    types = _alternatives(name)
    if any(get_origin(one) in {Mapping, tuple} for one in types):
        return list[str] | None
    return next((one | None for one in (int, float) if one in types), str | None)


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job that were set by options; mappings are read from ``NAME=VALUE``.

    Raises:
        Failure: naming the option that is not ``NAME=VALUE``.
    """
    from tasks.contract.job import JOB_FIELDS

    fields: dict[str, Any] = {}
    for name, given in options.items():
        types = _alternatives(name)
        if given is None or (isinstance(given, list | tuple) and not given):
            continue
        if any(get_origin(one) is Mapping for one in types):
            read = pairs if Mapping[str, str] in types else values
            fields[name] = read(JOB_FIELDS[name].option.split()[0].removeprefix("--"), given)
        else:
            fields[name] = given
    return fields


@dataclass(frozen=True, slots=True)
class JobInput:
    """The text of the job, and what its fields begin with."""

    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text to work on; - reads standard input.")] = (
        None
    )
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other field of a job; a JSON value counts as such:"
            ' --field \'variety={"models": ["fast", "careful"]}\'. May be repeated.',
        ),
    ] = None
    job: Annotated[
        Path | None,
        typer.Option(
            "--job",
            metavar="FILE",
            help="Begin with this job, a JSON object; - reads standard input. Options take precedence.",
        ),
    ] = None


async def submit(
    context: typer.Context,
    given: JobInput,
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end, and print the output.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> int:
    """Submit a job; print its id or, with --wait, its output.

    The text comes from the argument, from --file, or from a pipe. The route of the text
    decides which model works on it, unless you name one. The exit code shows how the job ended.

        pointsman submit "Why was I charged twice?" --wait
        cat contract.md | pointsman submit --split headings --prompt "Name the risks." -w
        pointsman submit --file contract.pdf --split pages --prompt "Name the risks." -w
        pointsman submit "Is this spam? ..." -n 5 --join majority -w
        pointsman submit --item "first text" --item "second text" --prompt Summarise. -w
        pointsman submit --file terms.md --split headings --each kind=vote --each n=5 -w
        pointsman submit --job job.json --model careful -w
    """
    from ops.cli.waiting import print_outcome, wait_for

    fields = _read_fields(given, context.meta[OPTIONS])
    async with open_producer() as producer:
        accepted = await producer.submit(fields)
        if not accepted.new:
            note(f"this idempotency key has a job already: {accepted.id}")
        if wait or timeout is not None:
            result = await wait_for(producer, accepted.id, timeout=timeout)
            return print_outcome(result, as_json=as_json)
    if as_json:
        print_json({"id": accepted.id, "state": accepted.state, "new": accepted.new})
    else:
        print(accepted.id)
    return 0


def _read_fields(given: JobInput, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the job: from the file, ``--field`` and the options, then those that follow."""
    from tasks.contract.job import INPUTS

    begun = {**({} if given.job is None else read_job(given.job)), **values("field", given.field or ())}
    fields = read_options(options)
    paths = [Path(name) for name in fields.pop("files", ())]
    files = read_documents(given.text, paths)
    if files:
        fields["files"] = files
    else:
        brought = "items" in fields or any(name in begun for name in INPUTS)
        text = read_text("-" if paths else given.text, None, needed=not brought)
        if text is not None:
            fields["text"] = text
    if "kind" not in fields and not begun.get("kind"):
        if "n" in fields:
            fields["kind"] = "vote"
        elif (begun | fields).keys() & {"items", "split", "each"} or len(paths) > 1:
            fields["kind"] = "sections"
    return begun | fields
