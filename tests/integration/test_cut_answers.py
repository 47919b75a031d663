"""Answers that are cut at a bound of tokens, with real workers over HTTP: kept, continued, failed, or asked again."""

from __future__ import annotations

import json

import pytest

from tests.harness import DEADLINE, fleet, wait_for
from tests.scripted import HELD, Reply, scripted

MODELS = {
    "short": {"max_tokens": 20, "price": {"input": 1000.0, "output": 1000.0}},
    "long": {"max_tokens": 500},
    "open": {},
}
ROUTES = {
    "up": {"models": ["short", "long"], "strategy": "round_robin"},
    "alone": {"models": ["short"]},
}
SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
WORDS = ["Once upon ", "a time there ", "was a pointsman ", "who set the ", "points."]


def cut(text, **more):
    return Reply(text, finish="length", **more)


@pytest.fixture(scope="module")
def voices():
    with scripted() as voices:
        yield voices


@pytest.fixture(scope="module")
def running(tmp_path_factory, voices):
    models = {name: {"base_url": voices.url, "capacity": 16, **model} for name, model in MODELS.items()}
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, models=models, simulations={"none": {}}, routes=ROUTES, default_route="alone") as running:
        running.start_all([("route,join", 8), (",".join(f"model.{name}" for name in MODELS), 48)])
        yield running


@pytest.fixture
def ask(running, voices):
    """A function that runs a job while the models answer by `say`."""

    def ask(say, **fields):
        voices.forget(say)
        return running.producer.wait(running.producer.submit({"text": "x", **fields}).id, timeout=DEADLINE)

    return ask


def tell(asked):
    """A story that is cut after each piece: the next one goes on where the model's own turn ended."""
    done = len([words for words in WORDS if words in asked.said])
    return Reply(WORDS[done], finish="stop" if done == len(WORDS) - 1 else "length")


def test_cut_answer_is_kept_and_marked_by_default(ask, voices):
    result = ask(lambda _: cut("half an ans"), model="short")
    assert (result.state, result.output, result.finish_reason, result.truncated) == (
        "succeeded", "half an ans", "length", True,
    )  # fmt: skip
    assert (result.parts[0].finish_reason, result.parts[0].truncated, len(voices.asked)) == ("length", True, 1)
    whole = ask(lambda _: "whole", model="short")
    assert (whole.finish_reason, whole.truncated, whole.parts[0].finish_reason) == ("stop", False, "stop")


def test_cut_answer_is_continued_to_its_end_and_all_of_it_counts(ask, voices):
    result = ask(tell, model="short", on_truncated="continue")
    assert (result.output, result.finish_reason, result.truncated) == ("".join(WORDS), "stop", False)
    (part,) = result.parts
    assert (part.attempts, part.tried[0].attempts, part.tried[0].error) == (5, 5, None)
    assert (part.usage.input_tokens, part.usage.output_tokens) == (50, 50)
    assert part.cost_usd == pytest.approx(0.1)
    assert [asked.said for asked in voices.asked] == ["".join(WORDS[:number]) for number in range(5)]
    assert all("Continue" in asked.text for asked in voices.asked[1:])


def test_continuing_ends_after_four_times_and_says_that_it_was_cut(ask, voices):
    result = ask(lambda _: cut("more "), model="short", on_truncated="continue")
    assert (result.output, result.truncated, len(voices.asked)) == ("more " * 5, True, 5)
    bounded = ask(lambda _: cut("more "), model="short", on_truncated="continue", max_attempts=3)
    assert (bounded.output, bounded.truncated, len(voices.asked)) == ("more " * 3, True, 3)


def test_continuing_that_fails_or_finds_no_money_keeps_what_there_is(ask, voices):
    def fails(asked):
        return Reply(status=400) if asked.said else cut("half")

    broken = ask(fails, model="short", on_truncated="continue")
    assert (broken.state, broken.output, broken.truncated) == ("succeeded", "half", True)
    assert (broken.parts[0].tried[0].error, broken.parts[0].attempts) == ("bad_request", 2)
    # An attempt costs 0.02 USD, and its estimate somewhat more.
    poor = ask(lambda _: cut("half "), model="short", on_truncated="continue", budget_usd=0.05)
    assert (poor.state, poor.truncated) == ("succeeded", True)
    assert poor.cost_usd <= 0.05
    assert poor.output == "half " * len(voices.asked)


def test_cut_answer_that_fails_goes_to_a_candidate_with_more_room(ask, voices):
    def say(asked):
        return "whole" if asked.max_tokens > 20 else cut("half")

    result = ask(say, route="up", on_truncated="fail")
    assert (result.output, result.truncated) == ("whole", False)
    assert [(tried.model, tried.error) for tried in result.parts[0].tried] == [("short", "answer_cut"), ("long", None)]
    # The answer that was of no use is paid, too.
    assert (result.parts[0].usage.output_tokens, result.cost_usd) == (20, pytest.approx(0.02))
    # The job's own bound is the same for all candidates.
    result = ask(say, route="up", on_truncated="fail", max_tokens=10)
    assert (result.state, len(voices.asked)) == ("failed", 1)
    assert "cut after 10 tokens" in result.error
    assert "short: answer_cut after 1" in result.error


def test_cut_json_is_asked_again_with_more_room_never_with_the_same(ask, voices):
    def say(asked):
        return '{"sum": 3}' if asked.max_tokens is None or asked.max_tokens > 100 else cut('{"sum": 3')

    result = ask(say, model="open", response_schema=SCHEMA, max_tokens=10)
    assert (json.loads(result.output), result.truncated) == ({"sum": 3}, False)
    assert [asked.max_tokens for asked in voices.asked] == [10, None]
    assert (result.parts[0].usage.output_tokens, result.parts[0].attempts) == (20, 2)

    result = ask(say, route="up", response_schema=SCHEMA, max_tokens=10)
    assert json.loads(result.output) == {"sum": 3}
    assert [(asked.max_tokens) for asked in voices.asked] == [10, 20, 500]

    for how in (None, "keep", "continue", "fail"):
        result = ask(lambda _: cut('{"sum": 3'), route="up", response_schema=SCHEMA, on_truncated=how)
        assert (result.state, result.output) == ("failed", None)
        assert "cut after 500 tokens, before its JSON was whole" in result.error
        assert [asked.max_tokens for asked in voices.asked] == [20, 500]


def test_json_whose_bound_was_used_up_by_thoughts_is_asked_again_with_more(ask, voices):
    def say(asked):
        return '{"sum": 3}' if asked.max_tokens is None else cut("<think>Let me add these numbers, one by")

    result = ask(say, model="open", response_schema=SCHEMA, max_tokens=10)
    assert (json.loads(result.output), [asked.max_tokens for asked in voices.asked]) == ({"sum": 3}, [10, None])
    assert result.parts[0].tried[0].attempts == 2


def test_thoughts_are_kept_on_request_and_never_in_the_output(ask):
    thinking = "<think>B looks good, but C is right.</think>The answer is C."
    asking = {"kind": "vote", "n": 3, "model": "long", "join": "majority", "join_options": {"answers": ["B", "C"]}}
    plain = ask(lambda _: thinking, **asking)
    assert (plain.output, plain.details["ballot"]) == ("The answer is C.", "c")
    assert {part.reasoning for part in plain.parts} == {None}
    kept = ask(lambda _: thinking, **asking, reasoning=True)
    assert kept.output == "The answer is C."
    assert "B looks good, but C is right." in kept.parts[0].reasoning
    assert all("B looks" not in str(value) for value in kept.details.values())
    # All of it, over the times that the answer was continued.
    parts = iter(["<think>first</think>One", "<think>second</think>-two"])
    result = ask(
        lambda asked: Reply(next(parts), finish="stop" if asked.said else "length"),
        model="long", on_truncated="continue", reasoning=True,
    )  # fmt: skip
    assert (result.output, result.parts[0].reasoning) == ("One-two", "first\n\nsecond")


def test_json_that_is_whole_at_its_bound_is_not_cut(ask, voices):
    result = ask(lambda _: cut('{"sum": 3}'), model="short", response_schema=SCHEMA)
    assert (json.loads(result.output), result.truncated, len(voices.asked)) == ({"sum": 3}, False, 1)
    number = ask(lambda _: cut("3"), model="short", response_schema={"type": "integer"})
    assert (number.state, number.output) == ("failed", None)


def test_sections_that_were_cut_are_named_beside_the_missing(ask):
    def say(asked):
        if asked.text == "b":
            return cut("half of b")
        return Reply(status=400) if asked.text == "c" else f"all of {asked.text}"

    sections = {"text": None, "kind": "sections", "model": "long", "policy": "partial", "items": ["a", "b", "c"]}
    result = ask(say, **sections)
    assert (result.truncated, result.finish_reason) == (True, "length")
    assert result.details["truncated"] == [{"index": 1, "title": "item 2"}]
    assert [gap["index"] for gap in result.details["missing"]] == [2]
    assert [part.truncated for part in result.parts] == [False, True, False]

    whole = ask(lambda asked: f"all of {asked.text}", **sections)
    assert (whole.truncated, whole.finish_reason, whole.details["truncated"]) == (False, "stop", [])
    each = ask(say, **sections, each={"kind": "single"})
    assert (each.truncated, each.details["truncated"]) == (True, [{"index": 1, "title": "item 2"}])


def test_merge_never_reads_half_a_json(ask):
    def say(asked):
        return cut('{"found": ["x", "y"') if asked.text == "b" else '{"found": ["z"]}'

    sections = {"text": None, "kind": "sections", "model": "long", "items": ["a", "b"], "join": "merge"}
    failed = ask(say, **sections)
    assert (failed.state, failed.output) == ("failed", None)
    assert "outputs are no JSON: those of parts 2" in failed.error
    result = ask(say, **sections, join_options={"unreadable": "skip"})
    assert json.loads(result.output) == {"found": ["z"]}
    assert (result.details["unreadable"], result.details["truncated"]) == ([1], [{"index": 1, "title": "item 2"}])


def test_synthesis_that_was_cut_marks_the_result(ask):
    result = ask(
        lambda asked: cut("The parts agr") if "numbered parts" in asked.prompt else "fine",
        text=None, kind="sections", model="long", items=["a", "b"], join="synthesis",
    )  # fmt: skip
    assert (result.output, result.truncated, result.details["truncated"]) == ("The parts agr", True, [])
    assert [part.truncated for part in result.parts] == [False, False, True]


def test_vote_that_was_cut_counts_only_if_it_is_sure(ask):
    said = iter(["A", cut("The answer is B"), cut("B. It follows"), cut("Let me see: A or"), "B"])
    result = ask(
        lambda _: next(said), kind="vote", n=5, model="long", join="majority",
        join_options={"answers": ["A", "B"]}, early_stop="off",
    )  # fmt: skip
    assert (result.details["ballots"], len(result.details["abstained"])) == ({"a": 1, "b": 2}, 2)
    assert len(result.details["truncated"]) == 3
    # Two votes that were cut are not two for the same: the third is needed, and asked.
    said = iter([cut("The answer is B"), cut("The answer is B"), "A"])
    early = ask(
        lambda _: next(said),
        kind="vote",
        n=3,
        model="long",
        prefer="cost",
        join="majority",
        join_options={"answers": ["A", "B"]},
    )
    assert (early.output, early.truncated) == ("A", False)


def test_killed_worker_repeats_at_most_the_continuation_in_flight(tmp_path):
    held = []

    def say(asked):
        if len(voices.asked) == 3:
            held.append(asked)
            return HELD
        return tell(asked)

    with (
        scripted() as voices,
        fleet(
            tmp_path, models={"one": {"base_url": voices.url, "max_tokens": 20}}, simulations={"none": {}}
        ) as running,
    ):
        voices.forget(say)
        _, victim = running.start_all([("route,join", 2), ("model.one", 4)])
        job = running.producer.submit({"text": "x", "on_truncated": "continue"})
        wait_for(lambda: held, "the third attempt")
        victim.kill()
        running.start("model.one", 4)

        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert (result.state, result.output) == ("succeeded", "".join(WORDS))
        assert (len(voices.asked), result.parts[0].attempts) == (6, 6)
        assert [asked.said for asked in voices.asked[2:4]] == ["".join(WORDS[:2])] * 2
        assert result.parts[0].usage.output_tokens == 50
