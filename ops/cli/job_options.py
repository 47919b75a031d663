"""The options of a command that set the fields of a job, as the rules of the fields declare them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

__all__ = ["OPTIONS", "JobCommand", "read_options"]

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
    from ops.cli.inputs import pairs, values
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
