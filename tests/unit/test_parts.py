"""The specs of a job's parts before they are sent: cut, proposed by a model, or child jobs."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput, JoinError
from tasks.contract.job import parse_job
from tasks.ledger.stored import read_part, write_extras
from tasks.loading.load import parse
from tasks.parallel.cut import MOST, cut_job, plan_question, read_proposal
from tasks.parallel.part_spec import DEEPEST, PartSpec, child_id, fields_for_item, fields_for_section
from tasks.workflows.check_job import check_job

CONFIG = parse("""
models: {fast: {provider: simulated}, slow: {provider: simulated}}
routes: {r: {models: [fast, slow], prompt: Of the route.}}
default_route: r
limits: {parts: 5}
""")


def sections(*items, **more):
    return parse_job({"kind": "sections", "items": list(items), **more})


# -- cutting -------------------------------------------------------------------------------------


def test_cut_job_makes_items_parts_with_their_own_fields():
    schema = {"type": "object"}
    job = sections("plain", {"text": "own", "title": "T", "prompt": "P", "response_schema": schema})
    plain, own = cut_job(job, most=5)
    assert plain == PartSpec(title="item 1", text="plain")
    assert own == PartSpec(title="T", text="own", prompt="P", schema=schema)


def test_cut_job_makes_an_item_with_a_route_or_a_model_a_child_job():
    routed, named = cut_job(sections({"text": "a", "route": "r"}, {"text": "b", "model": "slow"}, model="fast"), most=5)
    assert (routed.child["route"], "model" in routed.child) == ("r", False)
    assert (named.child["model"], "route" in named.child) == ("slow", False)


def test_cut_job_gives_votes_prompts_models_and_seeds_in_turn():
    job = parse_job({
        "kind": "vote", "text": "x", "n": 5, "variety": {"prompts": ["a", "b"], "models": ["fast"], "seeds": [1, 2, 3]},
    })  # fmt: skip
    votes = cut_job(job, most=5)
    assert [vote.prompt for vote in votes] == ["a", "b", "a", "b", "a"]
    assert [vote.seed for vote in votes] == [1, 2, 3, 1, 2]
    assert {vote.candidates for vote in votes} == {("fast",)}
    # The text is the job's: it isn't written once a vote.
    assert {piece.text for piece in cut_job(job, most=5)} == {None}


def test_cut_job_gives_votes_without_variety_equal_specs():
    votes = cut_job(parse_job({"kind": "vote", "text": "x", "n": 3}), most=5)
    assert {write_extras(vote) for vote in votes} == {""}


def test_cut_job_refuses_more_sections_than_the_limit_with_both_figures():
    text = "\n".join("abcdef")
    with pytest.raises(BadInput, match=r"^text: makes 6 sections, the limit is 5; .*limits\.parts"):
        cut_job(parse_job({"kind": "sections", "text": text, "split": "lines"}), most=5)


def test_cut_job_makes_fifty_thousand_sections():
    text = "\n".join(f"line {number}" for number in range(50_000))
    pieces = cut_job(parse_job({"kind": "sections", "text": text, "split": "lines"}), most=50_000)
    assert [piece.text.strip() for piece in pieces] == text.splitlines()


# -- jobs of their own -----------------------------------------------------------------------------


@given(st.integers(0, 10**6))
def test_child_id_is_stable_and_unique_for_each_part(index):
    job = parse_job({"text": "x"}).id
    made = child_id(job, index)
    assert made == child_id(job, index) != child_id(job, index + 1)
    assert len(made) == len(job)
    # Sorted beside its job by time.
    assert made[:10] == job[:10]
    assert parse_job({"id": made, "text": "x"}).id == made


def test_child_ids_of_many_parts_differ():
    job = parse_job({"text": "x"}).id
    assert len({child_id(job, index) for index in range(10_000)}) == 10_000


def test_fields_for_section_are_those_of_each_then_those_of_the_job():
    job = parse_job({
        "kind": "sections", "text": "x", "split": "paragraphs", "prompt": "P", "temperature": 0.5, "model": "fast",
        "labels": {"a": "b"}, "each": {"kind": "vote", "n": 3, "temperature": 1.0},
    })  # fmt: skip
    fields = fields_for_section(job, "section")
    assert fields == {
        "kind": "vote", "n": 3, "text": "section", "prompt": "P", "temperature": 1.0, "model": "fast",
    }  # fmt: skip
    assert parse_job(fields).n == 3


@pytest.mark.parametrize("own", [{"model": "slow"}, {"route": "r"}, {"routes": ["r"]}])
def test_fields_for_section_with_its_own_routing_drop_that_of_the_job(own):
    job = sections("a", model="fast", each={"kind": "single", **own})
    fields = fields_for_section(job, "a")
    assert {name: fields.get(name) for name in ("model", "route", "routes")} == {
        "model": None, "route": None, "routes": None, **own,
    }  # fmt: skip


def test_fields_for_item_override_those_of_each():
    job = sections(
        {"text": "a", "model": "slow", "prompt": "mine"}, each={"kind": "vote", "n": 3, "route": "r", "prompt": "all"}
    )
    fields = fields_for_item(job, job.items[0])
    assert (fields["model"], fields["prompt"], fields["n"], "route" in fields) == ("slow", "mine", 3, False)


@pytest.mark.parametrize("field", ["text", "deadline", "budget_usd", "idempotency_key", "labels", "metadata", "parent"])
def test_fields_for_section_refuse_what_comes_with_the_job(field):
    with pytest.raises(BadInput, match=rf"^each\.{field}: can't be set by each"):
        check_job(sections("a", each={field: "x"}), CONFIG)


def test_check_refuses_child_jobs_that_are_nested_too_deeply():
    def nested(depth):
        each = {"kind": "single"}
        for _ in range(depth - 1):
            each = {"kind": "sections", "split": "paragraphs", "each": each}
        return sections("a", each=each)

    check_job(nested(DEEPEST), CONFIG)
    with pytest.raises(BadInput, match=rf"each: makes jobs within jobs {DEEPEST + 1} deep; at most {DEEPEST}"):
        check_job(nested(DEEPEST + 1), CONFIG)


def test_check_refuses_a_weight_for_a_missing_model():
    def voted(**weights):
        options = {"weights": weights}
        return parse_job({"kind": "vote", "text": "x", "n": 3, "join": "weighted", "join_options": options})

    check_job(voted(fast=2, slow=1), CONFIG)
    with pytest.raises(BadInput, match=r"^join_options\.weights: 'fats' is not known; allowed: fast, slow"):
        check_job(voted(fats=2), CONFIG)


def test_check_names_the_place_of_an_error_within_each_or_an_item():
    def refused(job):
        with pytest.raises(BadInput) as error:
            check_job(job, CONFIG)
        return error.value.field

    assert refused(sections("a", each={"kind": "vote", "n": 3, "join": "nothing"})) == "each.join"
    assert refused(sections("a", each={"kind": "sections", "split": "nothing"})) == "each.split"
    assert refused(sections("a", {"text": "b", "model": "missing"})) == "items[1].model"
    assert refused(sections({"text": "b", "prompt": "file:nothing"})) == "items[0].prompt"
    assert refused(sections({"text": "b", "response_schema": {"type": "nothing"}})) == "items[0].response_schema"
    vote = {"kind": "vote", "text": "x", "n": 2}
    assert refused(parse_job(vote | {"variety": {"models": ["fast", "missing"]}})) == "variety.models[1]"
    assert refused(parse_job(vote | {"variety": {"prompts": ["a", "file:b"]}})) == "variety.prompts[1]"
    assert refused(parse_job(vote | {"join": "synthesis", "join_model": "missing"})) == "join_model"
    assert refused(parse_job(vote | {"join": "concatenate"})) == "join"
    assert refused(parse_job(vote | {"join_options": {"take": "nothing"}})) == "join_options.take"
    assert refused(parse_job({"text": "x", "parent": {"part": "a.0.0", "depth": 1}})) == "parent"


# -- what a model proposes ---------------------------------------------------------------------------


def planned(**options):
    return parse_job({"kind": "sections", "text": "Write.", "split": "plan", "split_options": options})


def test_plan_question_has_its_limit_and_not_the_prompt_of_the_job():
    asked = plan_question(planned(most=3).split_options)
    assert (asked.bare, asked.task) == (True, None)
    assert "at most 3" in asked.prompt
    assert asked.schema["properties"]["sections"]["maxItems"] == 3
    assert f"at most {MOST}" in plan_question({}).prompt
    assert plan_question({"prompt": "Mine."}).prompt == "Mine."


def test_read_proposal_makes_sections_tasks_on_the_input_of_the_job():
    answer = json.dumps({"sections": [{"title": " A ", "brief": "do a"}, {"title": "", "brief": "do b"}]})
    first, second = read_proposal(planned(), answer)
    assert (first.title, first.text, first.task) == ("A", None, "Your part: A\n\ndo a")
    assert (second.title, second.task) == ("part 2", "Your part: \n\ndo b")


def test_read_proposal_takes_no_more_sections_than_allowed():
    answer = json.dumps({"sections": [{"title": f"{number}", "brief": "b"} for number in range(50)]})
    assert len(read_proposal(planned(), answer)) == MOST
    assert [piece.title for piece in read_proposal(planned(most=2), answer)] == ["0", "1"]


@pytest.mark.parametrize(
    "answer", ["", "no plan today", "[]", "{}", '{"sections": "a"}', '{"sections": []}', '{"sections": [7]}']
)
def test_read_proposal_of_an_empty_plan_raises_without_quoting_it(answer):
    with pytest.raises(JoinError, match=r"plan") as error:
        read_proposal(planned(), answer)
    assert not answer or answer not in str(error.value)


# -- what is written down ----------------------------------------------------------------------------


@given(
    st.builds(
        PartSpec,
        prompt=st.none() | st.text(),
        seed=st.none() | st.integers(),
        task=st.none() | st.text(),
        candidates=st.lists(st.sampled_from(["fast", "slow"])).map(tuple),
        bare=st.booleans(),
        schema=st.none() | st.just({"type": "object"}),
    )
)
def test_part_spec_is_read_as_it_was_written(spec):
    assert read_part(write_extras(spec)) == spec


def test_child_ids_are_sorted_with_their_job_by_its_time():
    jobs = ["0" * 25 + "1", "1" * 26]
    assert all(child_id(one, 0) < child_id(other, 0) for one, other in pairwise(jobs))
