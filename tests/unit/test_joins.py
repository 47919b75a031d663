"""What all joins have in common, concatenation, and the policy."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import BadInput, JoinError
from tasks.parallel.joins import DEFAULT_JOINS, JOINS, JoinAnswer, Missing, Piece, Work, check_policy
from tasks.parallel.joins.concatenate import concatenate
from tests.joining import play, work

OURS = ("best_of", "concatenate", "consistent", "merge", "options", "reduction", "synthesis", "table")
#: Options under which a join also shows its other sides.
VARIANTS = [
    ("best_of", {}),
    ("best_of", {"method": "pairs", "refused": "first"}),
    ("best_of", {"method": "scores", "refused": "first"}),
    ("concatenate", {}),
    ("consistent", {}),
    ("consistent", {"method": "model"}),
    ("merge", {}),
    ("merge", {"unreadable": "skip", "unique": True, "key": "a", "sort": {"field": "a"}, "missing_key": "gone"}),
    ("merge", {"conflicts": "first"}),
    ("merge", {"conflicts": "error", "unreadable": "skip"}),
    ("options", {}),
    ("options", {"by": "judge", "format": "json", "limit": 2}),
    ("reduction", {"fan_in": 2, "partial": True}),
    ("synthesis", {}),
    ("synthesis", {"fan_in": 2, "max_parts": 2, "partial": True}),
    ("table", {"unreadable": "skip"}),
    ("table", {"unreadable": "skip", "format": "csv"}),
    ("table", {"unreadable": "skip", "format": "jsonl"}),
]

jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner),
    max_leaves=8,
)
outputs = st.one_of(
    st.text(),
    jsons.map(json.dumps),
    jsons.map(lambda data: f"Here:\n```json\n{json.dumps(data)}\n```"),
    st.sampled_from(["", "  \n", "[1] and [2-9]", "I'm sorry, I can't.", "\ud800", "1e999", "[" * 200, "_" * 5000]),
)
replies = st.one_of(
    outputs,
    st.sampled_from("AB").map(lambda letter: json.dumps({"reason": "", "winner": letter})),
    st.integers(-1, 11).map(lambda score: json.dumps({"reason": "", "score": score})),
    st.integers(-1, 9).map(lambda number: json.dumps({"reason": "", "number": number})),
    st.lists(st.integers(-1, 9)).map(lambda order: json.dumps({"reason": "", "order": order})),
    st.just(JoinAnswer(None, "timed out")),
)


def test_concatenate_keeps_the_order_and_puts_outputs_under_titles():
    parts = [Piece(0, "1. Scope", "All of it.\n"), Piece(1, "", "No title.")]

    joined = concatenate(Work(parts, [], 2))

    assert joined.output == "## 1. Scope\n\nAll of it.\n\nNo title."
    assert joined.details == {"sections": 2, "missing": [], "truncated": [], "confidence": 1.0}


def test_concatenate_notes_a_missing_section_and_lowers_the_confidence():
    parts = [Piece(0, "", "first"), Piece(2, "", "third")]
    missing = [Missing(1, "2. Grant", "timed out"), Missing(3, "", "refused")]

    joined = concatenate(Work(parts, missing, 4))

    assert joined.output.split("\n\n") == [
        "first",
        "[section 2 “2. Grant” is missing: timed out]",
        "third",
        "[section 4 is missing: refused]",
    ]
    assert [gap["index"] for gap in joined.details["missing"]] == [1, 3]
    assert joined.details["confidence"] == 0.5


def test_concatenate_options_leave_out_titles_and_set_the_separator():
    options = JOINS.options("concatenate", {"titles": False, "separator": "\n---\n"})
    parts = [Piece(0, "1. Scope", "a"), Piece(1, "2. Grant", "b")]

    assert concatenate(Work(parts, [], 2, options)).output == "a\n---\nb"


@pytest.mark.parametrize("name", OURS)
def test_join_without_any_output_raises(name):
    gone = Work([], [Missing(0, "", "refused")], 1)

    with pytest.raises(JoinError, match=r"none of the 1|no output to choose from"):
        JOINS.named(name)(gone)


@given(st.lists(st.text(), min_size=1))
def test_concatenate_loses_no_output(texts):
    joined = concatenate(work(*(f"[{text}]" for text in texts)))

    assert joined.output == "\n\n".join(f"[{text}]" for text in texts)


@settings(deadline=None)
@given(
    st.sampled_from(VARIANTS),
    st.lists(outputs, min_size=1, max_size=7),
    st.lists(replies, min_size=1),
    st.text(max_size=20),
    st.integers(1, 3000),
)
def test_join_of_any_outputs_and_replies_ends_in_an_output_or_a_join_error(variant, texts, replies, question, window):
    name, given_options = variant
    given_work = work(
        *texts,
        options=JOINS.options(name, given_options),
        missing=[Missing(len(texts), "gone", "timed out")],
        question=question,
        window=window,
    )
    turn = iter(range(10**6))

    def answered(_question):
        return replies[next(turn) % len(replies)]

    joined = None
    with suppress(JoinError):
        joined = play(JOINS.named(name), given_work, answered).joined
    if joined is None:
        return
    json.dumps(joined.details, allow_nan=False)
    if name in {"merge", "table"}:
        joined.output.encode()
    assert 0 <= joined.details["confidence"] <= 1
    assert [gap["index"] for gap in joined.details["missing"]] == [len(texts)]


def test_default_join_of_each_kind_takes_that_kind():
    for kind, name in DEFAULT_JOINS.items():
        assert kind in JOINS.traits(name).kinds
        assert not JOINS.traits(name).asks


def test_joins_of_ours_are_all_found_by_name():
    assert set(OURS) <= set(JOINS.names)


def test_join_named_lists_the_joins_for_an_unknown_name():
    with pytest.raises(BadInput) as caught:
        JOINS.named("vote")

    assert caught.value.field == "join"
    assert all(name in caught.value.remedy for name in JOINS.names)


@pytest.mark.parametrize(
    ("name", "given_options", "field"),
    [
        ("concatenate", {"title": True}, "join_options.title"),
        ("merge", {"conflicts": "second"}, "join_options.conflicts"),
        ("merge", {"result_schema": {"type": "nothing"}}, "join_options.result_schema"),
        ("synthesis", {"result_schema": {"$ref": "http://elsewhere"}}, "join_options.result_schema"),
        ("merge", {"sort": {"by": "risk"}}, "join_options.sort.field"),
        ("synthesis", {"fan_in": 1}, "join_options.fan_in"),
        ("options", {"threshold": 2}, "join_options.threshold"),
        ("table", {"columns": []}, "join_options.columns"),
    ],
)
def test_join_options_error_names_the_wrong_option(name, given_options, field):
    with pytest.raises(BadInput) as caught:
        JOINS.options(name, given_options)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("policy", "quorum", "succeeded", "failed", "reason"),
    [
        ("fail", None, 5, 0, None),
        ("fail", None, 3, 2, "2 of 5 parts failed and the policy is fail"),
        ("partial", None, 1, 4, None),
        ("partial", None, 0, 5, "5 of 5 parts failed and the policy is partial"),
        ("quorum", 3, 3, 2, None),
        ("quorum", 3, 2, 3, "3 of 5 parts failed and the policy is quorum: 3 must succeed, 2 did"),
        ("fail", None, 0, 0, "at least one must succeed"),
    ],
)
def test_check_policy_decides_whether_a_job_is_joined(policy, quorum, succeeded, failed, reason):
    answer = check_policy(policy, quorum, succeeded, failed)

    assert answer is None if reason is None else reason in str(answer)


@pytest.mark.parametrize("quorum", [None, 0])
def test_check_policy_refuses_a_quorum_without_a_number(quorum):
    with pytest.raises(BadInput, match="quorum"):
        check_policy("quorum", quorum, 3, 0)
