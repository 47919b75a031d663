"""Jobs within jobs that would become too many parts, on real workers."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.contract.result import Result
from tests.harness import DEADLINE, Fleet, fleet

#: A job of it, with all the jobs within it, has 60 parts at most.
LIMITS = {"nested_parts": 60}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bound")
    with fleet(folder, models={"fast": {"capacity": 8}}, simulations={"fast": {}}, limits=LIMITS) as started:
        started.start_all([("route,join", 8), ("model.fast", 8)])
        yield started


def run(running: Fleet, **job: Any) -> Result:
    return running.producer.wait(running.producer.submit({"kind": "sections", **job}).id, timeout=DEADLINE)


def document(*, headings: int, lines: int) -> str:
    return "".join(f"# Part {head}\n" + "words\n" * lines for head in range(headings))


def test_sections_too_many_for_their_votes_fail_before_a_model_is_asked(running: Fleet):
    # given ten sections, of which each would be voted on ten times
    text = document(headings=10, lines=1)
    # when it is cut
    result = run(running, text=text, split="headings", each={"kind": "vote", "n": 10})
    # then the job says what is too much, and nothing was asked
    assert result.state == "failed"
    assert "each: makes at least 110 parts" in (result.error or "")
    assert "limits.nested_parts" in (result.error or "")
    assert (result.parts, result.usage.input_tokens) == ((), 0)


def test_section_that_is_cut_into_more_than_its_share_fails_alone(running: Fleet):
    # given two sections, which may have 29 parts each, and one that has more
    text = document(headings=1, lines=5) + "# Long\n" + "words\n" * 50
    # when each is cut again
    result = run(running, text=text, split="headings", each={"kind": "sections", "split": "lines"}, policy="partial")
    # then the other one is there
    short, long = result.parts
    assert (result.state, short.state, long.state) == ("succeeded", "succeeded", "failed")
    assert "its share of the limit is 29" in (long.error or "")


def test_tree_within_the_limit_is_whole(running: Fleet):
    text = document(headings=3, lines=4)
    result = run(running, text=text, split="headings", each={"kind": "sections", "split": "lines"})
    assert (result.state, result.parts_failed) == ("succeeded", 0)
    assert (result.output or "").count("words") == 12
