"""The one reader of JSON that a model wrote: bare, in a fence, or in a fenced block with text around it."""

from __future__ import annotations

import pytest

from tasks.contract.answer import MAX_DEPTH, NotJSON, parse_answer, parse_object
from tests.growth import assert_linear


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
    assert parse_answer(text, whole=True) == parse_answer(text)


NO_JSON = [
    "",
    "hello",
    "NaN",
    "Use {} as it is, see [1].",
    "function f() { return {a: 1}; }",
    "```json\nhello\n```",
    "[" * 100_000,
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "[1e999]",
    "[" + "1" * 5000 + "]",
]


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize("whole", [False, True])
def test_parse_answer_refuses_invalid_json(text, whole):
    with pytest.raises(NotJSON, match=r".+"):
        parse_answer(text, whole=whole)


def test_parse_answer_refuses_an_unclosed_block_at_once():
    # By a pattern this took minutes: blank lines match in quadratically many ways.
    with pytest.raises(ValueError, match="Expecting value"):
        parse_answer("```json" + "\n" * 100_000 + "x")


def test_parse_answer_reads_text_around_a_block_unless_it_must_be_whole():
    text = 'Here it is:\n```\nno\n```\nand\n```json\n{"a": 1}\n```\nAnything else?'

    assert parse_answer(text) == {"a": 1}
    with pytest.raises(NotJSON):
        parse_answer(text, whole=True)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"summary": "line one\nline two"}', {"summary": "line one\nline two"}),
        ('```json {"ok": true} ```', {"ok": True}),
        ('Here is the JSON:\n```json\n{"verdict":"spam"}\n```\nHope this helps', {"verdict": "spam"}),
        ('{"a": 1,}', {"a": 1}),
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ('// c\n{"a": 1 /* x */, # y\n}', {"a": 1}),
        ("{a: 1}", {"a": 1}),
        ("{“a”: “b”}", {"a": "b"}),
        ('{"a": "x\\_y"}', {"a": "x\\_y"}),
        ("{'a': 'it\\'s'}", {"a": "it's"}),
        ('{"n": 12345678901234567890123}', {"n": 12345678901234567890123}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{"a": 1, "a": 1}', {"a": 1}),
        ('First {"a": 1}, no: {"a": 2}.', {"a": 2}),
        ('```json\n{"a": 1}\n```\nI left out {"b": 1}.', {"a": 1}),
        ('It is {"a": 1}, see [2].', {"a": 1}),
        ("Result: [1, 2]", [1, 2]),
        ('The list is ["a", "b"]. Done', ["a", "b"]),
        ('<answer>{"a": 1}</answer>', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
    ],
)
def test_parse_answer_reads_json_as_models_write_it(text, answer):
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": "b', "is cut"),
        ('{"a": [1, 2', "is cut"),
        ('{"a": {"b": 1}', "is cut"),
        ('[{"a": 1}, {"a": 2}', "is cut"),
        ('{"a": tru', "is cut"),
        ('```json\n{"a": 1', "is cut"),
        ('Draft {"a": 1}, then {"a": [2,', "is cut"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ('{"a": Infinity}', "Infinity is no JSON"),
        ('{"a": 1}, ' * 2000, "more than 1,000 values"),
    ],
)
def test_parse_answer_completes_no_cut_value_and_chooses_between_no_two(text, reason):
    with pytest.raises(NotJSON, match=reason):
        parse_answer(text)


@pytest.mark.parametrize("unit", ['{"', "[", '{"a":1}', '["x",', "{a:", '{"\\', "[1] ", "/*", "{“", "```json {}"])
def test_parse_answer_takes_linear_time(unit):
    def read(text: str) -> None:
        try:
            parse_answer(text)
        except NotJSON:
            return

    assert_linear(read, unit)


def test_parse_object_refuses_other_json():
    assert parse_object('```\n{"a": 1}\n```') == {"a": 1}
    with pytest.raises(NotJSON, match="no JSON object"):
        parse_object("[1]")
