"""The corpus of answers, read by the readers of votes, joins and graders; and the command that measures a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cli import main
from ops.evaluate.answers import KINDS, count_outcomes, read_answer_cases, read_cases
from tasks.contract.errors import BadInput
from tests.growth import assert_linear
from tests.harness import REPOSITORY

CORPUS = REPOSITORY / "tests" / "answers" / "corpus.jsonl"
#: Options with which each kind is read where its cases have none.
OPTIONS = {
    "choice": {"answers": ["A", "B", "yes", "no"]},
    "score": {"least": 1, "most": 10},
    "ranking": {"among": ["x"]},
}
#: The share of the texts that a person could decide and a reader may leave open.
MOST_ABSTAINED = 0.03


def test_answers_of_the_corpus_are_read_right_and_never_silently_wrong():
    read = read_cases(read_answer_cases(CORPUS))

    assert [(one.case.id, one.found) for one in read if one.outcome == "wrong"] == []
    abstained = [one.case.id for one in read if one.outcome == "abstained"]
    assert len(abstained) <= MOST_ABSTAINED * len(read), abstained
    assert set(count_outcomes(read)) == set(KINDS)
    assert len(read) >= 400


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text() | st.text(alphabet='ABno 1/5.,-$#\\{}[]":>*<\n', max_size=60))
def test_readers_never_raise_and_read_the_same_again(kind, text):
    read, _ = KINDS[kind](OPTIONS.get(kind, {}))

    assert read(text) == read(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["A ", "the answer is ", "1 ", "7/", "score ", "- x\n", "x > ", "{", "yes? ", "not "])
def test_readers_take_linear_time(kind, unit):
    read, _ = KINDS[kind](OPTIONS.get(kind, {}))

    assert_linear(read, unit)


def write_cases(folder: Path, *cases: dict[str, object]) -> str:
    file = folder / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, cases)))
    return str(file)


RIGHT = {"kind": "number", "text": "#### 5", "expected": 5}
WRONG = {"kind": "number", "text": "#### 5", "expected": 6}


def test_eval_answers_fails_where_more_are_silently_wrong_than_allowed(tmp_path, capsys):
    file = write_cases(tmp_path, RIGHT, WRONG, {**RIGHT, "text": "none"})

    assert main(["eval", "answers", file, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["kinds"] == {"number": {"right": 1, "abstained": 1, "wrong": 1}}
    assert found["wrong"] == [{"id": "2", "line": 2, "expected": "6", "read": "5"}]
    assert main(["eval", "answers", file, "--most-wrong", "1"]) == 0
    assert "silently wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ({"kind": "colour", "text": "", "expected": 1}, r"line 1\.kind"),
        ({"kind": "number", "text": ""}, "line 1: has no text"),
        ({"kind": "number", "text": "", "expected": "many"}, r"line 1\.expected"),
        ({"kind": "choice", "text": "", "expected": "a", "options": {"color": 1}}, r"line 1\.options\.color"),
        ({"kind": "number", "text": "", "expected": 1, "label": "x"}, r"line 1\.label"),
    ],
)
def test_answer_cases_that_are_wrong_are_named(tmp_path, case, problem):
    with pytest.raises(BadInput, match=problem):
        read_answer_cases(Path(write_cases(tmp_path, case)))
