"""The house rules that no linter knows: words that do not come back, names of tests, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.harness import REPOSITORY

ROOMS = ("producer", "tasks", "worker", "ops")
#: Words of an older dialect of this code, and the words that replaced them.
OLD_WORDS = {
    "told|tells": "reported, returned, logged, raised",
    "whoever|nobody|somebody": "the noun that is meant",
    "unborn|bears?|bearing|born": "create child jobs",
    "wish|wishes": "preference",
    "lanes?": "waiting list",
    "feeder|feeders": "admission",
    "rehomed?|rehoming|unbind|hurry": "rebalance",
    "hush|rope": "waker",
    "loyal": "sticky",
    "patience": "hedge delay, or the noun of what is waited for",
    "referral": "ask a model for the route",
}
#: Old names, as they were written in code.
OLD_NAMES = (
    "Bell", "Broke", "FAREWELL", "Refusal", "Slice", "Standing", "Stuck", "Told", "Turnstile",
    "end_part", "told_parent",
)  # fmt: skip
OLD = re.compile(rf"\b(?:{'|'.join(OLD_WORDS)}|{'|'.join(OLD_NAMES)})\b|[a-z]_told\b|\btold_[a-z]")
#: Quoted from elsewhere: prompts are for models, and this list has to name the words.
QUOTED = ("ops/workflows/", "tests/unit/test_house.py")
#: The first word of a test's name is the thing under test.
NO_THING = {
    "a", "an", "the", "what", "who", "whose", "whoever", "nobody", "it", "its", "where", "when", "while", "nothing",
    "no", "each", "every", "all", "any", "if", "there", "without", "with", "of", "only", "more", "many", "that",
    "those", "this", "these", "one",
}  # fmt: skip
MOST_LETTERS = 70
MOST_LINES, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 60, 6
#: Functions that take more: the choice of a model, which reads all that is known of a job.
MOST_WIDE = 4


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return tuple(Path(name) for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file())


def code() -> list[Path]:
    return [path for path in tracked() if path.parts[0] in ROOMS and path.suffix in {".py", ".lua"}]


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((REPOSITORY / path).read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("suffix", [".py", ".lua", ".md"])
def test_old_words_do_not_come_back(suffix):
    found = [
        f"{path}:{number}: {match.group()}"
        for path in tracked()
        if path.suffix == suffix and not str(path).startswith(QUOTED)
        for number, line in enumerate((REPOSITORY / path).read_text().splitlines(), 1)
        if (match := OLD.search(line))
    ]
    assert not found, f"{len(found)} lines; GLOSSARY of replacements: {OLD_WORDS}\n" + "\n".join(found)


def test_names_of_tests_are_short_and_start_with_the_thing_under_test():
    found = [
        f"{path}:{node.lineno}: {node.name}"
        for path in tracked()
        if path.parts[0] == "tests" and path.suffix == ".py"
        for node in functions(path)
        if node.name.startswith("test_") and (len(node.name) > MOST_LETTERS or node.name.split("_")[1] in NO_THING)
    ]
    assert not found, f"{len(found)} names\n" + "\n".join(found)


def test_modules_and_functions_stay_small():
    long = [
        f"{path}: over {MOST_LINES} lines"
        for path in code()
        if (REPOSITORY / path).read_text().count("\n") > MOST_LINES
    ]
    long += [
        f"{path}:{node.lineno}: {node.name} has over {LONGEST_FUNCTION} lines"
        for path in code()
        if path.suffix == ".py"
        for node in functions(path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_functions_take_few_parameters():
    wide = []
    for path in code():
        for node in functions(path) if path.suffix == ".py" else ():
            arguments = node.args
            names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            if len([name for name in names if name.arg not in {"self", "cls"}]) > MOST_PARAMETERS:
                wide.append(f"{path}:{node.lineno}: {node.name}")
    assert len(wide) <= MOST_WIDE, "\n".join(wide)


def test_public_classes_have_one_name_each():
    places = defaultdict(list)
    for path in code():
        if path.suffix == ".py":
            tree = ast.parse((REPOSITORY / path).read_text())
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(path))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice
