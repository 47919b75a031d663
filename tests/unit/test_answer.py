"""The one reader of JSON that a model wrote: bare, in a fence, or in a fenced block with text around it."""

from __future__ import annotations

import pytest

from tasks.contract.answer import MAX_DEPTH, NotJSON, parse_answer, parse_object


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\n```json\n{"a": 1}\n```\n', {"a": 1}),
        ("```\n[1]\n```", [1]),
        ('```JSON\n"x"```', "x"),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
    ],
)
def test_parse_answer_reads_answers_with_and_without_a_fence(text, answer):
    assert answer is None or parse_answer(text) == answer
    assert parse_answer(text, embedded=True) == parse_answer(text)


NO_JSON = [
    "",
    "hello",
    "NaN",
    "Here: {}",
    "```json\nhello\n```",
    "[" * 100_000,
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "[1e999]",
    "[" + "1" * 5000 + "]",
]


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize("embedded", [False, True])
def test_parse_answer_refuses_invalid_json(text, embedded):
    with pytest.raises(NotJSON, match=r".+"):
        parse_answer(text, embedded=embedded)


def test_parse_answer_refuses_an_unclosed_block_at_once():
    # By a pattern this took minutes: blank lines match in quadratically many ways.
    with pytest.raises(ValueError, match="Expecting value"):
        parse_answer("```json" + "\n" * 100_000 + "x")


def test_parse_answer_reads_text_around_a_block_only_if_embedded():
    text = 'Here it is:\n```\nno\n```\nand\n```json\n{"a": 1}\n```\nAnything else?'

    assert parse_answer(text, embedded=True) == {"a": 1}
    with pytest.raises(NotJSON):
        parse_answer(text)


def test_parse_object_refuses_other_json():
    assert parse_object('```\n{"a": 1}\n```') == {"a": 1}
    with pytest.raises(NotJSON, match="no JSON object"):
        parse_object("[1]")
