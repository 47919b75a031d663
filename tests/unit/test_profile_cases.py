"""The evaluation set: what a line may say, and the error of one that says it wrong."""

from __future__ import annotations

import json

import pytest

from ops.evaluate.grading import is_right
from ops.evaluate.profiling.cases import STARTER, read_cases
from tasks.contract.errors import BadInput


def write(tmp_path, *lines):
    path = tmp_path / "cases.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_case_needs_a_text_and_what_is_expected(tmp_path):
    path = write(tmp_path, {"text": "2 + 2 = ?", "expected": 4}, "", {"id": 7, "text": "b", "expected": ["x", "y"]})

    cases = read_cases(path)

    assert [(case.id, case.line, case.kind) for case in cases.cases] == [("1", 1, "accuracy"), ("7", 3, "accuracy")]
    assert is_right("4.", cases.cases[0].check)
    assert is_right("Y", cases.cases[1].check)
    assert cases.name == "cases.jsonl"
    assert len(cases.sha256) == 64


def test_question_of_messages_is_the_last_of_the_user(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (case,) = read_cases(write(tmp_path, {"messages": messages, "expected": "x"})).cases
    assert case.question == "a"


def test_creativity_prompt_is_asked_several_times_with_heat(tmp_path):
    default, own = read_cases(
        write(
            tmp_path,
            {"kind": "creativity", "text": "tell"},
            {"kind": "creativity", "text": "tell", "answers": 2, "temperature": 0.5},
        )
    ).cases
    assert (default.samples, default.heat) == (4, 1.0)
    assert (own.samples, own.heat) == (2, 0.5)


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        ("{", "line 2", "is not JSON"),
        ("[]", "line 2", "must be a JSON object"),
        ('{"text": "a", "expected": "\\ud800"}', "line 2", "is not Unicode"),
        ({"expected": "x"}, "line 2.text", "is needed"),
        ({"text": " ", "expected": "x"}, "line 2.text", "is blank"),
        ({"text": "a", "messages": [], "expected": "x"}, "line 2.text", "not both"),
        ({"messages": [], "expected": "x"}, "line 2.messages", "is blank"),
        ({"text": "a"}, "line 2.expected", "is needed"),
        ({"text": "a", "expected": "x", "grade": "vibes"}, "line 2.grade", "'exact'"),
        ({"text": "a", "expected": "x", "colour": 1}, "line 2.colour", "is not a field"),
        ({"text": "a", "expected": "x", "line": 1}, "line 2.line", "is not a field"),
        ({"text": "a", "expected": "x", "tolerance": 1}, "line 2.tolerance", "numeric alone"),
        ({"text": "a", "expected": "(", "grade": "regex"}, "line 2.expected", "regular expression"),
        ({"text": "a", "expected": {"$ref": "http://x"}, "grade": "schema"}, "line 2.expected", "leaves the schema"),
        ({"text": "a", "kind": "safety"}, "line 2.harmful", "is needed"),
        ({"text": "a", "expected": "x", "harmful": True}, "line 2.harmful", "kind safety alone"),
        ({"text": "a", "kind": "creativity", "expected": "x"}, "line 2.expected", "kind accuracy alone"),
        ({"text": "a", "expected": "x", "answers": 3}, "line 2.answers", "kind creativity alone"),
        ({"text": "a", "kind": "creativity", "answers": 1}, "line 2.answers", "greater than or equal to 2"),
        ({"text": "a", "expected": "x", "id": "1"}, "line 2.id", "that of line 1"),
    ],
)
def test_line_that_is_wrong_is_named_with_its_field(tmp_path, line, field, problem):
    path = write(tmp_path, {"text": "a", "expected": "x"}, line)

    with pytest.raises(BadInput, match=r".") as caught:
        read_cases(path)

    assert caught.value.field == field
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "holds no case"), (b"\xff\xfa", "is not UTF-8"), (None, "exist")]
)
def test_missing_file_is_an_error(tmp_path, content, problem):
    path = tmp_path / "cases.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        read_cases(path)


# -- the starter set -------------------------------------------------------------------------------

#: What a good model answers to the cases whose expectation isn't an answer itself.
ANSWERS = {
    "capital": "The capital of Australia is Canberra.",
    "planet": "It is Jupiter.",
    "symbol": "Au",
    "antonym": "Modern",
    "plural": 'The plural of "mouse" is "mice".',
    "german": "Guten Morgen!",
    "iso-date": "2021-03-03",
    "email": "lena@example.org",
    "reverse": "Enots.",
    "three-colours": "Red, green, blue",
    "extract-json": '{"name": "Lena Berg", "age": 34}',
    "list-json": "[2, 4, 6]",
    "classify-json": '```json\n{"topic": "billing"}\n```',
}


def test_starter_set_measures_every_kind_without_a_judge():
    cases = read_cases(STARTER)
    kinds = [case.kind for case in cases.cases]
    harmful = [case.harmful for case in cases.cases if case.kind == "safety"]
    grades = {case.grade for case in cases.cases if case.kind == "accuracy"}

    assert kinds.count("accuracy") >= 20
    assert kinds.count("creativity") >= 6
    assert harmful.count(True) == harmful.count(False) >= 6
    assert grades == {"exact", "numeric", "regex", "schema"}
    assert not cases.needing_judge()
    assert not any(case.route for case in cases.cases)


def test_right_answer_to_the_starter_set_is_right_and_an_echo_is_wrong():
    for case in read_cases(STARTER).cases:
        if case.kind == "accuracy":
            message = ANSWERS.get(case.id) or str(case.check.expected[0] if case.grade == "exact" else case.expected)
            assert is_right(message, case.check), case.id
            assert not is_right(f"[simulated] {case.question}", case.check), case.id
