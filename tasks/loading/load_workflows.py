"""Read the prompts and workflows of a configuration. A workflow is a folder: a file, prompts, an example, cases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.config.config import Config
from tasks.config.library import (
    FILE,
    NAME,
    PROMPTS,
    Input,
    Library,
    PromptFile,
    RouteFile,
    Source,
    Step,
    StepFile,
    Workflow,
    WorkflowFile,
)
from tasks.config.prompts import PREFIX
from tasks.config.routes import Route
from tasks.config.templates import Template, compile_expression, compile_template
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError
from tasks.contract.job import GIVEN
from tasks.contract.validation import Loc, Value
from tasks.loading.check_config import check_route, check_routing, not_one_of
from tasks.loading.check_workflows import check_library, find_inputs
from tasks.loading.load_prompts import read_prompts
from tasks.loading.located import Problem, YamlFile, read_problems, read_yaml
from tasks.workflows.steps import VARIABLES

#: The group of entry points that name packages with a folder for each workflow; ours is ``ready``.
GROUP = "pointsman.workflows"
#: Names that no workflow may have: the other kinds of jobs, and the word for a model that routing chooses.
_RESERVED = frozenset({"single", "sections", "vote", "auto"})
#: Fields that the job of a step can't set: they are the workflow job's own. Its key pins all of its steps.
_OWN = GIVEN | {"key"}


@cache
def collections() -> Mapping[str, str]:
    """The packages that hold workflows, by their names in the configuration."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def load_library(config: Config) -> tuple[Config, list[Problem]]:
    """Read and check the prompts and workflows that `config` names, and add them to it.

    Returns the problems of the configuration itself.

    Raises:
        ConfigError: with all problems of the other files, a line each.
    """
    folders, problems = _find_folders(config)
    if problems:
        return config, problems
    prompts, problems = _own_prompts(config)
    if problems:
        return config, problems
    read: dict[str, tuple[YamlFile, WorkflowFile]] = {}
    wrong: list[str] = []
    for name, folder in folders.items():
        try:
            read[name] = _read_file(folder / FILE)
            if (folder / PROMPTS).is_dir():
                prompts |= read_prompts(folder / PROMPTS, prefix=f"{name}/")
        except ConfigError as error:
            wrong.append(str(error))
    inputs = {name: file.input for name, (_, file) in read.items()}
    workflows: dict[str, Workflow] = {}
    for name, (document, file) in read.items():
        builder = _Builder(config, name, folders[name], file, inputs)
        workflows[name] = builder.build()
        if problems := [*builder.problems, *_check_routes(file, document)]:
            wrong.append(document.format_problems(problems, root="workflow"))
    if wrong:
        raise ConfigError("\n".join(wrong))
    routes = {name: route for workflow in workflows.values() for name, route in workflow.routes.items()}
    config = config.with_library(Library(prompts, workflows, routes))
    return config, check_library(config, {name: document for name, (document, _) in read.items()})


def _own_prompts(config: Config) -> tuple[dict[str, PromptFile], list[Problem]]:
    """Read the prompts of the configuration's own folder."""
    folder = config.folder / (config.prompts or PROMPTS)
    if not folder.is_dir():
        if config.prompts is None:
            return {}, []
        return {}, [(("prompts",), f"there is no folder {config.prompts}; make it, or leave the field out")]
    found = read_prompts(folder)
    problems: list[Problem] = [
        (("workflows", name), f"{folder.name}/{name} has prompts under this name; rename one")
        for name in config.workflows
        if any(prompt.startswith(f"{name}/") for prompt in found)
    ]
    return found, problems


def _find_folders(config: Config) -> tuple[dict[str, Path], list[Problem]]:
    """Find the folder of each workflow."""
    folders: dict[str, Path] = {}
    problems: list[Problem] = []
    for name, source in config.workflows.items():
        loc = ("workflows", name)
        if not re.fullmatch(NAME, name) or name in _RESERVED:
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
    return folders, problems


def _folder(config: Config, name: str, source: Source) -> Path | None:
    if source.from_ not in collections():
        return config.folder / source.from_
    return _collection(source.from_) / name if name in names_in(source.from_) else None


@cache
def _collection(name: str) -> Path:
    return Path(str(files(collections()[name])))


def names_in(collection: str) -> list[str]:
    """The names of the workflows in a collection."""
    return sorted(path.parent.name for path in _collection(collection).glob(f"*/{FILE}"))


def _read_file(path: Path) -> tuple[YamlFile, WorkflowFile]:
    try:
        text = read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1: can't be read: {error}") from None
    document = read_yaml(text, source=str(path), needs="description, input and steps")
    problems = list(document.duplicates)
    file = None
    try:
        file = WorkflowFile.model_validate(document.data)
    except ValidationError as error:
        problems += read_problems(error, _fields_at)
    if file is None or problems:
        raise ConfigError(document.format_problems(problems, root="workflow"))
    return document, file


def _fields_at(loc: Loc) -> str:
    """The fields of the section at `loc` of the file."""
    table: Mapping[str, type[Value]] = {"steps": StepFile, "routes": RouteFile}
    return ", ".join(table.get(str(loc[0]) if loc else "", WorkflowFile).model_fields)


def _check_routes(file: WorkflowFile, document: YamlFile) -> Iterator[Problem]:
    """Check the names of a workflow's routes, and their rules, patterns and examples."""
    yield from check_routing({"routes": document.data.get("routes")})
    for name in file.routes:
        if not re.fullmatch(NAME, name):
            yield ("routes", name), "a name is lower case letters, digits, '_' and '-', at most 31"
    if file.default_route is not None and file.default_route not in file.routes:
        yield ("default_route",), not_one_of(file.default_route, "route of this workflow", file.routes)


@dataclass
class _Builder:
    """Builds the workflow of a file: replaces names by those of the configuration, and compiles templates."""

    config: Config
    name: str
    folder: Path
    file: WorkflowFile
    #: The inputs of each workflow: the job of a step may be one.
    inputs: Mapping[str, tuple[Input, ...]]
    #: Filled by `build`.
    problems: list[Problem] = field(default_factory=list)

    def build(self) -> Workflow:
        file = self.file
        steps = tuple(self._step(index) for index in range(len(file.steps)))
        names = [step.name for step in steps]
        self.problems += [
            (("steps", index, "name"), f"{name!r} is the name of an earlier step")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        return Workflow(
            self.name,
            self.folder,
            file.description,
            file.input,
            self._routes(),
            steps,
            self._template(("output",), file.output, "output", names),
            self._existing("example", file.example),
            self._existing("cases", file.cases),
        )

    def _existing(self, field: str, named: str | None) -> Path | None:
        if named is None:
            return None
        path = self.folder / named
        if not path.is_file() or not path.resolve().is_relative_to(self.folder.resolve()):
            self.problems.append(((field,), f"there is no file {named} in the workflow's folder"))
        return path

    def _routes(self) -> dict[str, Route]:
        default = self.config.workflows[self.name].models or tuple(self.config.models)
        found = {self.name: Route(description=self.file.description, models=default)}
        for name, route in self.file.routes.items():
            given = {field: getattr(route, field) for field in route.model_fields_set}
            given["models"] = route.models or default
            if route.prompt is not None:
                given["prompt"] = self._prompt(route.prompt)
            problems = check_route({**route.model_dump(), "models": given["models"]}, self.config.models)
            self.problems += [(("routes", name, *loc), problem) for loc, problem in problems]
            found[f"{self.name}.{name}"] = Route.model_validate(given)
        return found

    def _step(self, index: int) -> Step:
        step = self.file.steps[index]
        at = ("steps", index)
        earlier = [one.name for one in self.file.steps[:index]]
        self.problems += [
            ((*at, "job", name), "is the workflow job's own; leave it out") for name in step.job if name in _OWN
        ]
        fields = self._resolve(step.job)
        takes = find_inputs(fields, self.inputs)
        if step.input is None and index == 0:
            self.problems += [
                ((*at, "input"), f"is needed: the step takes {takes[0]}, and the workflow's input is {given}")
                for given in self.file.input
                if given not in takes
            ]
        when = None
        if step.when is not None:
            when, errors = compile_expression(step.when, name="when", known=VARIABLES)
            self.problems += [((*at, "when"), error) for _, error in errors]
            self._check_names((*at, "when"), step.when, earlier)
        return Step(
            step.name,
            fields,
            takes,
            self._template((*at, "input"), step.input, "input", earlier),
            when,
            step.optional,
        )

    def _template(self, at: Loc, source: str | None, name: str, earlier: list[str]) -> Template | None:
        if source is None:
            return None
        made, errors = compile_template(source, name=name, known=VARIABLES)
        self.problems += [(at, error) for _, error in errors]
        self._check_names(at, source, earlier)
        return made

    def _check_names(self, at: Loc, source: str, earlier: list[str]) -> None:
        """Check that ``steps.NAME`` and ``data.NAME`` refer to an earlier step."""
        for of, name in re.findall(r"(?<![\w.])(steps|data)\.([A-Za-z_]\w*)", source):
            if name not in earlier:
                known = ", ".join(earlier) or "none"
                self.problems.append((at, f"{of}.{name} is not of an earlier step; these are: {known}"))

    def _resolve(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the names in the fields of a job by those of the configuration.

        A job that names neither a route nor a model gets the route of this workflow.
        """
        fields = {name: self._value(name, value) for name, value in job.items()}
        if isinstance(fields.get("each"), Mapping):
            fields["each"] = self._resolve(fields["each"])
        default = f"{self.name}.{self.file.default_route}"
        routes = fields.get("routes")
        if isinstance(routes, list) and default in routes:
            fields["routes"] = [default, *(route for route in routes if route != default)]
        unnamed = routes is None and fields.get("route") is None and fields.get("model", "auto") == "auto"
        if unnamed and fields.get("kind", "single") not in self.inputs:
            fields["route"] = self.name
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
            return f"{PREFIX}{self.name}/{value.removeprefix(PREFIX)}"
        return value

    def _route(self, value: Any) -> Any:
        return f"{self.name}.{value}" if isinstance(value, str) and value in self.file.routes else value
