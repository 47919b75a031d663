"""The number of parts that a job may have, with all its child jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.contract.job_fields import Parent
from tasks.loading.load import parse
from tasks.parallel.cut import cut_job
from tasks.parallel.part_limits import allowed_parts, check_part_count, check_planned_parts, least_parts, part_share
from tasks.workflows.check_job import check_job

CONFIG = parse("""
models: {fast: {provider: simulated}}
routes: {r: {models: [fast]}}
default_route: r
workflows: {legal_review: ready}
limits: {nested_parts: 1000}
""")


def job(**fields):
    return parse_job({"kind": "sections", **fields})


def within(job, *, parts):
    return job.model_copy(update={"parent": Parent(part="above.0.0", depth=1, parts=parts)})


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"text": "x"}, 1),
        ({"kind": "vote", "n": 7, "text": "x"}, 7),
        ({"kind": "sections", "items": ["a", "b", "c"]}, 3),
        # Each section, and what its own job has.
        ({"kind": "sections", "items": ["a", "b", "c"], "each": {}}, 6),
        ({"kind": "sections", "items": ["a", "b"], "each": {"kind": "vote", "n": 5}}, 12),
        ({"kind": "sections", "items": ["a", {"text": "b", "route": "r"}, {"text": "c", "model": "fast"}]}, 5),
        # A text has at least one section.
        ({"kind": "sections", "text": "x", "split": "lines", "each": {"kind": "vote", "n": 5}}, 6),
        # Two steps, one of them with at least one section.
        ({"kind": "legal_review", "text": "x"}, 4),
    ],
)
def test_least_parts_counts_the_certain_parts_of_the_whole_tree(fields, parts):
    job = parse_job(fields)
    assert least_parts({"kind": job.kind, "n": job.n, "items": job.items, "each": job.each}, CONFIG) == parts


def test_check_part_count_refuses_a_bomb_of_sections_with_votes():
    bomb = job(items=["x"] * 100, each={"kind": "vote", "n": 100})
    with pytest.raises(BadInput, match=r"makes at least 10,100 parts.* the limit is 1,000; .*limits\.nested_parts"):
        check_job(bomb, CONFIG)
    check_job(job(items=["x"] * 100, each={"kind": "vote", "n": 9}), CONFIG)


def test_check_planned_parts_refuses_too_many_sections_before_any_is_sent():
    # given a job that the first check must accept
    bomb = job(text="a\n" * 100, split="lines", each={"kind": "vote", "n": 100})
    check_job(bomb, CONFIG)
    # when it is cut, then it is refused as a whole
    with pytest.raises(BadInput, match="makes at least 10,100 parts") as caught:
        check_planned_parts(bomb, [piece.child for piece in cut_job(bomb, most=1000)], CONFIG)
    assert caught.value.field == "each"


def test_part_share_limits_a_child_job():
    outer = job(text="a\n" * 100, split="lines", each={"kind": "sections", "split": "sentences"})
    share = part_share(outer, 100, CONFIG)
    assert share == 9
    with pytest.raises(BadInput, match="its share of the limit is 9"):
        check_part_count(within(job(items=["x"] * 10), parts=share), CONFIG)
    check_part_count(within(job(items=["x"] * 9), parts=share), CONFIG)


def test_part_share_of_a_step_with_one_call_goes_to_the_other_steps():
    review = parse_job({"kind": "legal_review", "text": "x"})
    assert part_share(review, 2, CONFIG) == 998


def test_allowed_parts_are_never_more_than_the_configuration_allows():
    assert allowed_parts(within(job(items=["x"]), parts=5000), CONFIG) == 1000
    assert allowed_parts(job(items=["x"]), CONFIG) == 1000


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_part_share_keeps_any_tree_of_child_jobs_within_the_limit(branches):
    # given nested child jobs that each use their whole share
    at, total, wide = job(items=["x"], each={}), 0, 1
    for branch in branches:
        parts = min(branch, allowed_parts(at, CONFIG))
        # when each level's parts are jobs again
        total += wide * parts
        wide *= parts
        at = within(at, parts=part_share(at, parts, CONFIG))
        if allowed_parts(at, CONFIG) == 1:
            break
    # then all levels together keep the limit
    assert total <= 1000
