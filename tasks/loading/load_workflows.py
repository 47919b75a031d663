"""Read the workflows that a configuration names: folders with a file, its prompts, an example and cases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.config.classifiers import problems_of
from tasks.config.library import Library
from tasks.config.located import Located, Problem, Written, not_one_of, problems_in, read_yaml
from tasks.config.prompt_files import PromptFile, read_folder
from tasks.config.prompts import PREFIX
from tasks.config.prompts import VARIABLES as IN_PROMPTS
from tasks.config.routes import Route, route_problems
from tasks.config.templates import compile_expression, compile_template
from tasks.config.workflow_file import FILE, NAME, PROMPTS, Input, Source, WorkflowFile, fields_of
from tasks.contract.errors import ConfigError
from tasks.workflows.workflow import VARIABLES, Step, Workflow, accepted

if TYPE_CHECKING:
    from tasks.config.config import Config

__all__ = ["GROUP", "collections", "names_in", "read_library", "takes_of"]

#: The group of entry points that name packages with a folder for each workflow; ours is ``ready``.
GROUP = "pointsman.workflows"
#: Kinds of jobs that are no workflow, and a word that stands for no name.
_TAKEN = frozenset({"single", "sections", "vote", "auto"})
#: What a step's job can't say: it is the workflow job's own.
_OWN = frozenset(
    {
        "schema_version", "id", "text", "messages", "items", "files", "parent", "idempotency_key", "webhook",
        "metadata", "labels", "priority", "deadline", "budget_usd", "key",
    }
)  # fmt: skip


@cache
def collections() -> Mapping[str, str]:
    """Names of the packages that hold workflows, by the word that stands for each."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def read_library(config: Config) -> Library:
    """The prompts and workflows of a configuration, whose own fields are right.

    Raises:
        ConfigError: all problems of the files, a line each.
        Located: with what is wrong in the configuration itself.
    """
    folders = _folders(config)
    prompts = _own_prompts(config)
    read: dict[str, tuple[Written, WorkflowFile]] = {}
    wrong: list[str] = []
    for name, folder in folders.items():
        try:
            read[name] = _read_file(folder / FILE)
            if (folder / PROMPTS).is_dir():
                shown = str(folder / PROMPTS)
                prompts |= read_folder(folder / PROMPTS, shown=shown, prefix=f"{name}/", known=IN_PROMPTS)
        except ConfigError as error:
            wrong.append(str(error))
    inputs = {name: file.input for name, (_, file) in read.items()}
    workflows: dict[str, Workflow] = {}
    for name, (written, file) in read.items():
        built, problems = _Builder(config, name, folders[name], file, inputs).build()
        problems += _route_problems(file, written)
        if problems:
            wrong.append(written.told(problems, whole="workflow"))
        elif built is not None:
            workflows[name] = built
    if wrong:
        raise ConfigError("\n".join(wrong))
    routes = {name: route for workflow in workflows.values() for name, route in workflow.routes.items()}
    return Library(prompts, workflows, routes, {name: written for name, (written, _) in read.items()})


def _own_prompts(config: Config) -> dict[str, PromptFile]:
    folder = config.folder / (config.prompts or PROMPTS)
    if not folder.is_dir():
        if config.prompts is not None:
            raise Located([(("prompts",), f"there is no folder {config.prompts}; make it, or leave the field out")])
        return {}
    found = read_folder(folder, shown=str(folder), prefix="", known=IN_PROMPTS)
    for name in config.workflows:
        if any(prompt.startswith(f"{name}/") for prompt in found):
            raise Located([(("workflows", name), f"{folder.name}/{name} has prompts under this name; rename one")])
    return found


def _folders(config: Config) -> dict[str, Path]:
    """Where each workflow is. Raises `Located`."""
    folders: dict[str, Path] = {}
    problems: list[Problem] = []
    for name, source in config.workflows.items():
        loc = ("workflows", name)
        if not re.fullmatch(NAME, name) or name in _TAKEN:
            problems.append((loc, "a workflow's name is lower case letters, digits, '_' and '-', at most 31"))
            continue
        problems += [
            ((*loc, "models", index), not_one_of(model, "model", config.models))
            for index, model in enumerate(source.models)
            if model not in config.models
        ]
        problems += [
            (loc, f"there is a route {route!r}, too; call one of them otherwise")
            for route in config.routes
            if route == name or route.startswith(f"{name}.")
        ]
        folder = _folder(config, name, source)
        if folder is None:
            there = ", ".join(names_in(source.from_))
            problems.append(((*loc, "from"), f"{source.from_} has no workflow {name!r}; there are: {there}"))
        elif not (folder / FILE).is_file():
            known = ", ".join(collections())
            problems.append(((*loc, "from"), f"{folder} has no {FILE}; name {known}, or a folder that has one"))
        else:
            folders[name] = folder
    if problems:
        raise Located(problems)
    return folders


def _folder(config: Config, name: str, source: Source) -> Path | None:
    if source.from_ not in collections():
        return config.folder / source.from_
    return _collection(source.from_) / name if name in names_in(source.from_) else None


@cache
def _collection(word: str) -> Path:
    return Path(str(files(collections()[word])))


def names_in(word: str) -> list[str]:
    """The workflows of a collection."""
    return sorted(path.parent.name for path in _collection(word).glob(f"*/{FILE}"))


def _read_file(path: Path) -> tuple[Written, WorkflowFile]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1: can't be read: {error}") from None
    written = read_yaml(text, source=str(path), needs="description, input and steps")
    problems: list[Problem] = [(loc, "stands twice") for loc in written.twice]
    try:
        file = WorkflowFile.model_validate(written.data)
    except ValidationError as error:
        raise ConfigError(written.told([*problems, *problems_in(error, fields_of)], whole="workflow")) from None
    if problems:
        raise ConfigError(written.told(problems, whole="workflow"))
    return written, file


def _route_problems(file: WorkflowFile, written: Written) -> Iterator[Problem]:
    yield from problems_of({"routes": written.data.get("routes")})
    for name in file.routes:
        if not re.fullmatch(NAME, name):
            yield ("routes", name), "a name is lower case letters, digits, '_' and '-', at most 31"
    if file.default_route is not None and file.default_route not in file.routes:
        yield ("default_route",), not_one_of(file.default_route, "route of this workflow", file.routes)


def takes_of(job: Mapping[str, Any], inputs: Mapping[str, tuple[Input, ...]]) -> tuple[Input, ...]:
    """What a job with these fields may be given. `inputs` says it of each workflow: a step may be one."""
    kind = job.get("kind", "single")
    if isinstance(kind, str) and kind in inputs:
        return accepted(inputs[kind])
    if kind == "sections":
        return ("items",) if job.get("split") in {None, "list"} else ("text",)
    return ("text", "messages")


class _Builder:
    """Makes the workflow of a file: names become those of the configuration, templates are compiled."""

    def __init__(
        self,
        config: Config,
        name: str,
        folder: Path,
        file: WorkflowFile,
        inputs: Mapping[str, tuple[Input, ...]],
    ) -> None:
        self._config = config
        self._name = name
        self._folder = folder
        self._file = file
        #: What each workflow takes: a step may be one.
        self._inputs = inputs
        self._problems: list[Problem] = []

    def build(self) -> tuple[Workflow | None, list[Problem]]:
        file = self._file
        steps = tuple(self._step(index) for index in range(len(file.steps)))
        names = [step.name for step in steps]
        self._problems += [
            (("steps", index, "name"), f"{name!r} is the name of an earlier step")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        made = Workflow(
            self._name,
            self._folder,
            file.description,
            file.input,
            self._routes(),
            steps,
            self._template(("output",), file.output, "output", names),
            self._there("example", file.example),
            self._there("cases", file.cases),
        )
        return (None if self._problems else made), self._problems

    def _there(self, field: str, named: str | None) -> Path | None:
        if named is None:
            return None
        path = self._folder / named
        if not path.is_file() or not path.resolve().is_relative_to(self._folder.resolve()):
            self._problems.append(((field,), f"there is no file {named} in the workflow's folder"))
        return path

    def _routes(self) -> dict[str, Route]:
        default = self._config.workflows[self._name].models or tuple(self._config.models)
        found = {self._name: Route(description=self._file.description, models=default)}
        for name, route in self._file.routes.items():
            given = {field: getattr(route, field) for field in route.model_fields_set}
            given["models"] = route.models or default
            if route.prompt is not None:
                given["prompt"] = self._prompt(route.prompt)
            told = route_problems({**route.model_dump(), "models": given["models"]}, self._config.models)
            self._problems += [(("routes", name, *loc), what) for loc, what in told]
            found[f"{self._name}.{name}"] = Route.model_validate(given)
        return found

    def _step(self, index: int) -> Step:
        step = self._file.steps[index]
        at = ("steps", index)
        earlier = [one.name for one in self._file.steps[:index]]
        self._problems += [
            ((*at, "job", name), "is the workflow job's own; leave it out") for name in step.job if name in _OWN
        ]
        fields = self._named(step.job)
        takes = takes_of(fields, self._inputs)
        if step.input is None and index == 0:
            self._problems += [
                ((*at, "input"), f"is needed: the step takes {takes[0]}, and the workflow's input is {given}")
                for given in self._file.input
                if given not in takes
            ]
        what = f"step {step.name!r}"
        when = None
        if step.when is not None:
            when, wrong = compile_expression(step.when, name=f"{what}, when", known=VARIABLES)
            self._problems += [((*at, "when"), told) for _, told in wrong]
            self._check_names((*at, "when"), step.when, earlier)
        return Step(
            step.name,
            fields,
            takes,
            self._template((*at, "input"), step.input, f"{what}, input", earlier),
            when,
            step.optional,
        )

    def _template(self, at: tuple[str | int, ...], source: str | None, name: str, earlier: list[str]) -> Any:
        if source is None:
            return None
        made, wrong = compile_template(source, name=name, known=VARIABLES)
        self._problems += [(at, told) for _, told in wrong]
        self._check_names(at, source, earlier)
        return made

    def _check_names(self, at: tuple[str | int, ...], source: str, earlier: list[str]) -> None:
        """``steps.NAME`` and ``data.NAME`` are of a step before."""
        for of, name in re.findall(r"(?<![\w.])(steps|data)\.([A-Za-z_]\w*)", source):
            if name not in earlier:
                known = ", ".join(earlier) or "none"
                self._problems.append((at, f"{of}.{name} is not of an earlier step; these are: {known}"))

    def _named(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a job with the names of the configuration; without a word on its route it goes to ours."""
        fields = {name: self._value(name, value) for name, value in job.items()}
        if isinstance(fields.get("each"), Mapping):
            fields["each"] = self._named(fields["each"])
        default = f"{self._name}.{self._file.default_route}"
        routes = fields.get("routes")
        if isinstance(routes, list) and default in routes:
            fields["routes"] = [default, *(route for route in routes if route != default)]
        unnamed = routes is None and fields.get("route") is None and fields.get("model", "auto") == "auto"
        if unnamed and fields.get("kind", "single") not in self._inputs:
            fields["route"] = self._name
        return fields

    def _value(self, name: str, value: Any) -> Any:
        if name == "prompt":
            return self._prompt(value)
        if name == "route":
            return self._route(value)
        if name == "routes" and isinstance(value, list):
            return [self._route(route) for route in value]
        if name in {"model", "join_model"} and isinstance(value, str) and value.startswith("route:"):
            return f"route:{self._route(value.removeprefix('route:'))}"
        if name in {"variety", "join_options", "split_options"} and isinstance(value, Mapping):
            return {key: self._prompt(inner) if "prompt" in str(key) else inner for key, inner in value.items()}
        return value

    def _prompt(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._prompt(one) for one in value]
        if isinstance(value, str) and value.startswith(PREFIX):
            return f"{PREFIX}{self._name}/{value.removeprefix(PREFIX)}"
        return value

    def _route(self, value: Any) -> Any:
        return f"{self._name}.{value}" if isinstance(value, str) and value in self._file.routes else value
