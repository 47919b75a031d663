"""The ready workflows with routing, each with its own example and some of its cases, as a user sees them end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ops.cli.cmd_run import read_input
from tasks.config.config import Config
from tasks.contract.result import Result
from tasks.loading.load import load
from tests.harness import DEADLINE, REPOSITORY, Fleet, fleet

NAMES = ("content_engine", "education", "research_assistant", "support_chat")
READY = REPOSITORY / "ops" / "workflows"
#: Of each workflow's cases every so many-th is asked here; the unit tests classify all of them.
EVERY = 6

#: What the simulated model says, by its system prompt: the prompt must be that of the route, filled in.
PROMPTS: Mapping[str, Mapping[str, str]] = {
    # support_chat
    "front desk in the support chat of nordwind": {"": "front_desk of Nordwind"},
    "front desk in the support chat": {"": "front_desk"},
    "billing specialist in the support chat of nordwind": {"": "billing of Nordwind"},
    "billing specialist in the support chat": {"": "billing"},
    "refund specialist in the support chat": {"": "refund"},
    "technical specialist in the support chat": {"": "technical"},
    "account specialist in the support chat": {"": "account"},
    "sales adviser in the support chat": {"": "sales"},
    "handle complaints in the support chat": {"": "complaint"},
    # content_engine; the editor finds the draft in what it is given
    "you are the copy editor": {
        "draft\nnews of the library": "news, edited",
        "draft\nnews": "news",
        "draft\nopinion": "opinion",
        "draft\nanalysis": "analysis",
    },
    "you are the assignment editor": {"": "To the author: desk"},
    "you are a news editor": {"library on mill road": "News of the library", "": "news"},
    "you are a columnist": {"": "opinion"},
    "you are an analyst": {"": "analysis"},
    # education; the grade stands in the prompt
    "mathematics teacher": {"": "math"},
    "science teacher": {"": "science"},
    "teacher of language and literature": {"": "language"},
    "teacher of history": {"": "history"},
    "teacher of computing": {"": "computing"},
    "class teacher of an elementary school": {"": "primary"},
    "you are a tutor at a school": {"": "tutor"},
    # research_assistant
    "scientific editor": {"": "summarize"},
    "translate the text into polish": {"": "translate into Polish"},
    "translator of research texts": {"": "translate"},
    "answers questions from": {"": "answer"},
    "neither a\nsummary, nor a translation": {"": "assist"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    simulations = {"writer": {"prompts": PROMPTS, "answers": {"": "a prompt that nothing_known declared"}}}
    with fleet(
        tmp_path_factory.mktemp("workflows"),
        models={"writer": {"capacity": 32}},
        simulations=simulations,
        routes={"only": {"models": ["writer"], "keywords": ["invoice", "translate", "equation", "report"]}},
        workflows={name: str(READY / name) for name in NAMES},
    ) as started:
        started.start_all([("route,join", 8), ("model.writer", 32)])
        yield started


@pytest.fixture(scope="module")
def config(running: Fleet) -> Config:
    return load(running.config_path)


def finished(running: Fleet, job: str) -> tuple[Result, list[Result]]:
    """What became of a workflow's job, and of the jobs that its steps are."""
    result = running.producer.wait(job, timeout=DEADLINE)
    assert result.error is None
    assert result.state == "succeeded"
    return result, [running.producer.result(part.job) for part in result.parts if part.job is not None]


def run(running: Fleet, name: str, **given: Any) -> tuple[Result, list[Result]]:
    return finished(running, running.producer.submit({"kind": name, **given}).id)


def routed(result: Result) -> tuple[str, str]:
    """The route of a step's job, and who chose it."""
    assert result.routing is not None
    return result.routing.route, result.routing.classifier


def version(prompt: str) -> str:
    """What the result says of a part that was asked with this prompt."""
    name, _, file = prompt.partition("/")
    return hashlib.sha256(Path(READY, name, "prompts", file).read_bytes()).hexdigest()[:12]


def asked_with(result: Result) -> list[str | None]:
    return [part.prompt_version for part in result.parts]


def test_customer_question_goes_to_billing_with_the_conversation(running, config):
    result, (answer,) = run(running, "support_chat", **read_input(config.flows["support_chat"], []))
    assert result.output == "billing"
    assert result.simulated
    assert [part.title for part in result.parts] == ["answer"]
    assert routed(answer)[0] == "support_chat.billing"
    assert routed(answer)[1] in {"rules", "examples"}
    assert asked_with(answer) == [version("support_chat/billing.md")]


def test_conversation_is_routed_by_the_customers_last_message(running):
    message = ("I forgot my password.", "There is a link below the form.", "Thanks. And where is the invoice for May?")
    messages = [
        {"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), message, strict=True)
    ]
    result, (answer,) = run(running, "support_chat", messages=messages)
    assert (result.output, routed(answer)) == ("billing", ("support_chat.billing", "rules"))


def test_greeting_goes_to_the_front_desk_with_the_metadata(running):
    result, (answer,) = run(running, "support_chat", text="asdf", metadata={"company": "Nordwind"})
    assert (result.output, routed(answer)[0]) == ("front_desk of Nordwind", "support_chat.front_desk")


def test_handed_over_conversation_goes_where_the_metadata_say(running):
    result, (answer,) = run(
        running, "support_chat", text="It crashes.", metadata={"desk": "billing", "company": "Nordwind"}
    )
    assert (result.output, routed(answer)) == ("billing of Nordwind", ("support_chat.billing", "context"))


def test_brief_becomes_news_which_the_editor_gets_together_with_the_brief(running, config):
    result, (draft, edited) = run(running, "content_engine", **read_input(config.flows["content_engine"], []))
    assert (draft.output, routed(draft)[0]) == ("News of the library", "content_engine.news")
    assert (edited.output, routed(edited)) == ("news, edited", ("content_engine", "explicit"))
    assert result.output == "news, edited"
    assert asked_with(draft) + asked_with(edited) == [
        version("content_engine/news.md"),
        version("content_engine/edit.md"),
    ]


def test_brief_that_argues_becomes_an_opinion_piece(running):
    result, (draft, _) = run(running, "content_engine", text="Argue that our zoo should close. A column, please.")
    assert (result.output, routed(draft)[0]) == ("opinion", "content_engine.opinion")


def test_brief_that_says_nothing_is_asked_back_and_not_edited(running):
    result, (draft,) = run(running, "content_engine", text="hm")
    assert result.output == "To the author: desk"
    assert routed(draft)[0] == "content_engine.desk"
    assert [part.state for part in result.parts] == ["succeeded", "skipped"]


def test_author_who_edits_gets_the_draft(running):
    result, (draft,) = run(running, "content_engine", text="An explainer of rents.", metadata={"edit": False})
    assert (result.output, routed(draft)[0]) == ("analysis", "content_engine.analysis")
    assert [part.state for part in result.parts] == ["succeeded", "skipped"]


@pytest.mark.parametrize(
    ("metadata", "route", "classifier"),
    [
        ({}, "math", "rules"),
        ({"grade": 4}, "primary", "context"),
        ({"grade": 4, "subject": "math"}, "primary", "context"),
        ({"grade": 10, "subject": "physics"}, "science", "context"),
        ({"grade": 10}, "math", "rules"),
    ],
    ids=str,
)
def test_pupil_s_question_goes_by_grade_and_subject_else_by_its_text(running, config, metadata, route, classifier):
    given = read_input(config.flows["education"], [])
    result, (lesson,) = run(running, "education", **given, metadata=metadata)
    assert (result.output, routed(lesson)) == (route, (f"education.{route}", classifier))
    assert asked_with(lesson) == [version(f"education/{route}.md")]


def test_text_with_a_request_is_summarized_translated_or_asked(running, config):
    example = read_input(config.flows["research_assistant"], [])
    text = example["text"].partition("\n\n")[2]
    asked = {
        "summarize": example["text"],
        "translate": f"Übersetze das bitte ins Englische:\n\n{text}",
        "answer": f"Sur combien de prairies a-t-on compté les insectes ?\n\n{text}",
    }
    for route, request in asked.items():
        result, (step,) = run(running, "research_assistant", text=request)
        assert (result.output, routed(step)[0]) == (route, f"research_assistant.{route}")


def test_text_without_a_request_is_done_as_the_metadata_say(running):
    metadata = {"task": "translate", "target": "Polish"}
    result, (step,) = run(running, "research_assistant", text="Bees were counted.", metadata=metadata)
    assert (result.output, routed(step)) == ("translate into Polish", ("research_assistant.translate", "context"))


@pytest.mark.parametrize("name", NAMES)
def test_cases_end_at_their_route_with_the_prompt_of_that_route(running, config, name):
    lines = (READY / name / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines][::EVERY]
    jobs = running.producer.submit_many([{"kind": name, **case["input"]} for case in cases])
    missed = []
    for case, job in zip(cases, jobs, strict=True):
        _, (first, *_) = finished(running, job.id)
        route, classifier = routed(first)
        # then whatever the route, it was asked with its prompt
        own = config.flows[name].routes[route].prompt
        assert asked_with(first) == [version(own.removeprefix("file:"))]
        assert first.output.removeprefix("To the author: ").partition(" ")[0] == route.partition(".")[2]
        if route != f"{name}.{case['expect']['route']}":
            missed.append((case["id"], route, classifier))
    assert len(missed) <= 0.15 * len(cases), missed


def test_workflow_s_routes_are_not_those_of_other_jobs(running):
    job = running.producer.submit({"text": "Please translate this invoice."})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert routed(result)[0] == "only"
