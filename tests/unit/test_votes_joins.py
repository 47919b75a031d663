"""The joins that count votes: their outputs and their details."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput, JoinError
from tasks.parallel.joins import JOINS, Missing, Piece, Work
from tasks.parallel.joins.threshold import at_least
from tasks.parallel.votes.ranking_text import read_ranking

COUNTING = ("majority", "weighted", "threshold", "mean", "median", "ranked")


def joined(name, outputs, options=None, *, missing=0, weights=None, models=()):
    pieces = [Piece(index, "", output, models[index] if models else "") for index, output in enumerate(outputs)]
    gaps = [Missing(len(outputs) + index, "", "timed out") for index in range(missing)]
    work = Work(pieces, gaps, len(outputs) + missing, JOINS.options(name, options or {}), weights=weights or {})
    return JOINS.named(name)(work)


def ballot(name, output, options=None):
    return JOINS.traits(name).ballot(output, JOINS.options(name, options or {}))


def test_majority_shows_the_first_answer_of_the_winning_ballot_with_counts():
    answer = joined("majority", ["B", "**a**", "Answer: A.", "a", " "], missing=1)

    assert answer.output == "**a**"
    details = answer.details
    assert (details["ballot"], details["votes"], details["total"], details["share"]) == ("a", 3, 4, 0.75)
    assert details["ballots"] == {"b": 1, "a": 3}
    assert details["dissent"] == [{"ballot": "b", "votes": 1, "parts": [0]}]
    assert details["tie"] == []
    assert details["abstained"] == [4]
    assert details["confidence"] == 13 / 16  # P(θ > ½) for θ ~ Beta(4, 2)
    assert [gap["index"] for gap in details["missing"]] == [5]


def test_majority_lists_a_tie_and_gives_it_to_the_first_ballot_to_reach_it():
    answer = joined("majority", ["x", "y"])

    assert answer.output == "x"
    assert answer.details["tie"] == ["x", "y"]
    assert answer.details["confidence"] == 0.5


def test_majority_counts_reasoning_by_its_last_number():
    texts = ["2 and 2 make 4.", "I add 2 to 2: 4", "2 + 2 = 5"]

    assert len(joined("majority", texts).details["ballots"]) == 3
    answer = joined("majority", texts, {"take": "last_number"})
    assert (answer.output, answer.details["ballot"]) == ("2 and 2 make 4.", "4")
    assert joined("majority", texts, {"take": "last_number", "show": "ballot"}).output == "4"


def test_majority_counts_an_output_without_a_possible_answer_as_abstention():
    answer = joined("majority", ["A) first", "B", "b.", "no idea"], {"answers": ["A", "B"]})

    assert answer.details["ballots"] == {"a": 1, "b": 2}
    assert answer.details["abstained"] == [3]


def test_majority_counts_json_in_any_layout_as_one_ballot():
    answer = joined("majority", ['{"a": 1, "b": "X"}', '```json\n{"b": "x", "a": 1.0}\n```', '{"a": 2}'])

    assert answer.details["votes"] == 2


@pytest.mark.parametrize("outputs", [[], ["", "  \n"]])
@pytest.mark.parametrize("name", COUNTING)
def test_vote_joins_without_a_counted_vote_raise(name, outputs):
    with pytest.raises(JoinError, match=r"to count: 1 of [13] parts are missing"):
        joined(name, outputs, missing=1)


def test_weighted_lets_a_heavy_model_win_against_two_others():
    answer = joined(
        "weighted", ["x", "y", "y"], weights={"best": 2.5, "weak": 0.5}, models=["best", "weak", "stranger"]
    )

    assert answer.output == "x"
    assert answer.details["weights"] == {"best": 2.5, "stranger": 1.0, "weak": 0.5}
    assert answer.details["ballots"] == {"x": 2.5, "y": 1.5}
    assert answer.details["share"] == answer.details["confidence"] == 2.5 / 4


def test_weighted_options_override_the_profiles():
    options = {"weights": {"best": 0}, "other": 2}
    answer = joined("weighted", ["x", "y", "z"], options, weights={"best": 9}, models=["best", "a", "b"])

    assert answer.output == "y"
    assert answer.details["abstained"] == [0]


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan"), 1e9])
def test_weighted_options_refuse_negative_and_infinite_weights(weight):
    with pytest.raises(BadInput, match=r"join_options\.weights\.a"):
        JOINS.options("weighted", {"weights": {"a": weight}})


@pytest.mark.parametrize(
    ("output", "flag"),
    [
        ("yes", "flagged"),
        ("**Unsafe**: it threatens people", "flagged"),
        ("Verdict: unsafe.", "flagged"),
        ("no", "clear"),
        ("Safe.", "clear"),
        ("I can't help with that.", "flagged"),
        ("Okay, this post threatens a person and should be blocked.", "flagged"),
        ("Safe? No, this promotes violence.", "flagged"),
        ("Yes, it is safe.", "flagged"),
        ("There is no violation here.", "clear"),
        ("  ", ""),
    ],
)
def test_threshold_reads_a_flag_from_words_and_beginnings(output, flag):
    assert ballot("threshold", output) == flag


def test_threshold_options_set_the_words_that_flag():
    spam = {"flag": ["spam"], "path": "label"}

    assert ballot("threshold", '{"label": "Spam"}', spam) == "flagged"
    assert ballot("threshold", '{"label": "ham"}', spam) == "flagged"
    assert ballot("threshold", '{"label": "ham"}', {**spam, "clear": ["ham"]}) == "clear"
    assert ballot("threshold", '{"flag": true}', {"path": "flag"}) == "flagged"
    assert ballot("threshold", "I can't help with that.", {"unread": "clear"}) == "clear"


@pytest.mark.parametrize(("k", "verdict"), [(1, "flagged"), (2, "flagged"), (3, "clear"), (None, "clear")])
def test_threshold_flags_if_at_least_k_votes_flag(k, verdict):
    options = {"unread": "clear"} | ({"k": k} if k else {})
    answer = joined("threshold", ["yes", "no", "unsafe", "hm"], options, missing=1)

    assert answer.output == verdict
    details = answer.details
    assert (details["flags"], details["clear"], details["unread"]) == ([0, 2], [1, 3], [3])
    assert details["n"] == 5
    assert details["dissent"][0]["parts"] == ([1, 3] if verdict == "flagged" else [0, 2])


def test_threshold_output_has_the_configured_words():
    options = {"k": 1, "says_flagged": "Hold the post.", "says_clear": "Publish."}

    assert joined("threshold", ["no", "yes"], options).output == "Hold the post."
    assert joined("threshold", ["no", "no"], options).output == "Publish."


def test_threshold_details_have_the_error_rates_of_the_vote():
    rates = {"false_alarms": 0.1, "misses": 0.2}
    few = joined("threshold", ["yes"] * 3, {"k": 1, **rates}).details
    many = joined("threshold", ["yes"] * 3, {"k": 3, **rates}).details

    assert few["false_alarm"] == pytest.approx(1 - 0.9**3)
    assert few["miss"] == pytest.approx(0.2**3)
    assert many["false_alarm"] == pytest.approx(0.1**3)
    assert many["miss"] == pytest.approx(1 - 0.8**3)


@given(st.integers(1, 30), st.floats(0, 1), st.data())
def test_threshold_with_more_required_votes_has_fewer_false_alarms(n, rate, data):
    k = data.draw(st.integers(1, n))

    assert at_least(k, n, rate) <= at_least(k - 1, n, rate) + 1e-9
    assert at_least(0, n, rate) == pytest.approx(1)


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"flag": []}, {"flag": ["yes", " "]}, {"flag": ["hm"], "clear": ["Hm."]}, {"misses": 1.5}]
)
def test_threshold_options_that_contradict_are_refused(options):
    with pytest.raises(BadInput, match="join_options"):
        JOINS.options("threshold", options)


def test_threshold_refuses_more_flags_than_votes():
    with pytest.raises(BadInput, match="at most 2 can flag"):
        joined("threshold", ["yes", "no"], {"k": 3})


@pytest.mark.parametrize(
    ("output", "options", "score"),
    [
        ("7", {}, 7),
        ("Score: 7/10", {}, 7),
        ("I give it 8 out of 10.", {}, 8),
        ("Of 3 points 2 are met: 6.5", {}, 6.5),
        ("8, because 2 things are missing", {"take": "first"}, 8),
        ("-1,250.5", {}, -1250.5),
        ('{"score": 4, "of": 5}', {"path": "score"}, 4),
        ("[[9]] and no more than 10", {"extract": r"\[\[(\d+)\]\]"}, 9),
        ("no number", {}, None),
        ("11", {"most": 10}, None),
        ("0", {"least": 1}, None),
        ("9" * 400, {}, None),
    ],
)
def test_score_is_found_in_its_text(output, options, score):
    answer = joined("median", [output, "5"], options)

    assert answer.details["scores"].get("0") == score
    assert (0 in answer.details["unread"]) == (score is None)


def test_mean_and_median_details_have_the_distribution_of_the_scores():
    outputs = ["1", "7", "8", "8", "9"]

    mean, median = joined("mean", outputs), joined("median", outputs)
    assert (mean.output, median.output) == ("6.6", "8")
    assert mean.details["spread"] == median.details["spread"] == pytest.approx(3.2094, abs=1e-4)
    assert (median.details["lowest"], median.details["highest"], median.details["total"]) == (1, 9, 5)
    assert median.details["dissent"] == [{"index": 0, "score": 1}]
    assert joined("mean", ["4", "no idea", "6"], missing=1).details["confidence"] == 0.5


def test_mean_with_trim_leaves_out_the_ends():
    answer = joined("mean", ["1", "7", "8", "8", "100"], {"trim": 0.2})

    assert answer.output == "7.67"
    assert answer.details["mean"] == pytest.approx(23 / 3)
    assert joined("mean", ["-0.001"]).output == "0"
    assert joined("mean", ["2", "3"], {"decimals": 0}).output == "2"


@pytest.mark.parametrize("options", [{"least": 5, "most": 5}, {"trim": 0.5}, {"decimals": -1}, {"most": float("nan")}])
def test_score_options_with_impossible_scales_are_refused(options):
    with pytest.raises(BadInput, match="join_options"):
        JOINS.options("mean", options)


@pytest.mark.parametrize(
    "text",
    [
        '["Red", "green", "Blue."]',
        '```json\n["Red", "green", "Blue."]\n```',
        '{"ranking": [{"name": "Red", "why": "x"}, {"name": "green"}, {"name": "Blue."}]}',
        "Here is my ranking:\n\n1. Red\n2. green\n3. Blue.\n\nI like red.",
        "1) **Red**\n2) green\n3) Blue.",
        "- Red\n- green\n- Blue.\n- red",
        "Red\ngreen\nBlue.",
        "Red > green > Blue.",
        "Red, green, Blue.",
    ],
)
def test_read_ranking_reads_json_lists_and_lines(text):
    assert list(read_ranking(text)) == ["red", "green", "blue"]


#: Nine voters on three candidates: A has most first places, B beats both others pair by pair, C has most of nothing.
NINE = [["a", "b", "c"]] * 4 + [["b", "c", "a"]] * 2 + [["c", "b", "a"]] * 3


@pytest.mark.parametrize(
    ("method", "order", "points"),
    [
        ("borda", ["b", "c", "a"], {"b": 11, "c": 8, "a": 8}),
        ("copeland", ["b", "c", "a"], {"b": 2, "c": 0, "a": -2}),
        ("instant_runoff", ["c", "a", "b"], {"c": 2, "a": 1, "b": 0}),
    ],
)
def test_ranked_methods_each_follow_their_own_rule(method, order, points):
    answer = joined("ranked", [json.dumps(names) for names in NINE], {"method": method, "show": "json"})

    assert answer.details["points"] == points
    if method == "borda":
        # Equal points: the order in which they were first named.
        assert answer.details["ties"] == [["a", "c"]]
        assert json.loads(answer.output) == ["b", "a", "c"]
    else:
        assert json.loads(answer.output) == order


def test_ranked_candidates_missing_on_a_ballot_share_its_remaining_points():
    answer = joined("ranked", ['["a"]', '["b", "a", "c"]'])

    # a: 2 + 1; b: ½ + 2; c: ½ + 0
    assert answer.details["points"] == {"a": 3, "b": 2.5, "c": 0.5}
    assert answer.output == "1. a\n2. b\n3. c"


def test_ranked_ignores_other_candidates_and_puts_unranked_ones_last():
    answer = joined("ranked", ['["X", "Blue", "red"]', '["red"]', "I refuse."], {"among": ["Red", "Blue", "Green"]})

    assert answer.details["ranking"] == ["Red", "Blue", "Green"]
    assert answer.details["unread"] == [2]
    assert joined("ranked", ['["b", "a"]'], {"show": "winner"}).output == "b"


def test_ranked_details_have_the_agreement_and_the_dissent():
    details = joined("ranked", ['["a", "b", "c"]', '["a", "c"]', '["b", "a", "c"]']).details

    assert details["confidence"] == 6 / 7
    assert details["dissent"] == [{"index": 2, "first": "b"}]
    assert details["tie"] == []
    assert joined("ranked", ['["a", "b"]', '["b", "a"]']).details["tie"] == ["a", "b"]


@pytest.mark.parametrize("method", ["borda", "copeland", "instant_runoff"])
def test_ranked_ends_for_many_rankings_without_common_candidates(method):
    outputs = [json.dumps(["all", *(f"{index}-{place}" for place in range(300))]) for index in range(200)]

    details = joined("ranked", outputs, {"method": method}).details

    assert details["ranking"][0] == "all"
    assert len(details["ranking"]) == 100
    assert details["dropped"] == 1 + 200 * 99 - 100


@given(
    st.sampled_from(COUNTING), st.lists(st.text(max_size=30) | st.from_regex(r"\d{1,3}", fullmatch=True), min_size=1)
)
def test_vote_joins_of_any_outputs_end_with_json_details_or_a_reason(name, outputs):
    try:
        answer = joined(name, outputs)
    except JoinError:
        return
    json.dumps(answer.details, allow_nan=False)
    assert answer.output
    assert joined(name, outputs) == answer


# -- votes that were cut -----------------------------------------------------------------------------


def join_cut(name, outputs, options=None):
    """The join of outputs that were all cut but the first."""
    pieces = [Piece(index, "", output, truncated=index > 0) for index, output in enumerate(outputs)]
    return JOINS.named(name)(Work(pieces, (), len(outputs), JOINS.options(name, options or {})))


LETTERS = {"answers": ["A", "B", "Berlin", "no", "none"]}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("The answer is B. Because it", LETTERS, "b"),
        ("Answer: B\nIt follows from", LETTERS, "b"),
        # A word that may have gone on, a sentence without its end, an answer that is the beginning of another.
        ("The answer is B", LETTERS, ""),
        ("no", LETTERS, ""),
        ("A", LETTERS, "a"),
        ("B", LETTERS, ""),
        ("Yes", {"answers": ["yes", "no"]}, "yes"),
        ("", {"answers": ["yes", "no"]}, ""),
        # Whatever came last, or all of it, is not there.
        ("It is 12. So all in", {"take": "last_number"}, ""),
        ("One sentence.", {}, ""),
        ('{"verdict": "A", "why": "it', {**LETTERS, "path": "verdict"}, ""),
        ('{"verdict": "A"}', {**LETTERS, "path": "verdict"}, "a"),
        ('```json\n{"verdict": "A"}\n```', {**LETTERS, "path": "verdict"}, "a"),
    ],
)
def test_majority_counts_a_cut_vote_only_if_it_is_sure(text, options, expected):
    read = JOINS.traits("majority").cut_ballot(text, JOINS.options("majority", options))
    assert read == expected


def test_majority_lets_a_cut_vote_abstain_and_names_it():
    details = join_cut("majority", ["A", "The answer is B", "B. It"], {"answers": ["A", "B"]}).details
    assert (details["ballots"], details["abstained"]) == ({"a": 1, "b": 1}, [1])
    assert details["truncated"] == [{"index": 1, "title": ""}, {"index": 2, "title": ""}]


def test_threshold_counts_a_cut_vote_that_is_not_sure_as_unread():
    cut = ["no", "Yes", "This is not", "It is bad. Yes: it contains"]
    for unread, flags in (("flagged", [1, 2]), ("clear", [1])):
        details = join_cut("threshold", ["no", *cut[1:3]], {"unread": unread}).details
        assert (details["flags"], details["unread"]) == (flags, [2])


def test_scores_and_rankings_that_were_cut_are_unread():
    scored = join_cut("mean", ["7", "I give it 1", '{"score": 3}'])
    assert (scored.output, scored.details["unread"]) == ("7", [1, 2])
    assert join_cut("mean", ['{"s": 7}', '{"s": 1', '{"s": 3}'], {"path": "s"}).output == "5"
    order = join_cut("ranked", ["1. Rome\n2. Oslo", "1. Oslo\n2. Ro"])
    assert (order.details["ranking"], order.details["unread"]) == (["Rome", "Oslo"], [1])


@pytest.mark.parametrize(
    ("name", "outputs", "cut", "expected"),
    [
        # The text of the part that was cut is not in the output, or only its ballot is.
        ("majority", ["A", "A. It"], [1], False),
        ("majority", ["A. It", "B"], [0], True),
        ("threshold", ["yes", "yes"], [1], False),
        ("consistent", ["one two three", "one two three", "four"], [2], False),
        ("consistent", ["one two three", "one two three", "four"], [0], True),
        ("options", ["one two three", "four"], [1], True),
        ("weighted", ["A", "B"], [1], False),
    ],
)
def test_output_is_truncated_where_the_text_of_a_cut_vote_is_in_it(name, outputs, cut, expected):
    options = {"answers": ["A", "B"]} if name in {"majority", "weighted"} else {}
    pieces = [Piece(index, "", output, truncated=index in cut) for index, output in enumerate(outputs)]
    joined = JOINS.named(name)(Work(pieces, (), len(outputs), JOINS.options(name, options)))
    assert joined.truncated is expected
    assert [gap["index"] for gap in joined.details["truncated"]] == cut
