"""The benchmark of early stop and of weights on few votes: the required figures hold for any seed."""

import json

import pytest

from ops.bench.votes_exact import WRONG, expected, least_calls, published, run_vote
from ops.bench.votes_solvers import Solved, read_solvers, score, score_halves
from ops.bench.votes_voters import POPULATIONS, RIGHT, draw
from tasks.contract.errors import ConfigError
from tasks.parallel.early_stop import StopRule
from tasks.parallel.votes.posterior import enough_votes


@pytest.mark.parametrize("right", [0.56, 0.79, 0.95])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("n", [2, 4, 5])
def test_exact_stop_matches_the_optimum_and_keeps_the_answer(n, right, wrong):
    ours = expected(n, right, wrong)

    assert ours.calls == pytest.approx(least_calls(n, right, wrong))
    assert ours.differing == 0
    assert ours.calls < n


def test_optimum_is_below_a_rule_that_waits_for_a_strict_lead():
    # given a vote of four: two that agree have won, since they also win a tie
    assert least_calls(4, 1.0, "on one") == 2
    assert least_calls(5, 1.0, "on one") == 3
    assert least_calls(3, 0.5, "on one") == 2.5


def test_confidence_saves_five_calls_of_six_and_loses_next_to_nothing():
    questions = draw(POPULATIONS["gpt-3.5"], 1500, 40, seed=7)
    rule = StopRule(exact=True, enough=enough_votes(40, 0.95))

    votes, whole = [run_vote(rule, one) for one in questions], [run_vote(None, one) for one in questions]

    calls = sum(vote.calls for vote in votes) / len(votes)
    lost = sum(vote.winner == RIGHT for vote in whole) - sum(vote.winner == RIGHT for vote in votes)
    same = sum(vote.winner == other.winner for vote, other in zip(votes, whole, strict=True))
    assert calls < 0.2 * 40
    assert lost <= 0.006 * len(votes)  # 0.3 points, and what chance adds to it on so few
    assert same >= 0.95 * len(votes)


def test_published_rule_asks_for_more():
    assert published(40, 0.95)[:5] == (4, 6, 8, 9, 11)
    assert all(ours <= theirs for ours, theirs in zip(enough_votes(40, 0.95), published(40, 0.95), strict=True))


@pytest.mark.parametrize("name", POPULATIONS)
def test_simulated_voters_have_the_published_accuracies(name):
    population = POPULATIONS[name]
    questions = draw(population, 6000, 40, seed=3)

    one = sum(ballots[0] == RIGHT for ballots in questions) / len(questions)
    whole = sum(run_vote(None, ballots).winner == RIGHT for ballots in questions) / len(questions)

    assert one == pytest.approx(population.published["one"], abs=0.015)
    assert whole == pytest.approx(population.published["majority of 40"], abs=0.015)


def solvers_of(rows):
    return Solved([dict(zip("abc", row[:3], strict=True)) for row in rows], [row[3] for row in rows])


def test_score_halves_scores_on_other_questions_than_it_learns_from():
    # given a solver that is right in two questions of three, and two that agree on what is wrong in these
    rows = [("1", "2", "2", "1"), ("1", "3", "3", "1"), ("4", "1", "1", "1")] * 40
    halves = score_halves(solvers_of(rows), splits=3, seed=1)

    assert halves.halves == 6
    assert halves.accuracy["plain majority"] == pytest.approx(1 / 3)
    assert halves.accuracy["weights learned"] > 1 / 2
    assert score(solvers_of(rows), {"a": 1, "b": 0, "c": 0}) == pytest.approx(2 / 3)


def test_read_solvers_reads_lines_of_json(tmp_path):
    file = tmp_path / "solvers.jsonl"
    file.write_text(json.dumps({"answer": "1,000", "answers": {"a": "1000.0", "b": ""}}) + "\n\n")

    solved = read_solvers(file)

    assert solved.truths == ["1000"]
    assert solved.votes == [{"a": "1000", "b": ""}]


@pytest.mark.parametrize("text", [None, "no JSON", '{"answers": {}}', '{"answer": 1, "answers": []}'])
def test_read_solvers_refuses_unreadable_data(tmp_path, text):
    file = tmp_path / "solvers.jsonl"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigError, match=r"--data: solvers\.jsonl"):
        read_solvers(file)
