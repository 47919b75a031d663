import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BadInput, JoinError
from tasks.joins import JOINS, Missing, Piece, check_policy, join


def test_concatenation_keeps_the_order_and_puts_each_output_under_its_title():
    pieces = [Piece(0, "1. Scope", "All of it.\n"), Piece(1, "", "No title.")]

    joined = join("concatenate", pieces, [])

    assert joined.output == "## 1. Scope\n\nAll of it.\n\nNo title."
    assert joined.details == {"sections": 2, "missing": []}


def test_a_missing_section_is_named_in_its_place():
    pieces = [Piece(0, "", "first"), Piece(2, "", "third")]
    missing = [Missing(1, "2. Grant", "timed out"), Missing(3, "", "refused")]

    joined = join("concatenate", pieces, missing)

    assert joined.output.split("\n\n") == [
        "first",
        "[section 2 “2. Grant” is missing: timed out]",
        "third",
        "[section 4 is missing: refused]",
    ]
    assert [gap["index"] for gap in joined.details["missing"]] == [1, 3]


def test_nothing_but_missing_sections_is_no_answer():
    with pytest.raises(JoinError, match="none of the 1 sections"):
        join("concatenate", [], [Missing(0, "", "refused")])


def test_the_majority_shows_the_first_answer_of_the_winning_ballot_with_its_count():
    pieces = [Piece(index, "", text) for index, text in enumerate(["B", "**a**", "Answer: A.", "a", " "])]

    joined = join("majority", pieces, [Missing(5, "", "refused")])

    assert joined.output == "**a**"
    assert joined.details["votes"] == 3
    assert joined.details["total"] == 4
    assert joined.details["share"] == 0.75
    assert joined.details["ballots"] == {"b": 1, "a": 3}
    assert joined.details["tie"] == []


def test_a_tie_is_named():
    joined = join("majority", [Piece(0, "", "x"), Piece(1, "", "y")], [])

    assert joined.output == "x"
    assert joined.details["tie"] == ["x", "y"]


@pytest.mark.parametrize("outputs", [[], ["", "  \n"]])
def test_a_majority_of_nothing_is_an_error(outputs):
    pieces = [Piece(index, "", text) for index, text in enumerate(outputs)]

    with pytest.raises(JoinError, match="no vote to count"):
        join("majority", pieces, [Missing(9, "", "refused")])


def test_an_unknown_join_names_those_there_are():
    with pytest.raises(BadInput) as caught:
        join("vote", [], [])

    assert caught.value.field == "join"
    assert all(name in caught.value.remedy for name in JOINS)


@given(st.sampled_from(sorted(JOINS)), st.lists(st.text(), min_size=1))
def test_details_are_json_and_no_output_is_lost_in_a_concatenation(how, outputs):
    pieces = [Piece(index, "", f"[{text}]") for index, text in enumerate(outputs)]

    joined = join(how, pieces, [])

    json.dumps(joined.details)
    if how == "concatenate":
        assert joined.output == "\n\n".join(piece.output for piece in pieces)


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
def test_the_policy_decides_whether_a_job_is_joined(policy, quorum, succeeded, failed, reason):
    said = check_policy(policy, quorum, succeeded, failed)

    assert said is None if reason is None else reason in str(said)


@pytest.mark.parametrize("quorum", [None, 0])
def test_a_quorum_without_a_number_is_refused(quorum):
    with pytest.raises(BadInput, match="quorum"):
        check_policy("quorum", quorum, 3, 0)
