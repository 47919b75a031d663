"""The field's textbook cases over three models named gpt-4, gemini and claude, with real workers and simulated models.

What is asserted is what a user reads of a job: the decision with its reason, and the model that answered.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.harness import DEADLINE, fleet, wait_for
from tests.served import Server

NAMES = ("gpt-4", "gemini", "claude")
#: speed, accuracy, creativity and ethics of each, as the textbook has them.
PROFILES = {
    "gpt-4": {"speed": 50, "accuracy": 90, "creativity": 95, "ethics": 85},
    "gemini": {"speed": 40, "accuracy": 95, "creativity": 85, "ethics": 80},
    "claude": {"speed": 60, "accuracy": 85, "creativity": 80, "ethics": 95},
}
BEST = {"accuracy": "gemini", "creativity": "gpt-4", "ethics": "claude", "speed": "claude"}
QUICK = 0.02
#: Seconds until what is known of a specialist is old, and a generous while on top: two cores serve many processes.
UNTIL_FORGOTTEN = 30.0 + 30.0


def route(strategy: str, **options: Any) -> dict[str, Any]:
    return {"models": list(NAMES), "strategy": strategy, "options": options}


ROUTES = {
    "turns": route("round_robin"),
    "shares": route("weighted_round_robin", weights={"gpt-4": 5, "gemini": 1, "claude": 1}),
    "pinned": route("consistent_hash", factor=None),
    "least": route("least_connections"),
    "profile": route("profile"),
    **{f"by-{metric}": route("profile", priority=metric) for metric in BEST},
    "contexts": route(
        "contextual",
        specialists=[
            {"when": {"context": "complex_ethical_discussions"}, "models": ["claude"]},
            {"when": {"context": "overview_and_summaries"}, "models": ["gemini"]},
            {"when": {"context": "creative_storytelling"}, "models": ["gpt-4"]},
        ],
        default=["gpt-4"],
    ),
}


#: The case study: what is asked is found out by keywords and examples; who answers, by what each is best at.
STUDY = {
    "technical_support": {
        **route("profile", priority="accuracy", slow_s=0.5),
        "description": "trouble with devices and software",
        "keywords": ["error", "crash", "install"],
        "examples": [
            "The screen is black after I start it.",
            "My printer does not connect to the network.",
            "How do I update the driver?",
            "The app freezes when I log in.",
            "I can't reset my password.",
        ],
    },
    "creative_writing": {
        **route("profile", priority="creativity"),
        "description": "stories, poems, slogans",
        "keywords": ["poem", "story"],
        "examples": [
            "Write some verses about the sea.",
            "Invent a tale of a dragon who is afraid of fire.",
            "Make up a slogan for a bakery.",
            "Write a song about the autumn rain.",
            "Describe a city on the moon in beautiful words.",
        ],
    },
    "general_information": {
        **route("profile", priority="speed"),
        "description": "everything else",
        "examples": [
            "What is the capital of Australia?",
            "When was the telephone invented?",
            "How many people live in Canada?",
            "Who was the first person on Mount Everest?",
            "How far away is the sun?",
        ],
    },
}


def ask(running, request):
    """A job from submit to its result; every one succeeds."""
    return finished(running, running.producer.submit(request))


def ask_all(running, requests):
    return [finished(running, job) for job in running.producer.submit_many(requests)]


def finished(running, job):
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded", result.error
    return result


def model_of(result):
    (part,) = result.parts
    return part.model


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("gpt-4"), "gpt-4", latency=QUICK) as server:
        yield server


@pytest.fixture(scope="module")
def gemini(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("gemini"), "gemini", latency=QUICK) as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory, gpt, gemini):
    # One attempt with a model, then the next; breakers that stay closed, so that it is the strategy that passes over.
    models = {
        name: {"capacity": 4, "profile": PROFILES[name], "attempts": 1, "breaker": {"attempts": 1000}} for name in NAMES
    }
    models["gpt-4"]["base_url"], models["gemini"]["base_url"] = gpt.url, gemini.url
    config = {"routes": {**ROUTES, **STUDY}, "default_route": "general_information"}
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, models=models, simulations={"claude": {"latency": QUICK}}, **config) as running:
        running.start_all([("route,join", 8), (",".join(f"model.{name}" for name in NAMES), 12)])
        yield running


def test_round_robin_over_three_tasks_gives_each_model_one(running):
    results = ask_all(running, [{"text": f"task {number}", "route": "turns"} for number in range(3)])
    assert sorted(map(model_of, results)) == sorted(NAMES)
    assert {result.routing.strategy for result in results} == {"round_robin"}
    results = ask_all(running, [{"text": f"task {number}", "route": "turns"} for number in range(30)])
    assert Counter(map(model_of, results)) == dict.fromkeys(NAMES, 10)


def test_weighted_round_robin_gives_exactly_its_shares_over_a_cycle(running):
    results = ask_all(running, [{"text": f"task {number}", "route": "shares"} for number in range(21)])
    assert Counter(map(model_of, results)) == {"gpt-4": 15, "gemini": 3, "claude": 3}


@pytest.mark.parametrize(("metric", "model"), BEST.items())
def test_priority_metric_of_a_job_or_its_route_chooses_by_profile(running, metric, model):
    by_job = ask(running, {"text": "hello", "route": "profile", "priority_metric": metric})
    by_route = ask(running, {"text": "hello", "route": f"by-{metric}"})
    assert model_of(by_job) == model_of(by_route) == model
    assert f"the best in {metric}: {model} with {PROFILES[model][metric]} of 100" in by_job.routing.reason
    assert by_job.routing.model == model


def test_hashing_keeps_a_text_on_one_model_and_spreads_many_texts(running):
    texts = [f"question number {number}" for number in range(30)]
    rounds = [[model_of(result) for result in ask_all(running, [{"text": text, "route": "pinned"} for text in texts])]
              for _ in range(3)]  # fmt: skip
    assert rounds[0] == rounds[1] == rounds[2]
    assert set(rounds[0]) == set(NAMES)


def test_hashing_keeps_jobs_of_one_key_on_one_model(running):
    jobs = [{"text": f"question {number}", "key": "tenant 7", "route": "pinned"} for number in range(10)]
    assert len(set(map(model_of, ask_all(running, jobs)))) == 1


@pytest.mark.parametrize(
    ("context", "model", "message"),
    [
        ("complex_ethical_discussions", "claude", "context 1 (context): claude"),
        ("overview_and_summaries", "gemini", "context 2 (context): gemini"),
        ("creative_storytelling", "gpt-4", "context 3 (context): gpt-4"),
        ("cooking_recipes", "gpt-4", "no context holds: the default: gpt-4"),
    ],
)
def test_contextual_routing_uses_the_specialist_or_the_default(running, context, model, message):
    result = ask(running, {"text": "Go on.", "metadata": {"context": context}, "route": "contexts"})
    assert model_of(result) == model
    assert message in result.routing.reason


# -- the case study ------------------------------------------------------------------------------------

TECHNICAL = {"text": "It shows an error and does not install."}
CREATIVE = {"text": "A poem about the rain, please."}
GENERAL = {"text": "What is the capital of Canada?"}


def test_specialist_gets_its_requests_unless_it_is_slow_or_failing(running, gpt, gemini):
    _classified(running)
    gpt.stop()
    gemini.serve(latency=1.5)
    try:
        _passed_over(running)
    finally:
        gpt.serve(latency=QUICK)
        gemini.serve(latency=QUICK)
    _come_back(running)


def _classified(running):
    """What is asked decides who answers: by its words, or by what the examples have taught."""
    for request, routed, model in (
        (TECHNICAL, "technical_support", "gemini"),
        ({"text": "The screen stays black when I start the app."}, "technical_support", "gemini"),
        (CREATIVE, "creative_writing", "gpt-4"),
        ({"text": "Invent a tale of a dragon and write some verses."}, "creative_writing", "gpt-4"),
        (GENERAL, "general_information", "claude"),
    ):
        result = ask(running, request)
        assert (result.routing.route, model_of(result)) == (routed, model)
        assert result.routing.classifier in {"rules", "examples"}


def _passed_over(running):
    """One that refuses all calls and one that is slow lose their work; each job is done by another."""
    failed = ask_all(running, [CREATIVE] * 8)
    assert "gpt-4" not in set(map(model_of, failed))
    message = wait_for(lambda: _said(running, CREATIVE, "gpt-4 is passed over: failing"), "passing over what fails")
    assert model_of(message) == "gemini" or "gemini" in message.routing.reason
    # It is not even asked any more.
    assert all(tried.model != "gpt-4" for tried in message.parts[0].tried)
    slow = wait_for(lambda: _said(running, TECHNICAL, "gemini is passed over: slow"), "passing over what is slow")
    assert model_of(slow) == "claude"
    assert model_of(ask(running, GENERAL)) == "claude"


def _said(running, request, words):
    result = ask(running, request)
    return result if words in result.routing.reason else None


def _come_back(running):
    for request, model in ((CREATIVE, "gpt-4"), (TECHNICAL, "gemini")):
        wait_for(lambda request=request, model=model: model_of(ask(running, request)) == model,
                 f"work for {model} again", within=UNTIL_FORGOTTEN)  # fmt: skip
        assert set(map(model_of, ask_all(running, [request] * 6))) == {model}


# -- what is done, and how long it takes, while it goes on ---------------------------------------------
# Last, since what is learned here of gemini holds for a while.


def test_least_connections_avoids_the_model_that_is_busy(running, gemini):
    gemini.serve(latency=60.0)
    held = running.producer.submit_many([{"text": f"long {number}", "model": "gemini"} for number in range(4)])
    try:
        wait_for(lambda: all(_runs(running, job) for job in held), "start of the long calls")
        # One after the other: each finds the others idle, and gemini full.
        results = [ask(running, {"text": f"short {number}", "route": "least"}) for number in range(6)]
        assert set(map(model_of, results)) == {"gpt-4", "claude"}
        loads = {candidate.model: candidate.load for candidate in results[-1].routing.candidates}
        assert loads["gemini"] == 1.0
        assert loads["gpt-4"] < 1.0
    finally:
        for job in held:
            running.producer.cancel(job.id)
        gemini.serve(latency=QUICK)
    wait_for(lambda: model_of(ask(running, {"text": "short", "route": "least"})) == "gemini", "another call of gemini")


def _runs(running, job):
    return running.producer.result(job.id).state == "running"
