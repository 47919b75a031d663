"""The ready workflows of sections and votes, each with its own example, as a user sees them end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from ops.cli.cmd_run import read_input
from tasks.contract.result import Result
from tasks.loading.load import load
from tests.harness import DEADLINE, REPOSITORY, Fleet, fleet

NAMES = ("code_review", "content_writing", "legal_review", "moderation", "research_synthesis")
READY = REPOSITORY / "ops" / "workflows"


def risks(*found: tuple[str, int]) -> str:
    keys = ("clause", "risk", "why", "suggestion")
    return json.dumps({"risks": [dict.fromkeys(keys, name) | {"severity": severity} for name, severity in found]})


def opinion(verdict: str) -> str:
    return json.dumps({"reason": "as simulated", "verdict": verdict})


def findings(*problems: str) -> str:
    keys = ("where", "evidence", "fix")
    return json.dumps(
        {"findings": [dict.fromkeys(keys, "x") | {"problem": one, "severity": "major"} for one in problems]}
    )


OUTLINE = json.dumps(
    {
        "title": "Tomatoes without a garden",
        "sections": [
            {"title": "Begin with radishes", "brief": "Four weeks, little soil.", "words": 150},
            {"title": "Sun and water", "brief": "Five hours, in the morning.", "words": 150},
            {"title": "Borrow the tools", "brief": "Boxes from 15 March.", "words": 150},
        ],
    }
)

#: What the simulated model says, by its system prompt and then by its input.
PROMPTS: Mapping[str, Any] = {
    # legal_review; the prompt of a clause says which one it is
    'part 3 of 9: "2. fees"': {"": risks(("fees at will", 3), ("interest", 2))},
    'part 4 of 9: "3. customer data"': {"": risks(("data given away", 5))},
    'part 7 of 9: "6. liability"': {"": risks(("no liability", 4))},
    'part 2 of 2: "2. garbled"': {"": "The model has forgotten what JSON is."},
    "you read one clause of a contract": {"": risks()},
    "colleagues have read a contract": {
        '"title": "2. Garbled"': "Verdict: negotiate\n\n## Not read\n2. Garbled",
        "data given away": "Verdict: do not sign\n\n| 1 | 3. Customer data |",
    },
    # research_synthesis
    "one paper for a synthesis of 3": {
        "actigraphy": "**Findings.** 44 minutes longer in the trial.",
        "8:45": "**Findings.** 31 minutes, as pupils said.",
        "telephone in bed": "**Findings.** 37 minutes less with a telephone.",
    },
    "synthesis of a small literature review": {
        "44 minutes longer": "## Answer\nSleep can be lengthened by 44 minutes [1], perhaps by 31 [2]. See also [7]."
    },
    # content_writing
    "plan it; each section is then written": {"": OUTLINE},
    "you write section 1 of 3": {"": "Radishes are quick."},
    "you write section 2 of 3": {"": "Tomatoes want light."},
    "you write section 3 of 3": {"": "The library has boxes."},
    "you are the copy editor": {
        "# Tomatoes without a garden\n\n## Begin with radishes\n\nRadishes are quick.\n\n## Sun and water": (
            "# Tomatoes without a garden\n\nA text of one piece."
        )
    },
    # moderation: four of five flag the example, one flags whatever it reads
    "go through its rules one by one": {"marko": opinion("flag"), "": opinion("allow")},
    "who is the target of this post": {"marko": opinion("flag"), "": opinion("allow")},
    "irony, quotation and jargon": {"": opinion("allow")},
    "you assess risks for a platform": {"": opinion("flag")},
    "moderator at the end of the queue": {"marko": opinion("flag"), "": opinion("allow")},
    # code_review
    "reviews code by reading it": {"": findings("SQL from a customer's name", "mean of no orders")},
    "by trying to break it": {"": findings("mean of no orders", "seen grows")},
    "as an attacker reads it": {"": findings("SQL from a customer's name")},
    "what wakes people at night": {"": findings("a failed refund counts as done")},
    "you chair a code review": {
        "a failed refund counts as done": (
            "Verdict: request changes\n\n1. **SQL from a customer's name** (critical) [1][3]\n"
            "2. **Mean of no orders** (major) [1][2]\n3. **A failed refund counts as done** (major) [4]"
        )
    },
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workflows")
    simulations = {"writer": {"prompts": PROMPTS, "answers": {"": "a prompt that nothing_known declared"}}}
    workflows = dict.fromkeys(NAMES, "ready")
    with fleet(folder, models={"writer": {"capacity": 32}}, simulations=simulations, workflows=workflows) as started:
        started.start_all([("route,join", 8), ("model.writer", 32)])
        yield started


def run(running: Fleet, name: str, **given: Any) -> tuple[Result, list[Result]]:
    """What became of a workflow's job, and of the jobs that its steps are."""
    job = running.producer.submit({"kind": name, **given})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.error is None
    assert result.state == "succeeded"
    return result, [running.producer.result(part.job) for part in result.parts if part.job is not None]


def example(running: Fleet, name: str) -> dict[str, Any]:
    """What `pointsman run` gives a workflow where no file is named."""
    return read_input(load(running.config_path).flows[name], [])


def version(prompt: str) -> str:
    """What the result says of a part that was asked with this prompt."""
    return hashlib.sha256((READY / prompt).read_bytes()).hexdigest()[:12]


def test_contract_is_read_by_clause_and_its_risks_are_ranked(running):
    result, (read, report) = run(running, "legal_review", **example(running, "legal_review"))
    # then every clause was read with what it is
    assert [part.title for part in result.parts] == ["risks", "report"]
    assert [part.title for part in read.parts] == [
        "Preamble", "1. Subject", "2. Fees", "3. Customer data", "4. Availability", "5. Confidentiality",
        "6. Liability", "7. Term and termination", "8. Notices",
    ]  # fmt: skip
    assert {part.prompt_version for part in read.parts} == {version("legal_review/prompts/clause.md")}
    # and the risks of all clauses are one list, the gravest first
    merged = json.loads(read.output)["risks"]
    assert [risk["severity"] for risk in merged] == [5, 4, 3, 2]
    # and the report is written from that list
    assert [part.prompt_version for part in report.parts] == [version("legal_review/prompts/report.md")]
    assert result.output == "Verdict: do not sign\n\n| 1 | 3. Customer data |"
    assert {read.routing.route, report.routing.route} == {"legal_review"}
    assert result.simulated


def test_contract_without_risks_needs_no_report(running):
    result, children = run(running, "legal_review", text="1. Notices\n\nIn writing.\n\n2. Copies\n\nTwo are signed.\n")
    assert result.output == "Verdict: sign\n\nNo clause holds a risk that is worth a negotiation."
    assert [part.state for part in result.parts] == ["succeeded", "skipped"]
    assert [json.loads(child.output) for child in children[:1]] == [{"risks": []}]
    assert result.details["steps"] == [
        {"name": "risks", "state": "succeeded"},
        {"name": "report", "state": "skipped"},
    ]


def test_unreadable_clause_is_named_and_not_counted_as_free_of_risk(running):
    result, (read, _) = run(running, "legal_review", text="1. Notices\n\nIn writing.\n\n2. Garbled\n\nWhat?\n")
    assert [part.state for part in read.parts] == ["succeeded", "failed"]
    assert [(gap["section"], gap["title"]) for gap in json.loads(read.output)["unread"]] == [(2, "2. Garbled")]
    assert result.output == "Verdict: negotiate\n\n## Not read\n2. Garbled"


def test_papers_are_summarized_each_and_the_synthesis_cites_them(running):
    given = example(running, "research_synthesis")
    result, (synthesis,) = run(running, "research_synthesis", **given)
    # then
    *summaries, asked = synthesis.parts
    assert [part.title for part in summaries] == [paper["title"] for paper in given["items"]]
    assert {part.prompt_version for part in summaries} == {version("research_synthesis/prompts/summary.md")}
    assert [part.output.partition(".** ")[2][:2] for part in summaries] == ["44", "31", "37"]
    assert (asked.role, asked.prompt_version) == ("join", version("research_synthesis/prompts/synthesis.md"))
    assert result.output == synthesis.output == asked.output
    assert (synthesis.details["cited"], synthesis.details["uncited"]) == ([0, 1], [2])
    assert synthesis.details["unknown"] == [7]


def test_article_is_planned_written_in_parallel_and_smoothed(running):
    result, (outline, sections, article) = run(running, "content_writing", **example(running, "content_writing"))
    # then
    assert [part.title for part in result.parts] == ["outline", "sections", "article"]
    assert json.loads(outline.output) == json.loads(OUTLINE)
    assert [part.title for part in sections.parts] == ["Begin with radishes", "Sun and water", "Borrow the tools"]
    assert [part.output for part in sections.parts] == [
        "Radishes are quick.", "Tomatoes want light.", "The library has boxes.",
    ]  # fmt: skip
    assert [line for line in sections.output.splitlines() if line.startswith("## ")] == [
        "## Begin with radishes", "## Sun and water", "## Borrow the tools",
    ]  # fmt: skip
    # and the last step was given the title and all sections in order: only to that does the model say this
    assert result.output == article.output == "# Tomatoes without a garden\n\nA text of one piece."


def test_post_is_flagged_when_two_moderators_flag_it(running):
    result, (vote,) = run(running, "moderation", **example(running, "moderation"))
    # then
    assert result.output == "flagged"
    assert (vote.details["k"], vote.details["n"]) == (2, 5)
    asked = [part.prompt_version for part in vote.parts if part.state == "succeeded"]
    assert len(asked) >= 3
    assert len(set(asked)) == len(asked)
    prompts = {version(f"moderation/prompts/{path.name}") for path in (READY / "moderation" / "prompts").iterdir()}
    assert set(asked) <= prompts


def test_post_that_one_moderator_flags_is_clear_with_dissent(running):
    result, (vote,) = run(running, "moderation", text="This pizza was the worst of my life.", labels={"team": "food"})
    assert result.output == "clear"
    assert vote.details["ballot"] == "clear"
    assert all(one["votes"] == 1 for one in vote.details["dissent"])
    assert vote.labels == {"team": "food"}


def test_code_review_ranks_findings_by_how_many_methods_found_them(running):
    result, (review,) = run(
        running,
        "code_review",
        **example(running, "code_review"),
        metadata={"language": "Python", "purpose": "orders of a shop"},
    )
    # then
    *reviewers, united = review.parts
    order = ("read", "test", "attack", "failure")
    assert [part.prompt_version for part in reviewers] == [version(f"code_review/prompts/{name}.md") for name in order]
    assert [len(json.loads(part.output)["findings"]) for part in reviewers] == [2, 2, 1, 1]
    assert (united.role, united.prompt_version) == ("join", version("code_review/prompts/unite.md"))
    assert result.output.startswith("Verdict: request changes\n\n1. **SQL from a customer's name** (critical) [1][3]")
    assert (review.details["cited"], review.details["unknown"]) == ([0, 1, 2, 3], [])


def test_workflows_run_side_by_side_with_their_own_prompts(running):
    jobs = running.producer.submit_many([{"kind": name, **example(running, name)} for name in NAMES])
    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
    assert [result.state for result in results] == ["succeeded"] * 5
    assert [result.kind for result in results] == list(NAMES)
    assert [result.output.split()[0] for result in results] == ["Verdict:", "#", "Verdict:", "flagged", "##"]
