import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.votes import count, decided, normalize


@pytest.mark.parametrize(
    ("answer", "ballot"),
    [
        ("  Paris. ", "paris"),
        ("**Answer:** `Paris`", "paris"),
        ("The final answer is: **Paris**!", "paris"),
        ("So, the answer is paris", "paris"),
        ("New\n  York", "new york"),
        ("1,200.50", "1200.5"),
        ("1200.5", "1200.5"),
        ("+18.00", "18"),
        ("-5", "-5"),
        ("−5.", "-5"),
        (".5", "0.5"),
        ("-0", "0"),
        ("$5.00", "$5"),
        ("-$1,000", "-$1000"),
        ("5 %", "5%"),
        ("3.0 km", "3 km"),
        ("007", "007"),
        ("1,20", "1,20"),
        ("Python 3.10", "python 3.10"),
        ("C#", "c#"),
        ("(b)", "b"),
        ("(a) or (b)", "(a) or (b)"),
        (r"\boxed{18}", "18"),
        ("$18$", "18"),
        ("- yes", "yes"),
        ("STRASSE", "strasse"),
        ("straße", "strasse"),
        ('{"b": 2.0, "a": " Yes. "}', '{"a":"yes","b":2}'),
        ('```json\n{"a": "yes", "b": 2}\n```', '{"a":"yes","b":2}'),
        ("[1e999]", "1e999"),
        ("Answer:", "answer"),
        ("…", "…"),
        ("", ""),
    ],
)
def test_answers_that_mean_the_same_share_a_ballot(answer, ballot):
    assert normalize(answer) == ballot


def test_a_currency_is_part_of_the_answer():
    assert len({normalize(answer) for answer in ("5", "$5", "€5", "5%")}) == 4


@given(st.text(max_size=60) | st.text(alphabet='Answer: is the "*_`.,$-+0123456789%()[]{}\n', max_size=40))
def test_normalising_twice_changes_nothing(answer):
    once = normalize(answer)

    assert normalize(once) == once


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.booleans() | st.none() | st.text(max_size=5)))
def test_the_order_of_keys_and_the_layout_of_json_do_not_matter(value):
    shuffled = dict(reversed(value.items()))

    assert normalize(json.dumps(value, indent=2)) == normalize(json.dumps(shuffled))


def test_a_million_characters_or_brackets_are_no_trouble():
    for answer in ("[" * 1_000_000, "```" + " " * 1_000_000 + "x", "answer: " * 100_000, "9" * 1_000_000):
        normalize(answer)


def test_the_winner_is_the_first_original_with_the_most_votes():
    counted = count(["7", "Answer: 8", "8.0", "9"])

    assert counted.winner == "Answer: 8"
    assert counted.ballot == "8"
    assert (counted.votes, counted.total) == (2, 4)
    assert list(counted.ballots.items()) == [("7", 1), ("8", 2), ("9", 1)]
    assert counted.tie == ()


def test_a_tie_goes_to_the_ballot_that_got_there_first():
    counted = count(["a", "b", "b", "a"])

    assert counted.winner == "b"
    assert counted.tie == ("b", "a")


def test_blank_answers_are_abstentions():
    counted = count(["", " \n", "x"])

    assert (counted.winner, counted.total) == ("x", 1)
    assert count([""]).winner is None


def test_a_leader_who_can_still_be_tied_has_not_won():
    assert not decided({"a": 3, "b": 1}, 2)
    assert decided({"a": 3, "b": 0}, 2)
    assert not decided({"a": 2}, 2)
    assert decided({"a": 3}, 2)
    assert decided({}, 0)
    assert not decided({}, 1)


@given(votes=st.lists(st.sampled_from("abc"), min_size=1, max_size=9), data=st.data())
def test_stopping_early_never_changes_the_winner(votes, data):
    # given the votes arrive in any order of their indices
    arrival = data.draw(st.permutations(range(len(votes))))
    whole = count(votes)

    for seen in range(1, len(votes) + 1):
        arrived = [votes[index] for index in sorted(arrival[:seen])]
        part = count(arrived)
        if decided(part.ballots, len(votes) - seen):
            # then the first moment it is decided names the winner of the whole vote
            assert part.ballot == whole.ballot
            break
