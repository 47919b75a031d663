"""The docs say what the code does: fields, states, variables and commands are compared, links are followed."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest
import typer
from pydantic import BaseModel

from ops.docs import commands, pages
from ops.evaluate.profiling.cases import Case
from tasks.config.config import Config, Limits, Schedule
from tasks.config.dialects import PRESETS, Dialect
from tasks.config.library import Source, StepFile, WorkflowFile
from tasks.config.models import Breaker, Hedge, KeyLimits, Model, Price, Profile
from tasks.config.profiles import ModelProfile
from tasks.config.routes import Classification, ModelChoice, Route, Thresholds
from tasks.config.simulation import Constant, Exponential, Lognormal, Simulation, Uniform
from tasks.contract.job import Job
from tasks.contract.job_fields import File, Item, Parent, Variety
from tasks.contract.result import FINAL, Candidate, Decision, JobState, Move, Part, PartState, Result, Tried, Usage

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = DOCS / "reference"

FIELDS: Mapping[tuple[str, str], type[BaseModel]] = {
    ("job.md", "Job"): Job,
    ("job.md", "Item"): Item,
    ("job.md", "File"): File,
    ("job.md", "Variety"): Variety,
    ("job.md", "Parent"): Parent,
    ("job.md", "Result"): Result,
    ("job.md", "Part"): Part,
    ("job.md", "Tried"): Tried,
    ("job.md", "Move"): Move,
    ("job.md", "Usage"): Usage,
    ("job.md", "Decision"): Decision,
    ("job.md", "Candidate"): Candidate,
    ("profile.md", "A case"): Case,
    ("profile.md", "The profile file"): ModelProfile,
    ("configuration.md", "The file"): Config,
    ("configuration.md", "A model"): Model,
    ("configuration.md", "A route"): Route,
    ("configuration.md", "A schedule"): Schedule,
    ("configuration.md", "price"): Price,
    ("configuration.md", "breaker"): Breaker,
    ("configuration.md", "dialect"): Dialect,
    ("configuration.md", "hedge"): Hedge,
    ("configuration.md", "keys"): KeyLimits,
    ("configuration.md", "profile"): Profile,
    ("configuration.md", "simulation"): Simulation,
    ("configuration.md", "limits"): Limits,
    ("configuration.md", "classifier"): Classification,
    ("configuration.md", "thresholds"): Thresholds,
    ("configuration.md", "llm"): ModelChoice,
    ("configuration.md", "A workflow"): Source,
    ("workflows.md", "workflow.yaml"): WorkflowFile,
    ("workflows.md", "A step"): StepFile,
}


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of its first line."""
    text = page.read_text()
    for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 2, match[1]


def section(page: Path, title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert match, f"{page} has no section {title}"
    return match[1]


def first_column(text: str, head: str) -> list[str]:
    """What stands in the first column of the table with this head."""
    table = re.search(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n?)*)", text, re.MULTILINE)
    assert table, f"no table with {head}"
    return re.findall(r"^\| `?([^`|]+?)`? \|", table[1], re.MULTILINE)


@pytest.mark.parametrize(("page", "title"), FIELDS)
def test_table_of_fields_names_exactly_the_fields(page, title):
    known = FIELDS[page, title].model_fields.items()
    fields = [field.alias or name for name, field in known if not field.exclude]

    assert sorted(first_column(section(REFERENCE / page, title), "field")) == sorted(fields)


def test_presets_of_dialects_are_documented_with_their_settings():
    text = section(REFERENCE / "models.md", "Dialects")
    head, *rows = re.findall(r"^\| (.*) \|$", text[text.index("| preset |") :].split("\n\n")[0], re.MULTILINE)
    names = [name.strip("`") for name in head.split(" | ")]
    shown = [[cell.strip(" `") for cell in f"{row} ".split("|")] for row in rows if not row.startswith("--")]

    def cells(dialect: Dialect) -> list[str]:
        values = (getattr(dialect, name) for name in names)
        return [", ".join(value) if isinstance(value, tuple) else value or "" for value in values]

    assert shown == [cells(dialect) for dialect in PRESETS.values()]
    assert {dialect.system_role for dialect in PRESETS.values()} == {"system"}


def test_distributions_are_documented_with_their_fields():
    fields_of = dict(
        re.findall(r"^\| `(constant|uniform|exponential|lognormal)` \| (.*) \|$",
                   section(REFERENCE / "configuration.md", "simulation"), re.MULTILINE)
    )  # fmt: skip

    for kind in (Constant, Uniform, Exponential, Lognormal):
        fields = set(kind.model_fields)
        name = get_args(kind.model_fields["distribution"].annotation)[0]
        assert set(re.findall(r"`(\w+)`", fields_of[name])) == fields - {"distribution"}


@pytest.mark.parametrize(("title", "states"), [("States of a job", JobState), ("States of a part", PartState)])
def test_drawn_states_are_those_of_the_contract(title, states):
    text = section(REFERENCE / "job.md", title)
    arrows = re.findall(r"^    (\S+) --> ([^\s:]+)", text, re.MULTILINE)

    drawn = {state for arrow in arrows for state in arrow} - {"[*]"}
    ends = {source for source, target in arrows if target == "[*]"}

    assert drawn == set(get_args(states)) == set(first_column(text, "state"))
    # What is final has no arrow out of it, but to the end.
    assert not any(source in ends and target != "[*]" for source, target in arrows)
    if states is JobState:
        assert ends == FINAL


def test_steps_that_arrows_name_are_steps_of_the_script():
    script = (REPOSITORY / "tasks" / "ledger" / "move.lua").read_text()
    steps = set(re.findall(r"^function step\.(\w+)", script, re.MULTILINE))

    drawn = set(re.findall(r"--> \w+: (\w+), ", (REFERENCE / "job.md").read_text()))

    assert drawn - {"routed", "a", "no"} <= steps


def test_environment_variables_are_documented():
    sources = [path for room in ("tasks", "worker", "producer", "ops") for path in (REPOSITORY / room).rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"\bPOINTSMAN_[A-Z_]*[A-Z]\b", path.read_text())}

    assert set(first_column((REFERENCE / "environment.md").read_text(), "variable")) == read


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_generated_pages_are_up_to_date(page):
    assert page.read_text() == pages()[page], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_in_the_docs_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in _anchors(found), f"{page}: {target}"


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_in_the_docs_exist(page):
    known = {name.removeprefix("pointsman "): command for name, command in commands()}
    shown = [line for _, block in blocks(page, "sh") for line in block.splitlines()]
    shown += re.findall(r"`(pointsman [^`]+)`", page.read_text())
    for line in shown:
        for words in re.findall(r"(?:^|[|(] ?|&& )pointsman ([a-z][^|)#]*)", line):
            name, rest = _command_of(words.split(), known)
            assert name, f"{page}: {line}"
            options = {
                option for parameter in known[name].get_params(typer.Context(known[name])) for option in parameter.opts
            }
            given = {re.sub("=.*", "", word) for word in rest if re.match(r"--?[a-z]", word)}
            assert given <= options | {"--help"}, f"{page}: {line}"


def _command_of(words: list[str], known: dict[str, object]) -> tuple[str, list[str]]:
    for count in (2, 1):
        if (name := " ".join(words[:count])) in known:
            return name, words[count:]
    return "", words


@pytest.mark.parametrize("name", re.findall(r"`make (\w+)`", "".join(page.read_text() for page in PAGES)))
def test_make_targets_in_the_docs_exist(name):
    assert re.search(rf"^{name}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
