"""Thoughts inside an answer: in the marks of every family of models, unclosed, nested, and only mentioned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.reasoning import split_reasoning
from tests.growth import assert_linear

SPLIT = [
    ("<think>At first no.</think>\n\nYes", "At first no.", "Yes"),
    ("<THINK budget=1>x</ THINK >B", "x", "B"),
    ("<thinking>a</thinking>b", "a", "b"),
    ("<thought>a</thought>\nb", "a", "b"),
    ("<reasoning>a</reasoning>b", "a", "b"),
    ("<reflection>a</reflection> b", "a", "b"),
    ("<seed:think>a<seed:cot_budget_reflect>k</seed:cot_budget_reflect></seed:think>z", None, "z"),
    ("◁think▷x◁/think▷y", "x", "y"),
    ("[THINK]x[/THINK]y", "x", "y"),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "a", "b"),
    ("<|begin_of_thought|>\nx\n<|end_of_thought|>\n<|begin_of_solution|>\nB\n<|end_of_solution|>", "x", "B"),
    ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>", "A", "B"),
    ("<|channel|>analysis<|message|>A<|channel|>final <|constrain|>json<|message|>{}", "A", "{}"),
    ("analysisWe need X.assistantfinalThe answer is B.", "We need X.", "The answer is B."),
    ("<|channel>thought\nabc<channel|>B", "abc", "B"),
    ("<unused94>thought\nabc<unused95>B", "abc", "B"),
    ("Here is my thought process:\nabc\nHere is my response:\nB", "abc", "B"),
    ("Here are my reasoning steps:\nabc\n[BEGIN FINAL RESPONSE]\nB\n[END FINAL RESPONSE]", "abc", "B"),
    ("## Thinking\n\nabc\n\n## Final Response\n\nB", "abc", "B"),
    # A missing mark.
    ("hm</think>Part one.", "hm", "Part one."),
    ('draft {"risks": 1}\n</think>\n{"risks": []}', 'draft {"risks": 1}', '{"risks": []}'),
    ("all of it thought</think>", "all of it thought", ""),
    ("<think>never closed", "never closed", ""),
    ("Yes.\n<think>or no", "or no", "Yes."),
    ("<|channel|>analysis<|message|>only", "only", ""),
    ("<think>a\n<answer> B </answer>", "a", "<answer> B </answer>"),
    ("```python\nx = 1\n</think>\nok", "```python\nx = 1", "ok"),
    # Several, nested, mixed.
    ("<think>a<think>b</think>c</think>d", None, "d"),
    ("<think>a<think>b</think>d", None, "d"),
    ("<think>a</think>B<think>c</think>C", "a\n\nc", "BC"),
    ("<think>x</think>Yes</think>", "x", "Yes"),
    ("<thinking>a</think>b", "a", "b"),
    ("<think></think>\n\nB", "", "B"),
    ("<think>the <think> tag.</think> Use it.", None, "Use it."),
    ("Answer: <think>hm</think>Yes", "hm", "Answer: Yes"),
    ("<think>\n```py\nx\n</think>\n```json\n{}\n```", None, "```json\n{}\n```"),
    ("<think>reason</think>Use </think> to close.", "reason", "Use </think> to close."),
]

WHOLE = [
    "",
    "  plain text\n",
    "```xml\n<think>\na\n</think>\n```\nThat is how.",
    "````md\n```\n<think>a</think>\n```\n````",
    "Use `<think>` and `</think>` around it.",
    "Wrap it in <think> and </think> tags.",
    "Close it with </think> at the end.",
    '{"html": "<think>x</think>"}',
    "The <thinking> element is no part of HTML.",
    "Here is my thought process: add both sides.",
    "analysisResult is the name of the variable.",
    "He said [think] about it.",
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), SPLIT)
def test_split_reasoning_keeps_thoughts_apart(text, reasoning, answer):
    found = split_reasoning(text)

    assert found[1] == answer
    assert reasoning is None or found[0] == reasoning


@pytest.mark.parametrize("text", WHOLE)
def test_split_reasoning_leaves_answers_without_thoughts_as_they_are(text):
    assert split_reasoning(text) == ("", text)


@given(st.lists(st.sampled_from([*"ab`\n. ", "```", "<think>", "</think>", "</thinking>", "[THINK]", "<|end|>"])))
def test_split_reasoning_never_raises_and_invents_nothing(pieces):
    text = "".join(pieces)
    reasoning, answer = split_reasoning(text)

    assert len(reasoning) + len(answer) <= len(text) + len(pieces)
    assert not set(reasoning + answer) - set(text) - {"\n"}


@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "x <think>", "<think>a</thinking>", "```\n", "<think ", "a. <think> and </think>"]
)
def test_split_reasoning_takes_linear_time(unit):
    assert_linear(split_reasoning, unit)
