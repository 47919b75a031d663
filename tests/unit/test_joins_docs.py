"""The reference of joins agrees with the code, and its example of a custom join works."""

import json
import re
import sys
from types import ModuleType

import pytest

from tasks.contract import plugins
from tasks.contract.job import parse_job
from tasks.parallel.joins import JOINS, JoinAnswer
from tasks.parallel.joins.best_of import MOST_PAIRED
from tasks.parallel.joins.merge import MOST_PLACES
from tasks.parallel.joins.table import MOST_CELLS, MOST_COLUMNS
from tests.joining import play, work
from tests.unit.test_docs import REFERENCE, blocks, section
from tests.unit.test_joins import OURS
from tests.unit.test_strategies_docs import bounds

PAGE = REFERENCE / "joins.md"


def rows(kind):
    """The rows of the table of a class's options."""
    properties = kind.model_json_schema()["properties"]
    return [
        f"| `{name}` | {words(properties[name])} | `{json.dumps(field.default)}` |"
        for name, field in kind.model_fields.items()
    ]


def words(schema):
    """A type of JSON Schema, in the words of the docs."""
    if "anyOf" in schema:
        first, null = schema["anyOf"]
        assert null == {"type": "null"}
        return f"{words(first)}, or null"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema or schema["type"] == "object":
        return "mapping"
    if schema["type"] == "array":
        return "list of texts"
    kind = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}
    return kind[schema["type"]] + bounds(schema)


@pytest.mark.parametrize("name", OURS)
def test_join_docs_have_a_section_with_options_types_and_defaults(name):
    documented = re.findall(r"^(\| `\w+` \| .*? \| `.*?` \|) .* \|$", section(PAGE, name), re.MULTILINE)

    assert documented == rows(JOINS.traits(name).options)


def test_join_docs_table_says_the_purpose_and_whether_the_join_asks():
    documented = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", section(PAGE, "All of them"), re.MULTILINE)

    assert [name for name, _, _ in documented] == list(JOINS.names)
    for name, kinds, asks in documented:
        traits = JOINS.traits(name)
        assert kinds == ", ".join({"sections": "sections", "vote": "votes"}[kind] for kind in traits.kinds)
        assert (asks != "no") == traits.asks


def test_join_docs_advice_names_every_join():
    assert set(re.findall(r"\(#(\w+)\)", section(PAGE, "Which one"))) == set(JOINS.names)


@pytest.mark.parametrize("name", ["best_of", "concatenate", "consistent", "merge", "options", "synthesis", "table"])
def test_join_docs_list_the_details_of_each_join(name):
    outputs = ('{"a": 1}', '{"a": 2}', '{"a": 3}')
    replies = {"best_of": '{"reason": "", "winner": "A"}', "synthesis": "So [1]."}

    details = play(JOINS.named(name), work(*outputs), lambda _: replies[name]).joined.details

    documented = section(PAGE, name).partition("`details`:")[2]
    assert set(details) <= set(re.findall(r"`(\w+)`", documented))


def test_join_docs_limits_are_those_of_the_code():
    assert f"at most {MOST_COLUMNS:,} columns and {MOST_CELLS:,} cells" in section(PAGE, "table")
    assert f"most {MOST_PLACES};" in section(PAGE, "merge")
    assert f"more than {MOST_PAIRED} distinct outputs" in section(PAGE, "best_of")
    questions = play(JOINS.named("synthesis"), work(*["short"] * 10_000), lambda _: "So [1].")
    assert f"10,000 short ones {questions.questions}, in three rounds" in section(PAGE, "synthesis")


@pytest.mark.parametrize("text", [text for _, text in blocks(PAGE, "json")])
def test_join_docs_examples_are_valid_jobs(text):
    job = parse_job(json.loads(text))

    assert JOINS.options(job.join, job.join_options) is not None


def test_join_docs_custom_join_is_found_by_name_and_works(monkeypatch):
    code = next(text for _, text in blocks(PAGE, "python") if "@joiner" in text)
    project = next(text for _, text in blocks(PAGE, "toml"))
    name, module, function = re.search(r'^(\w+) = "(\w+):(\w+)"$', project, re.MULTILINE).groups()
    made = ModuleType(module)
    monkeypatch.setitem(sys.modules, module, made)
    exec(compile(code, module, "exec"), made.__dict__)

    class Point:
        @staticmethod
        def load():
            return getattr(made, function)

    Point.name = name

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point] if group == JOINS.group else [])
    monkeypatch.setattr(JOINS, "__dict__", plugins.Plugins(JOINS.group, "join", JOINS._plain).__dict__)
    join = JOINS.named(name)
    plain = play(join, work("a", "bbb"), None).joined
    polished = work("a", "bbb", options=JOINS.options(name, {"polish": True}))
    asked = play(join, polished, lambda question: question.text.upper()).joined
    with pytest.raises(made.JoinError, match="was not polished: timed out"):
        play(join, polished, lambda _: JoinAnswer(None, "timed out"))

    assert JOINS.group in project
    assert (plain.output, asked.output) == ("bbb", "BBB")
