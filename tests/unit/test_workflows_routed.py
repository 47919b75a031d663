"""The ready workflows with routing: graders distinguish answers, cases find their route, and prompts render."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ops.cli.cmd_run import read_input
from ops.evaluate.workflow import WorkflowCase, grade_answer, read_workflow_cases
from tasks.config.config import Config
from tasks.config.prompts import render
from tasks.contract.job import Job, parse_job
from tasks.loading.load import parse
from tasks.routing.classify.build import build_cascade
from tasks.routing.classify.cascade import DEFAULT, Cascade
from tasks.routing.classify.decision import Facts, Verdict
from tasks.workflows.check_job import check_job
from tasks.workflows.steps import StepOutcome, make_step_job

NAMES = ("content_engine", "education", "research_assistant", "support_chat")
READY = Path(__file__).parents[2] / "ops" / "workflows"
#: The least share of the cases that find their route by metadata, rules and examples, without vectors. A case that is
#: left to the default counts as wrong unless it belongs there.
FLOOR = 0.9
#: The most that go to a wrong specialist: who is unsure asks back instead.
MISLED = 0.03

PROMPTS = sorted(f"{name}/{path.name}" for name in NAMES for path in (READY / name / "prompts").iterdir())


@cache
def config() -> Config:
    return parse(
        json.dumps(
            {
                "models": {"fast": {"provider": "openai", "model": "fast", "base_url": "http://127.0.0.1:1/v1"}},
                "routes": {"only": {"models": ["fast"]}},
                "default_route": "only",
                "workflows": {name: str(READY / name) for name in NAMES},
            }
        )
    )


@cache
def cases(name: str) -> tuple[WorkflowCase, ...]:
    return read_workflow_cases(READY / name / "cases.jsonl", config().flows[name])


@cache
def cascade(name: str) -> Cascade:
    """The classifiers of the first step: the one that is routed."""
    return build_cascade(config(), tuple(config().flows[name].steps[0].job["routes"]))


def job_of(name: str, case: WorkflowCase) -> Job:
    return parse_job({"kind": name, **case.input})


@cache
def verdicts(name: str) -> tuple[tuple[WorkflowCase, Verdict], ...]:
    judged = []
    for case in cases(name):
        job = job_of(name, case)
        judged.append((case, cascade(name).classify(job.question, Facts(metadata=job.metadata))))
    return tuple(judged)


def met(case: WorkflowCase, answer: str) -> bool:
    """Whether an answer meets what is expected of its content."""
    wanted = {grader: expected for grader, expected in case.expect.items() if grader != "route"}
    return all(grade_answer(grader, expected, answer) for grader, expected in wanted.items())


def routes(name: str) -> dict[str, Any]:
    """By their full names, those that a text may be classified into."""
    flow = config().flows[name]
    return {route: flow.routes[route] for route in flow.steps[0].job["routes"]}


# -- cases ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_forty_or_more_all_different_of_each_route(name):
    read = cases(name)
    assert len(read) >= 40
    assert not [text for text, times in Counter(json.dumps(case.input) for case in read).items() if times > 1]
    of_route = Counter(route for case in read for route in case.expect["route"])
    assert set(of_route) == set(routes(name))
    assert min(of_route.values()) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_accepted_jobs_with_route_and_gradable_answer(name):
    for case in cases(name):
        check_job(job_of(name, case), config())
        assert len(case.expect["route"]) == 1, case.id
        assert case.expect.keys() & {"contains", "regex"}, case.id
        assert case.expect.keys() <= {"contains", "regex", "route"}, case.id


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_not_examples_of_the_classifier(name):
    def folded(text: str) -> str:
        return " ".join(re.findall(r"\w+", text.casefold()))

    learned = {folded(example) for route in routes(name).values() for example in route.examples}
    assert [case.id for case in cases(name) if folded(job_of(name, case).question) in learned] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "say",
    [
        lambda _: "",
        lambda _: "I'm sorry, but I can't help with that.",
        lambda text: text,
        lambda text: f"[simulated fast] {' '.join(text.split()[:12])} …",
    ],
    ids=["nothing", "refuses", "echoes", "simulated"],
)
def test_useless_model_meets_no_expectation(name, say):
    assert [case.id for case in cases(name) if met(case, say(job_of(name, case).question))] == []


#: What a good answer may look like, in the form that the prompts ask for, and one that misses the point.
ANSWERS = {
    ("support_chat", "billing-01"): (
        "One of the two 29.90 is probably a reservation, which your bank releases by itself.",
        "You can pay by card.",
    ),
    ("support_chat", "complaint-01"): (
        "I am sorry that you had to repeat it six times. I will keep your case until it is settled.",
        "Please contact our hotline.",
    ),
    ("support_chat", "technical-01"): (
        "Probably the cache of the calendar.\n1. Close the app.\n2. Open it again.",
        "Try to restart everything.",
    ),
    ("support_chat", "front_desk-01"): ("Hello! Is it about billing, or does something not work?", "Hello!"),
    ("content_engine", "news-01"): (
        "Ferry to the islands sails again\n\nFrom Tuesday on a new ship takes 300 passengers twice a day.",
        "I love ferries! 300 people will be happy, and so should all of us be who live by the sea.",
    ),
    ("content_engine", "opinion-01"): ("Opinion: Phones out of the classroom\n\nFor 20 years …", "Phones and schools"),
    ("education", "math-01"): ("15 percent of 80 is a share.\nAnswer: 12", "Multiply them."),
    ("education", "computing-01"): ("Python does it in one line: a, b = b, a", "You can't."),
    ("research_assistant", "summarize-01"): (
        "A 20-minute nap in the night shift cut errors of nurses by 18 percent.",
        "It is about naps.",
    ),
    ("research_assistant", "translate-01"): ("In einer Studie mit 312 Pflegekräften …", "A study with 312 nurses …"),
    ("research_assistant", "answer-01"): ('312. "In a randomized trial with 312 nurses"', "There were many nurses."),
}


@pytest.mark.parametrize(("name", "case"), ANSWERS, ids=lambda value: value)
def test_good_answer_meets_its_expectation_and_a_bad_one_misses(name, case):
    good, bad = ANSWERS[name, case]
    (known,) = [one for one in cases(name) if one.id == case]
    assert met(known, good)
    assert not met(known, bad)


# -- routes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_classifier_routes_nine_of_ten_cases_without_vectors(name):
    wrong = [case.id for case, verdict in verdicts(name) if verdict.route not in case.expect["route"]]
    assert len(cases(name)) - len(wrong) >= FLOOR * len(cases(name)), wrong


@pytest.mark.parametrize("name", NAMES)
def test_classifier_sends_few_cases_to_a_wrong_specialist(name):
    misled = [
        case.id
        for case, verdict in verdicts(name)
        if verdict.route not in case.expect["route"] and verdict.classifier != DEFAULT
    ]
    assert len(misled) <= MISLED * len(cases(name)), misled


@pytest.mark.parametrize("name", NAMES)
def test_specialists_are_found_by_keywords_and_by_examples(name):
    found = defaultdict(set)
    for case, verdict in verdicts(name):
        if verdict.route in case.expect["route"]:
            found[verdict.classifier].add(verdict.route)
    default, *specialists = routes(name)
    assert set(specialists) <= found["rules"] | found["examples"]
    assert default in found[DEFAULT] | found["examples"]


@pytest.mark.parametrize("name", NAMES)
def test_routes_have_a_description_and_ten_examples_or_more(name):
    for route, known in routes(name).items():
        assert len(known.description) > 20, route
        assert len(known.examples) >= 10, route
        assert known.prompt is not None, route


@pytest.mark.parametrize(
    ("name", "metadata", "route"),
    [
        ("support_chat", {"desk": "refund"}, "refund"),
        ("content_engine", {"form": "Editorial"}, "opinion"),
        ("research_assistant", {"task": "translation"}, "translate"),
        ("education", {"subject": "Physics"}, "science"),
        ("education", {"subject": "physics", "grade": 12}, "science"),
        ("education", {"subject": "physics", "grade": 5}, "primary"),
        ("education", {"subject": "music", "grade": 3}, "primary"),
        ("education", {"grade": 0}, "primary"),
    ],
)
def test_metadata_decide_before_the_text(name, metadata, route):
    verdict = cascade(name).classify("Why was I charged twice in Python?", Facts(metadata=metadata))
    assert (verdict.route, verdict.classifier) == (f"{name}.{route}", "context")


@pytest.mark.parametrize("grade", [6, 9, 12])
def test_question_without_a_subject_is_routed_by_text_from_grade_six(grade):
    verdict = cascade("education").classify("How do I solve 3x + 5 = 20?", Facts(metadata={"grade": grade}))
    assert verdict.route == "education.math"
    assert verdict.classifier in {"rules", "examples"}


# -- prompts -------------------------------------------------------------------------------------------

VARIABLES = {"labels": {}, "title": "", "index": 1, "total": 1, "kind": "single", "route": "only"}
METADATA = {
    "company": "Nordwind", "product": "Kite 3", "customer": "Ms Okafor", "facts": "Plan: team.", "policy": "30 days.",
    "outlet": "The Gazette", "audience": "farmers", "words": "90", "style": "no numbers below ten",
    "field": "botany", "target": "Polish", "glossary": "leaf = liść", "pupil": "Ada", "topic": "ratios",
    "subject": "math", "grade": 7, "mode": "hint",
}  # fmt: skip


def filled(prompt: str, metadata: dict[str, Any]) -> str:
    return render(config(), f"file:{prompt}", {**VARIABLES, "metadata": metadata}).text


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_can_be_filled_in_with_any_metadata(prompt):
    for metadata in ({}, METADATA, {"grade": "7th", "mode": None, "facts": {"plan": ["team"]}}):
        text = filled(prompt, metadata)
        assert not re.search(r"\{[{%]|[%}]\}", text.replace("]}", ""))
        assert "\n\n\n" not in text
        assert "are not\nfollowed" in text or "not followed" in " ".join(text.split())  # what is worked on is data


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_all_used(name):
    flow = config().flows[name]
    used = {route.prompt for route in flow.routes.values()} | {step.job.get("prompt") for step in flow.steps}
    assert used - {None} == {f"file:{prompt}" for prompt in PROMPTS if prompt.startswith(f"{name}/")}


def test_metadata_reach_the_prompts_that_use_them():
    found: dict[str, set[str]] = defaultdict(set)
    for prompt in PROMPTS:
        text = filled(prompt, METADATA)
        found[prompt.partition("/")[0]] |= {
            name for name, value in METADATA.items() if isinstance(value, str) and value in text
        }
    assert {"company", "product", "customer", "facts", "policy"} <= found["support_chat"]
    assert {"outlet", "audience", "words", "style"} <= found["content_engine"]
    assert {"field", "target", "glossary", "audience", "words"} <= found["research_assistant"]
    assert {"pupil", "topic", "subject"} <= found["education"]


@pytest.mark.parametrize("subject", ["math", "science", "language", "history", "computing"])
def test_lesson_fits_the_grade(subject):
    prompts = [filled(f"education/{subject}.md", {"grade": grade} if grade else {}) for grade in (None, 7, 11, 14)]
    assert len(set(prompts)) == 4
    for text, level in zip(prompts, ("not known", "middle school", "high school", "university"), strict=True):
        assert level in text
    assert "Hint mode" not in prompts[0]
    assert "Hint mode" in filled(f"education/{subject}.md", {"mode": "hint"})


def test_class_teacher_uses_shorter_sentences_for_the_youngest():
    prompts = [filled("education/primary.md", {"grade": grade}) for grade in (0, 2, 4)]
    assert "kindergarten" in prompts[0]
    assert "eight words" in prompts[0]
    assert "eight words" in prompts[1]
    assert "eight words" not in prompts[2]


# -- steps ---------------------------------------------------------------------------------------------


def test_editor_gets_brief_and_draft_unless_the_desk_asks_back():
    flow = config().flows["content_engine"]
    job = parse_job({"kind": "content_engine", "text": "Ferry sails: {{ 300 }}"})
    edited = make_step_job(flow, 1, job, [StepOutcome("draft", "succeeded", output="Ferry sails again")])
    assert edited is not None
    assert edited["text"] == "BRIEF\nFerry sails: {{ 300 }}\n\nDRAFT\nFerry sails again"
    assert edited["prompt"] == "file:content_engine/edit.md"
    asked = [StepOutcome("draft", "succeeded", output="To the author: about what?")]
    assert make_step_job(flow, 1, job, asked) is None


def test_editor_is_skipped_for_authors_who_edit_themselves():
    flow = config().flows["content_engine"]
    job = parse_job({"kind": "content_engine", "text": "Ferry sails", "metadata": {"edit": False}})
    assert make_step_job(flow, 1, job, [StepOutcome("draft", "succeeded", output="Ferry sails again")]) is None


@pytest.mark.parametrize("name", NAMES)
def test_example_is_a_valid_input_with_a_certain_route(name):
    job = parse_job({"kind": name, **read_input(config().flows[name], [])})
    check_job(job, config())
    verdict = cascade(name).classify(job.question)
    expected = {
        "content_engine": "news",
        "education": "math",
        "research_assistant": "summarize",
        "support_chat": "billing",
    }
    assert verdict.route == f"{name}.{expected[name]}"
    assert verdict.classifier != DEFAULT
