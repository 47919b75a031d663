import json
import math
from importlib import import_module
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.evaluate.vote_weights import accuracies_of, agreement, learned
from tasks.parallel.votes import count, normalize
from tasks.parallel.votes.ballot import BallotOptions, read_ballot
from tasks.parallel.votes.count import Vote, shorten_ballot
from tasks.parallel.votes.weights import weights_of
from tests.growth import assert_linear

#: The module, whose name in the package is that of its function.
normalizing = import_module("tasks.parallel.votes.normalize")


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
def test_normalize_gives_answers_of_the_same_meaning_one_ballot(answer, ballot):
    assert normalize(answer) == ballot


def test_normalize_keeps_a_currency():
    assert len({normalize(answer) for answer in ("5", "$5", "€5", "5%")}) == 4


@given(st.text(max_size=60) | st.text(alphabet='Answer: is the "*_`.,$-+0123456789%()[]{}\n', max_size=40))
def test_normalize_is_idempotent(answer):
    once = normalize(answer)

    assert normalize(once) == once


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.booleans() | st.none() | st.text(max_size=5)))
def test_normalize_ignores_the_order_of_keys_and_the_layout_of_json(value):
    shuffled = dict(reversed(value.items()))

    assert normalize(json.dumps(value, indent=2)) == normalize(json.dumps(shuffled))


@pytest.mark.parametrize("unit", ["[", "```", "answer: ", "9", "- ", "**", "(", "answer is "])
def test_normalize_takes_linear_time(unit):
    assert_linear(normalize, unit)
    assert_linear(lambda text: normalize("```" + text + " " * len(text) + "x"), unit)


@pytest.mark.parametrize("unit", ["answer: ", "- ", "**"])
def test_normalize_unwraps_a_bounded_number_of_times(unit, monkeypatch):
    calls = []
    unwrap = normalizing._unwrap
    monkeypatch.setattr(normalizing, "_unwrap", lambda text: calls.append(1) or unwrap(text))
    normalize(unit * 100_000 + "x")
    assert 1 <= len(calls) <= normalizing.MAX_WRAPPINGS


def take(index, ballot, weight=1.0):
    return Vote(index, ballot, f"said {ballot}", weight)


def counted(*answers):
    return count([Vote(index, normalize(answer), answer) for index, answer in enumerate(answers)])


def test_count_winner_is_the_first_original_with_the_most_votes():
    outcome = counted("7", "Answer: 8", "8.0", "9")

    assert outcome.winner == Vote(1, "8", "Answer: 8")
    assert (outcome.votes, outcome.total) == (2, 4)
    assert list(outcome.ballots.items()) == [("7", 1), ("8", 2), ("9", 1)]
    assert outcome.cast == {"7": (0,), "8": (1, 2), "9": (3,)}
    assert outcome.tie == ()


def test_count_gives_a_tie_to_the_ballot_that_reached_it_first():
    outcome = counted("a", "b", "b", "a")

    assert outcome.winner.ballot == "b"
    assert outcome.tie == ("b", "a")


def test_count_treats_blank_answers_and_weightless_votes_as_abstentions():
    outcome = count([take(0, ""), take(1, "x", 0), take(2, "y"), take(4, "x", 0.5)])

    assert outcome.winner.ballot == "y"
    assert (outcome.total, outcome.abstained) == (1.5, (0, 1))
    assert count([take(0, ""), take(1, "x", 0)]).winner is None


def test_count_lets_one_heavy_vote_beat_two_light_ones():
    outcome = count([take(0, "a", 0.5), take(1, "a", 0.75), take(2, "b", 1.5)])

    assert outcome.winner.ballot == "b"
    assert outcome.ballots == {"a": 1.25, "b": 1.5}


def test_shorten_ballot_keeps_similar_long_ballots_apart():
    one, other = shorten_ballot("x" * 5000 + "1"), shorten_ballot("x" * 5000 + "2")

    assert len(one) == len(other) == 200
    assert one != other
    assert shorten_ballot("paris") == "paris"


@pytest.mark.parametrize(
    ("output", "options", "ballot"),
    [
        ("She sells 9 eggs at $2, so she makes $18 a day.", {"take": "last_number"}, "18"),
        ("70,000 dollars", {"take": "last_number"}, "70000"),
        ("It fell to -3.50.", {"take": "last_number"}, "-3.5"),
        ("between 5-7", {"take": "last_number"}, ""),
        ("Agent 007", {"take": "last_number"}, "7"),
        ("none at all", {"take": "last_number"}, ""),
        ("Because of this,\n\n**Paris**\n", {"take": "last_line"}, "paris"),
        ("Paris\nas everybody knows", {"take": "first_line"}, "paris"),
        ('{"label": " Spam. ", "why": "links"}', {"path": "label"}, "spam"),
        ('```json\n{"a": [{"b": true}]}\n```', {"path": "a.0.b"}, "true"),
        ('{"label": "spam"}', {"path": "verdict"}, ""),
        ("no JSON", {"path": "label"}, ""),
        ("first <a>x</a> then <a>y</a>", {"extract": "<a>(.*?)</a>"}, "y"),
        ("#### 42", {"extract": r"\d+"}, "42"),
        ("nothing", {"extract": r"\d+"}, ""),
        ('{"text": "it is #7#"}', {"path": "text", "extract": "#(.)#"}, "7"),
        ("B", {"answers": ["A", "B"]}, "b"),
        ("B) Paris", {"answers": ["A", "B"]}, "b"),
        ("**(b)**", {"answers": ["A", "B"]}, "b"),
        ("A bird in the hand", {"answers": ["A", "B"]}, ""),
        ("We weigh both.\nThe answer is A.", {"answers": ["A", "B"]}, "a"),
        ("The answer is B. No: the final answer is A.", {"answers": ["A", "B"]}, "a"),
        ("Yes, because it is.", {"answers": ["yes", "no"]}, "yes"),
        ("Yesterday it was.", {"answers": ["yes", "no"]}, ""),
        ("There is no such thing.", {"answers": ["yes", "no"]}, ""),
        ("not safe at all", {"answers": ["not", "not safe"]}, "not safe"),
        ("Let me think.\n\nno", {"answers": ["yes", "no"]}, "no"),
        ("maybe", {"answers": ["yes", "no"]}, ""),
    ],
)
def test_read_ballot_follows_its_options(output, options, ballot):
    assert read_ballot(output, BallotOptions.model_validate(options)) == ballot


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"extract": "(?=x)"}, "no regular expression"),
        ({"extract": "(a)(b)"}, "several groups"),
        ({"answers": ["A", "a."]}, "must be different"),
        ({"answers": ["yes", " "]}, "must be different"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_ballot_options_that_make_no_ballot_are_refused(options, problem):
    with pytest.raises(ValidationError, match=problem):
        BallotOptions.model_validate(options)


@given(st.text(max_size=80), st.sampled_from(["whole", "first_line", "last_line", "last_number"]), st.booleans())
def test_read_ballot_never_raises(output, take, named):
    read_ballot(output, BallotOptions(take=take, answers=("A", "B", "yes") if named else ()))
    read_ballot(output, BallotOptions(path="a.0", extract="(.)b?"))


@pytest.mark.parametrize("unit", ["1,", "answer is ", "\n", "(", "-", "yes "])
@pytest.mark.parametrize(
    "options",
    [
        *(BallotOptions(take=take, answers=("A", "B")) for take in ("whole", "last_line", "last_number")),
        BallotOptions(extract="(a|b)*c"),
    ],
    ids=["whole", "last_line", "last_number", "extract"],
)
def test_read_ballot_takes_linear_time(unit, options):
    assert_linear(lambda output: read_ballot(output, options), unit)


def test_weights_of_rise_with_accuracy_and_have_a_mean_of_one():
    weights = weights_of({"best": 0.8, "good": 0.6, "guessing": 0.2, "wrong": 0.1}, answers=5)

    assert weights["best"] > weights["good"] > 0
    assert weights["guessing"] == weights["wrong"] == 0
    assert sum(weights.values()) == pytest.approx(4, abs=0.01)


def test_weights_of_are_the_logarithm_of_the_odds():
    weights = weights_of({"a": 0.9, "b": 0.6}, answers=2)

    assert weights["a"] / weights["b"] == pytest.approx(math.log(9) / math.log(1.5), rel=0.01)


def test_weights_of_trust_no_voter_fully_and_equal_all_that_guess():
    assert weights_of({"a": 1.0, "b": 0.99}) == {"a": 1.0, "b": 1.0}
    assert weights_of({"a": 0.1, "b": 0.0}) == {"a": 1.0, "b": 1.0}
    assert weights_of({}) == {}


def test_accuracies_of_are_smoothed_and_ignore_abstentions():
    votes = [{"a": "x", "b": "y"}, {"a": "x", "b": ""}, {"a": "x"}]

    assert accuracies_of(votes, ["x", "x", "y"]) == {"a": 3 / 5, "b": 1 / 3}


def some_votes(rates, questions, seed, *, options=5, copies=()):
    """Votes of models with these accuracies and even errors; `copies` are (model, the model that it repeats)."""
    chance = Random(seed)
    votes = []
    for _ in range(questions):
        message = {name: 0 if chance.random() < rate else chance.randrange(1, options) for name, rate in rates.items()}
        message |= {who: message[whose] for who, whose in copies}
        votes.append({name: str(answer) for name, answer in message.items()})
    return votes, ["0"] * questions


def test_agreement_finds_accurate_voters_without_right_answers():
    rates = {"a": 0.85, "b": 0.6, "c": 0.4}

    found = agreement(some_votes(rates, 3000, 1)[0])

    assert found == pytest.approx(rates, abs=0.05)


def test_learned_weights_count_a_voter_and_its_echo_once():
    # given a model whose answers another one repeats, and an equally good independent one
    votes, truths = some_votes({"one": 0.6, "other": 0.6}, 2000, 2, copies=[("echo", "one")])

    weights = learned(votes, truths)

    assert weights["one"] + weights["echo"] == pytest.approx(weights["other"], rel=0.25)


def test_learned_weights_beat_the_best_voter_and_the_plain_majority():
    rates = {"a": 0.75, "b": 0.6, "c": 0.3, "d": 0.3}
    known, others = some_votes(rates, 600, 3), some_votes(rates, 4000, 4)

    def accuracy(weights):
        winners = [count([take(0, cast[name], weights[name]) for name in cast]).winner for cast in others[0]]
        return sum(winner.ballot == "0" for winner in winners) / len(winners)

    weighted = accuracy(learned(*known))
    assert weighted > accuracy(dict.fromkeys(rates, 1.0)) + 0.02
    assert weighted > accuracy({"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}) + 0.005
    assert accuracy(weights_of(accuracies_of(*known))) > accuracy(dict.fromkeys(rates, 1.0))


def test_learned_weights_of_nothing_are_equal():
    assert learned([{"a": "x", "b": "x"}], ["x"]) == {"a": 1.0, "b": 1.0}
    assert learned([], []) == {}
    assert agreement([]) == {}
