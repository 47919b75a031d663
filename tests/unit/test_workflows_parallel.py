"""The ready workflows of sections and votes: graders distinguish good from bad answers, and prompts render."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from ops.evaluate.workflow import WorkflowCase, grade_answer, read_workflow_cases
from tasks.config.config import Config
from tasks.config.prompts import render
from tasks.contract.job import parse_job
from tasks.loading.load import parse
from tasks.parallel.split import split
from tasks.workflows.check_job import check_job
from tasks.workflows.steps import StepOutcome, make_step_job

NAMES = ("code_review", "content_writing", "legal_review", "moderation", "research_synthesis")
READY = Path(__file__).parents[2] / "ops" / "workflows"
#: Graders that need no judge: an evaluation is to run with the models that are there.
RULES = ("contains", "exact", "regex")

PROMPTS = sorted(f"{name}/{path.name}" for name in NAMES for path in (READY / name / "prompts").iterdir())


@cache
def config() -> Config:
    return parse(
        json.dumps(
            {
                "models": {"fast": {"provider": "openai", "model": "fast", "base_url": "http://127.0.0.1:1/v1"}},
                "routes": {"only": {"models": ["fast"]}},
                "default_route": "only",
                "workflows": dict.fromkeys(NAMES, "ready"),
            }
        )
    )


def cases(name: str) -> Sequence[WorkflowCase]:
    """Read as `pointsman eval workflow` reads them: it refuses what can't be graded, and two of one id."""
    return read_workflow_cases(READY / name / "cases.jsonl", config().flows[name])


def met(case: WorkflowCase, answer: str) -> bool:
    """Whether an answer is right."""
    return all(grade_answer(grader, expected, answer) for grader, expected in case.expect.items())


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_twenty_or_more_and_all_different(name):
    inputs = [json.dumps(case.input, sort_keys=True) for case in cases(name)]
    assert len(inputs) >= 20
    assert len(set(inputs)) == len(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_accepted_jobs_that_rules_can_grade(name):
    for case in cases(name):
        check_job(parse_job({"kind": name, **case.input}), config())
        assert case.expect.keys() <= set(RULES), case.id


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "say",
    [
        lambda _: "",
        lambda _: "I'm sorry, but I can't help with that.",
        lambda case: case.input.get("text") or "\n\n".join(item["text"] for item in case.input["items"]),
        lambda case: f"[simulated fast] {json.dumps(case.input)}",
    ],
    ids=["nothing", "refuses", "echoes", "quotes"],
)
def test_useless_model_meets_no_expectation(name, say):
    assert [case.id for case in cases(name) if met(case, say(case))] == []


def test_contracts_are_cut_at_their_clauses():
    example = config().flows["legal_review"].example
    assert example is not None
    for text in (example.read_text(encoding="utf-8"), *(str(case.input["text"]) for case in cases("legal_review"))):
        numbers = re.findall(r"^(\d+\. .+)$", text, re.MULTILINE)
        assert len(numbers) >= 2
        titles = [section.title for section in split(text, "numbered")]
        assert [title for title in titles if title != "Preamble"] == numbers


def test_moderation_has_about_as_many_cases_to_flag_as_to_clear():
    wanted = Counter(case.expect["exact"][0].expected[0] for case in cases("moderation"))
    assert set(wanted) == {"flagged", "clear"}
    assert min(wanted.values()) >= 10


@pytest.mark.parametrize("name", ["legal_review", "code_review"])
def test_review_that_is_always_the_same_fails_some_cases(name):
    for verdict in ("sign", "negotiate", "do not sign", "approve", "request changes"):
        assert not all(met(case, f"Verdict: {verdict}\n") for case in cases(name))


#: Answers in the right form that say nothing of the matter.
LAZY = {
    "legal_review": (
        "Verdict: negotiate\n\n| # | Clause | Risk | Severity | Ask for |\n|---|---|---|---|---|\n"
        "| 1 | 99. Other | Something | 4 | Less of it |"
    ),
    "code_review": "Verdict: request changes\n\n1. **Names are too short** (minor, line 1) [1]\n   Rename them.",
    "content_writing": "# A title\n\n## First\n\nSome words.\n\n## Second\n\nMore words.\n",
    "research_synthesis": (
        "## Answer\nAll papers agree [1][2][3][4].\n\n## Agreement\nThey find much [1][2].\n\n"
        "## Disagreement\nThere is some [1].\n\n## Gaps\nMore research is needed."
    ),
}


@pytest.mark.parametrize("name", LAZY)
def test_empty_answer_in_the_right_form_meets_no_expectation(name):
    assert [case.id for case in cases(name) if met(case, LAZY[name])] == []


#: What a good answer to a case may look like, in the form that the prompts ask for.
GOOD = {
    ("legal_review", "uncapped-indemnity"): (
        "Verdict: do not sign\n\nThe contract makes you pay for everybody's faults.\n\n"
        "| # | Clause | Risk | Severity | Ask for |\n|---|---|---|---|---|\n"
        "| 1 | 2. Indemnity | Contractor pays every loss without limit, of any cause | 5 | A cap of the fee |\n"
    ),
    ("legal_review", "fair-and-mutual"): "Verdict: sign\n\nNo clause holds a risk that is worth a negotiation.",
    ("research_synthesis", "two-agree"): (
        "## Answer\nYes: both trials saw systolic pressure fall, by 5.1 and 4.4 mmHg [1][2].\n\n"
        "## Agreement\nWalking [1] and cycling [2] help.\n\n## Disagreement\nNone found.\n\n## Gaps\nOver a year."
    ),
    ("content_writing", "figures-exact"): (
        "# A year of repairs\n\n## What came in\nOf all devices 1,214 were repaired, 87% of them.\n\n"
        "## What it took\n4.5 days each; 41% were batteries.\n"
    ),
    ("moderation", "idiom-kill"): "clear",
    ("moderation", "vermin"): "flagged",
    ("code_review", "sql-injection"): (
        "Verdict: request changes\n\n1. **The name is put into the query** (critical, line 2) [1][3]\n"
        "   SQL injection: `' OR 1=1 --` returns the first user. Use a parameter.\n"
    ),
    ("code_review", "good-code"): "Verdict: approve\nNo reviewer found a defect.",
}


@pytest.mark.parametrize(("name", "case"), GOOD, ids=lambda value: value)
def test_good_answer_meets_its_expectation(name, case):
    (known,) = [one for one in cases(name) if one.id == case]
    assert met(known, GOOD[name, case])


VARIABLES = {"labels": {}, "title": "4. Price", "index": 2, "total": 3, "kind": "sections", "route": "only"}
METADATA = {
    "party": "Tenant", "law": "Malta", "question": "Does it rain?", "tone": "dry", "language": "Polish",
    "community": "a choir", "rules": "no politics", "purpose": "a till", "conventions": "no globals",
}  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_can_be_filled_in_with_any_metadata(prompt):
    bare = render(config(), f"file:{prompt}", {**VARIABLES, "metadata": {}})
    full = render(config(), f"file:{prompt}", {**VARIABLES, "metadata": METADATA})
    assert bare.version == full.version
    assert not re.search(r"\{[{%]|[%}]\}", (bare.text + full.text).replace("}]}", ""))
    assert "\n\n\n\n" not in bare.text + full.text
    assert "instruction" in bare.text or "follow" in bare.text  # what is worked on is data


def test_metadata_reach_the_prompts_that_use_them():
    found: dict[str, set[str]] = {}
    for prompt in PROMPTS:
        text = render(config(), f"file:{prompt}", {**VARIABLES, "metadata": METADATA}).text
        found.setdefault(prompt.partition("/")[0], set()).update(word for word in METADATA.values() if word in text)
    assert found == {
        "legal_review": {"Tenant", "Malta"},
        "research_synthesis": {"Does it rain?"},
        "content_writing": {"dry", "Polish"},
        "moderation": {"a choir", "no politics"},
        "code_review": {"Polish", "a till", "no globals"},
    }


def test_votes_have_different_prompts():
    for name in ("moderation", "code_review"):
        (step,) = config().flows[name].steps
        prompts = step.job["variety"]["prompts"]
        assert len(set(prompts)) == step.job["n"]
        beginnings = {render(config(), one, {**VARIABLES, "metadata": {}}).text.partition("\n")[0] for one in prompts}
        assert len(beginnings) == step.job["n"]


def test_authors_of_an_article_get_plan_and_assignment():
    # given an outline with all that is awkward in a template
    outline = {
        "title": 'Pots & "pans" {{ 1 }}',
        "sections": [{"title": f"Heading {n} </b>", "brief": "Line\nbreak", "words": 90} for n in (1, 2, 3)],
    }
    job = parse_job({"kind": "content_writing", "text": "Write about\npots: {% x %}"})
    # when
    fields = make_step_job(
        config().flows["content_writing"], 1, job, [StepOutcome("outline", "succeeded", output=json.dumps(outline))]
    )
    # then
    assert fields is not None
    sections = json.loads(fields["text"])["sections"]
    assert [section["title"] for section in sections] == ["Heading 1 </b>", "Heading 2 </b>", "Heading 3 </b>"]
    for section in sections:
        assert section["assignment"] == job.text
        assert section["article"] == outline["title"]
        assert section["outline"] == [one["title"] for one in outline["sections"]]
        assert section["brief"] == "Line\nbreak"


def test_examples_fit_a_small_model_and_have_several_parts():
    for name in NAMES:
        example = config().flows[name].example
        assert example is not None
        assert 200 < len(example.read_text(encoding="utf-8")) < 6_000
